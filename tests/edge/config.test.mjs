// A Worker that is not set up correctly serves nothing, says so in its log, and tells clients no more than that.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { newKey, request, sign, startBucket, startEdge, startOrigin } from "./harness.mjs";

const KEY = "generated/u1/a.png";
let bucket, origin;

before(async () => {
  bucket = await startBucket();
  origin = await startOrigin();
  bucket.put(KEY, Buffer.from("picture"));
});
after(async () => {
  await origin?.close();
  await bucket?.close();
});

const key = newKey();
const link = "k1:" + newKey();
for (const [name, vars, said] of [
  ["no link key", { LINK_KEYS: undefined }, /LINK_KEYS is not set/],
  ["an empty link key", { LINK_KEYS: "" }, /LINK_KEYS is not set/],
  ["no edge key", { EDGE_KEYS: undefined }, /EDGE_KEYS is not set/],
  ["a short key", { LINK_KEYS: "k1:c2hvcnQ=" }, /LINK_KEYS: .*32 to 64 bytes/],
  ["two equal key ids", { LINK_KEYS: `a:${newKey()},a:${newKey()}` }, /LINK_KEYS: two keys/],
  ["one key under two ids", { LINK_KEYS: `a:${key},b:${key}` }, /LINK_KEYS: .*same key/],
  ["one key for links and edge", { LINK_KEYS: `a:${key}`, EDGE_KEYS: `b:${key}` }, /share a key/],
  ["no origin", { ORIGIN_URL: undefined }, /ORIGIN_URL is not set/],
  ["a bad referer host", { REFERER_HOSTS: "example.com,https://x" }, /REFERER_HOSTS/],
  ["no client address off loopback", { IMAGES_HOST: "img.example.com", API_HOST: "api.example.com", CLIENT_IP_HEADER: undefined }, /CLIENT_IP_HEADER/],
  ["limits off off loopback", { IMAGES_HOST: "img.example.com", API_HOST: "api.example.com", LIMITS: "off" }, /LIMITS must be on/],
  ["a key that the environment of plain workerd lacks", { LINK_KEYS: null }, /LINK_KEYS is not set/],
  ["a penalty without an end", { PENALTY_RULE: "30/0" }, /PENALTY_RULE must be/],
  ["a penalty that is none", { PENALTY_RULE: "30" }, /PENALTY_RULE must be/],
  ["a rate of nothing", { TOKEN_RATE: "0/5" }, /TOKEN_RATE must be/],
  ["one host for both", { API_HOST: "localhost:1", IMAGES_HOST: "LOCALHOST:1" }, /must be two hosts/],
]) {
  test(`with ${name} every request is 503`, async () => {
    const edge = await startEdge({ bucket, origin, vars: { LINK_KEYS: link, ...vars } });
    try {
      const good = sign({ vars: { LINK_KEYS: link } }, KEY);
      for (const [target, host] of [[good, "images"], ["/api/images", "api"], ["/", "evil.example"]]) {
        const answer = await request(edge, target, { host });
        assert.equal(answer.status, 503, target);
        assert.equal(answer.json().code, "misconfigured");
        assert.equal(answer.headers["cache-control"], "no-store");
        assert.doesNotMatch(String(answer.body), /KEYS|HOST|URL|HEADER/);
      }
      const { status, headers, json } = await request(edge, "/v1/models", { host: "api" });
      assert.deepEqual([status, headers["content-type"], json().error.code], [503, "application/json", "misconfigured"]);
      assert.match(edge.logs(), said);
      assert.equal(edge.logs().match(/not set up correctly/g).length, 1, "told once");
      for (const secret of [key, link.slice(3)]) assert.ok(!edge.logs().includes(secret));
    } finally {
      await edge.stop();
    }
  });
}

test("without its bucket the Worker is misconfigured too", async () => {
  const edge = await startEdge({ origin });
  try {
    assert.equal((await request(edge, sign(edge, KEY))).status, 503);
    assert.match(edge.logs(), /the binding IMAGES is missing/);
  } finally {
    await edge.stop();
  }
});

test("off loopback a request without the front's address header is not served", async () => {
  const edge = await startEdge({ bucket, origin, vars: { IMAGES_HOST: "img.example.com", API_HOST: "api.example.com", CLIENT_IP_HEADER: "X-Front-Address" } });
  try {
    const open = (headers) => request(edge, sign(edge, KEY), { host: "img.example.com", from: null, headers });
    assert.equal((await open({ "x-front-address": "198.51.100.1" })).status, 200);
    assert.equal((await open({ "x-front-address": "2001:db8::1" })).status, 200);
    for (const headers of [{}, { "x-front-address": "evil" }, { "x-front-address": "1.2.3.4, 5.6.7.8" }, { "cf-connecting-ip": "1.2.3.4" }]) {
      const answer = await open(headers);
      assert.equal(answer.status, 503, JSON.stringify(headers));
    }
    await request(edge, "/api/images", { host: "api.example.com", from: null, headers: { "x-front-address": "198.51.100.9", "cf-connecting-ip": "10.0.0.1" } });
    assert.equal(origin.last().headers["signet-client-ip"], "198.51.100.9");
    assert.equal(origin.last().headers["x-front-address"], undefined);
    assert.equal(origin.last().headers["cf-connecting-ip"], undefined);
  } finally {
    await edge.stop();
  }
});

test("on loopback without a front every caller is this machine", async () => {
  const edge = await startEdge({ bucket, origin, vars: { CLIENT_IP_HEADER: undefined } });
  try {
    assert.equal((await request(edge, sign(edge, KEY, { ip: "127.0.0.1" }), { from: null })).status, 200);
    assert.equal((await request(edge, sign(edge, KEY, { ip: "10.0.0.1" }), { from: "10.0.0.1" })).status, 403);
    await request(edge, "/api/images", { host: "api", from: "10.0.0.1" });
    assert.equal(origin.last().headers["signet-client-ip"], "127.0.0.1");
  } finally {
    await edge.stop();
  }
});
