// The path of a link on the production build: what opens, with which headers, and what does not.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import net from "node:net";
import { after, before, test } from "node:test";
import { raw, request, sign, sleep, startBucket, startEdge } from "./harness.mjs";

const KEY = "generated/u1/0190a5d0-ac96-774b-bcce-b302099a8057.png";
const now = () => Math.floor(Date.now() / 1000);
let bucket, edge, picture;

before(async () => {
  bucket = await startBucket();
  edge = await startEdge({ bucket });
  picture = bucket.put(KEY, randomBytes(200_000));
});
after(async () => {
  await edge?.stop();
  await bucket?.close();
});

const etag = () => `"${createHash("md5").update(picture).digest("hex")}"`;
const open = (options) => request(edge, sign(edge, KEY), options);

test("a signed link opens its picture with the contract's headers", async () => {
  const answer = await open();
  assert.equal(answer.status, 200);
  assert.ok(answer.body.equals(picture));
  const { headers } = answer;
  assert.equal(headers["content-type"], "image/png"); // never what the object says
  assert.equal(headers["content-length"], String(picture.length));
  assert.match(headers["cache-control"], /^private, max-age=(600|59\d)$/);
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["content-security-policy"], "default-src 'none'; sandbox");
  assert.equal(headers["referrer-policy"], "no-referrer");
  assert.equal(headers["x-robots-tag"], "noindex");
  assert.equal(headers["accept-ranges"], "bytes");
  assert.equal(headers["cross-origin-resource-policy"], "cross-origin");
  assert.equal(headers.etag, etag());
  assert.equal(headers["set-cookie"], undefined);
  assert.equal(headers["content-disposition"], undefined);
});

test("max-age never exceeds an hour nor what is left of the link", async () => {
  const age = async (life) => {
    const { headers } = await request(edge, sign(edge, KEY, { exp: now() + life }));
    return Number(/max-age=(\d+)$/.exec(headers["cache-control"])[1]);
  };
  assert.equal(await age(86_400), 3600);
  assert.ok((await age(30)) <= 30);
});

test("HEAD answers what GET would, without the bytes", async () => {
  const answer = await open({ method: "HEAD" });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers["content-length"], String(picture.length));
  assert.equal(answer.headers.etag, etag());
  assert.equal(answer.body.length, 0);
  const ranged = await open({ method: "HEAD", headers: { range: "bytes=0-9" } });
  assert.equal(ranged.status, 200);
  assert.equal(ranged.headers["content-length"], String(picture.length));
});

test("a single range is answered with 206 and exactly its bytes", async () => {
  for (const [range, from, to] of [
    ["bytes=0-0", 0, 1],
    ["bytes=100-199", 100, 200],
    ["bytes=199990-", 199_990, 200_000],
    ["bytes=-7", 199_993, 200_000],
    ["bytes=199999-999999999", 199_999, 200_000],
    ["bytes=-999999999", 0, 200_000],
  ]) {
    const answer = await open({ headers: { range } });
    assert.equal(answer.status, 206, range);
    assert.equal(answer.headers["content-range"], `bytes ${from}-${to - 1}/200000`, range);
    assert.equal(answer.headers["content-length"], String(to - from), range);
    assert.ok(answer.body.equals(picture.subarray(from, to)), range);
    assert.equal(answer.headers["content-security-policy"], "default-src 'none'; sandbox");
  }
});

test("several ranges, other units and malformed ones mean the whole picture", async () => {
  for (const range of ["bytes=0-1,5-6", "lines=1-2", "bytes=5-1", "bytes=a-b", "bytes=", "bytes", "bytes=-", "bytes=1-2-3"]) {
    const answer = await open({ headers: { range } });
    assert.equal(answer.status, 200, range);
    assert.equal(answer.body.length, picture.length, range);
  }
});

test("a range outside the picture is 416 with the size", async () => {
  for (const range of ["bytes=200000-", "bytes=300000-300001", "bytes=-0"]) {
    const answer = await open({ headers: { range } });
    assert.equal(answer.status, 416, range);
    assert.equal(answer.headers["content-range"], "bytes */200000");
    assert.equal(answer.json().code, "range_not_satisfiable");
    assert.equal(answer.headers["cache-control"], "no-store");
  }
});

test("If-None-Match answers 304 only for the picture's own tag", async () => {
  for (const tag of [etag(), `W/${etag()}`, `"other", ${etag()}`, "*"]) {
    const answer = await open({ headers: { "if-none-match": tag } });
    assert.equal(answer.status, 304, tag);
    assert.equal(answer.body.length, 0);
    assert.equal(answer.headers.etag, etag());
    assert.match(answer.headers["cache-control"], /^private/);
  }
  const other = await open({ headers: { "if-none-match": '"other"' } });
  assert.equal(other.status, 200);
  assert.ok(other.body.equals(picture));
});

test("If-Range gives a part only under the same strong tag", async () => {
  const part = (validator) => open({ headers: { range: "bytes=0-9", "if-range": validator } });
  assert.equal((await part(etag())).status, 206);
  for (const validator of ['"other"', `W/${etag()}`, "Wed, 21 Oct 2015 07:28:00 GMT"]) {
    const answer = await part(validator);
    assert.equal(answer.status, 200, validator);
    assert.ok(answer.body.equals(picture));
  }
});

test("a download name becomes an attachment", async () => {
  const answer = await request(edge, sign(edge, KEY, { dl: "my-cat.png" }));
  assert.equal(answer.headers["content-disposition"], 'attachment; filename="my-cat.png"');
});

test("a kept picture opens under its generated link, and the other way round", async () => {
  const kept = bucket.put("kept/u1/only-kept.webp", Buffer.from("kept"));
  const answer = await request(edge, sign(edge, "generated/u1/only-kept.webp"));
  assert.equal(answer.status, 200);
  assert.equal(answer.headers["content-type"], "image/webp");
  assert.ok(answer.body.equals(kept));
  bucket.put("generated/u1/only-generated.jpg", Buffer.from("generated"));
  const ranged = await request(edge, sign(edge, "kept/u1/only-generated.jpg"), { headers: { range: "bytes=0-2" } });
  assert.equal(ranged.status, 206);
  assert.equal(String(ranged.body), "gen");
  bucket.put("kept/u1/up.png", Buffer.from("x"));
  assert.equal((await request(edge, sign(edge, "uploads/u1/up.png"))).status, 404);
});

test("refusals are problems that nothing may keep", async () => {
  const good = sign(edge, KEY);
  const cases = [
    ["/generated/u1/x.png", {}, 403, "bad_signature"],
    [good.replace(/sig=./, (it) => (it === "sig=A" ? "sig=B" : "sig=A")), {}, 403, "bad_signature"],
    [`${good}&zz=1`, {}, 400, "malformed_link"],
    ["/temp/job.png", {}, 400, "malformed_link"],
    ["/", {}, 400, "malformed_link"],
    [sign(edge, KEY, { exp: now() - 1 }), {}, 410, "link_expired"],
    [sign(edge, KEY, { exp: now() + 8 * 86_400 }), {}, 403, "life_too_long"],
    [sign(edge, KEY, { ip: "198.51.100.0-24" }), {}, 403, "ip_mismatch"],
    [good, { headers: { referer: "https://evil.example/" } }, 403, "referer_denied"],
    [good, { headers: { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image" } }, 403, "referer_denied"],
    [sign(edge, "generated/u1/none.png"), {}, 404, "not_found"],
    [good, { method: "POST" }, 405, "method_not_allowed"],
    [good, { method: "OPTIONS" }, 405, "method_not_allowed"],
  ];
  for (const [target, options, status, code] of cases) {
    const answer = await request(edge, target, options);
    assert.equal(answer.status, status, `${target} ${JSON.stringify(options)}`);
    assert.equal(answer.json().code, code);
    assert.equal(answer.headers["content-type"], "application/problem+json");
    assert.equal(answer.headers["cache-control"], "no-store");
    assert.equal(answer.headers["x-content-type-options"], "nosniff");
    if (status === 405) assert.equal(answer.headers.allow, "GET, HEAD");
  }
  // Every answer has an id of its own, a picture's and each refusal's.
  const ids = new Set();
  const asked = [...cases, [good, {}], [good, {}], [good, { method: "HEAD" }], [good, { headers: { range: "bytes=0-0" } }], [good, { headers: { range: "bytes=999999999-" } }]];
  for (const [target, options] of asked) {
    const id = (await request(edge, target, options)).headers["x-request-id"];
    assert.match(id, /^[0-9a-f]{32}$/, `${target} ${JSON.stringify(options)}`);
    ids.add(id);
  }
  assert.equal(ids.size, asked.length);
  const head = await request(edge, "/generated/u1/x.png", { method: "HEAD" });
  assert.equal(head.status, 403);
  assert.equal(head.body.length, 0);
});

test("a link for an address opens there only", async () => {
  const link = sign(edge, KEY, { ip: "198.51.100.0-24" });
  assert.equal((await request(edge, link, { from: "198.51.100.200" })).status, 200);
  assert.equal((await request(edge, link, { from: "::ffff:198.51.100.9" })).status, 200);
  assert.equal((await request(edge, link, { from: "198.51.101.1" })).status, 403);
});

test("other spellings of a good link on the wire open nothing", async () => {
  const good = sign(edge, KEY);
  const [path, query] = good.split("?");
  const pairs = query.split("&");
  // Not among them: a fragment, which the runtime drops before the Worker sees it, as the contract allows a front to.
  const targets = [
    `/${path}?${query}`, `//${path.slice(1)}?${query}`, path.replace("u1", "%751") + `?${query}`, `/x/../${path.slice(1)}?${query}`,
    `/./${path.slice(1)}?${query}`, `${path}/?${query}`, `${path}?${[...pairs].reverse().join("&")}`, `${path}?${query}&exp=1`,
    `${path}?${query}=`, `${path}?${query}%23x`, `${path}%00?${query}`, `${path.replaceAll("/", "\\")}?${query}`,
    `${path}?${query.toUpperCase()}`, `${path}?&${query}`, `${path}?${query}&`, `${path}?${query.replace("exp=", "exp=0")}`,
    `${path.replace("generated", "Generated")}?${query}`, `${path};a?${query}`,
  ];
  for (const target of targets) {
    const bytes = `GET ${target} HTTP/1.1\r\nHost: ${edge.vars.IMAGES_HOST}\r\nCF-Connecting-IP: 192.0.2.1\r\nConnection: close\r\n\r\n`;
    const answer = await raw(edge.port, bytes);
    assert.match(answer, /^HTTP\/1\.1 4(00|03) /, `${target}\n${answer.slice(0, 100)}`);
  }
  // The same request in the one spelling opens: it is the spelling that was refused.
  const answer = await raw(edge.port, `GET ${good} HTTP/1.1\r\nHost: ${edge.vars.IMAGES_HOST}\r\nCF-Connecting-IP: 192.0.2.1\r\nConnection: close\r\n\r\n`);
  assert.match(answer, /^HTTP\/1\.1 200 /);
});

test("a host that is not ours is 421", async () => {
  for (const host of ["evil.example", "localhost", `localhost:${edge.port + 1}`, `a.localhost:${edge.port}`]) {
    const answer = await request(edge, sign(edge, KEY), { host });
    assert.equal(answer.status, 421, host);
    assert.equal(answer.json().code, "unknown_host");
    assert.match(answer.headers["x-request-id"], /^[0-9a-f]{32}$/);
  }
  assert.equal((await request(edge, sign(edge, KEY), { host: `LocalHost:${edge.port}` })).status, 200);
});

test("links are not served on the API's host", async () => {
  const answer = await request(edge, sign(edge, KEY), { host: "api" });
  assert.equal(answer.status, 404);
});

test("a transfer that a client breaks off harms nobody else", async () => {
  const big = bucket.put("generated/u1/big.png", randomBytes(8_000_000));
  const link = sign(edge, "generated/u1/big.png");
  const breakOff = () =>
    new Promise((done) => {
      const socket = net.connect(edge.port, "127.0.0.1", () =>
        socket.write(`GET ${link} HTTP/1.1\r\nHost: ${edge.vars.IMAGES_HOST}\r\nCF-Connecting-IP: 192.0.2.1\r\n\r\n`));
      socket.once("data", () => socket.destroy());
      socket.on("close", done);
      socket.on("error", () => {});
    });
  await Promise.all(Array.from({ length: 10 }, breakOff));
  const rest = await request(edge, link, { headers: { range: "bytes=4000000-" } });
  assert.equal(rest.status, 206);
  assert.ok(rest.body.equals(big.subarray(4_000_000)));
});

test("a bucket that fails or is away is 503, and nothing of it is kept", async () => {
  for (const failing of ["500", "drop"]) {
    bucket.failing = failing;
    for (const options of [{}, { method: "HEAD" }, { headers: { range: "bytes=0-1" } }]) {
      const answer = await open(options);
      assert.equal(answer.status, 503, failing);
      assert.equal(answer.headers["cache-control"], "no-store");
      if (options.method !== "HEAD") assert.equal(answer.json().code, "store_unavailable");
    }
    bucket.failing = null;
    assert.equal((await open()).status, 200);
  }
  assert.match(edge.logs(), /edge: the bucket failed/);
});

test("a bucket that breaks off in the middle never makes a whole answer", async () => {
  bucket.failing = "cut";
  await assert.rejects(open(), "the client sees that its transfer broke off");
  await assert.rejects(open({ headers: { range: "bytes=0-99999" } }));
  bucket.failing = null;
  assert.ok((await open()).body.equals(picture));
});

test("oversize addresses and headers are refused and harm nobody else", async () => {
  const link = sign(edge, KEY);
  const head = (target, more = "") => `GET ${target} HTTP/1.1\r\nHost: ${edge.vars.IMAGES_HOST}\r\nCF-Connecting-IP: 192.0.2.1\r\n${more}Connection: close\r\n\r\n`;
  const long = "a".repeat(60_000);
  for (const bytes of [
    head(`/${long}`), head(`${link}&x=${long}`), head(`${link.replace(/sig=.*/, "sig=")}${long}`), head(`/${"a/".repeat(30_000)}`),
    head(`/${"a".repeat(3_000_000)}`), head(link, `X: ${"a".repeat(3_000_000)}\r\n`), head(link, "X: y\r\n".repeat(200_000)),
  ]) {
    const answer = await raw(edge.port, bytes).catch(() => "");
    assert.match(answer, /^$|^HTTP\/1\.1 4\d\d /, answer.slice(0, 200));
  }
  // Long headers that a link's path reads are read as they are; what they ask for in vain is not done.
  for (const [name, value] of [["referer", `https://${long}.example`], ["range", `bytes=${"1-2,".repeat(10_000)}`], ["if-none-match", `"${long}"`], ["sec-fetch-site", long]]) {
    const answer = await raw(edge.port, head(link, `${name}: ${value}\r\n`)).catch(() => "");
    assert.match(answer, /^$|^HTTP\/1\.1 (200|4\d\d) /, name);
  }
  assert.ok((await open()).body.equals(picture));
  assert.doesNotMatch(edge.logs(), /edge: internal error|panicked/);
});

test("over the limit of links is 429 with the time to wait, for that address alone", async () => {
  const small = await startEdge({ bucket, quotas: { LINKS: 3, LINKS_WIDE: 5 } });
  try {
    const from = (address) => request(small, sign(small, KEY), { from: address });
    for (let i = 0; i < 3; i += 1) assert.equal((await from("198.51.100.1")).status, 200);
    const refused = await from("198.51.100.1");
    assert.equal(refused.status, 429);
    assert.equal(refused.json().code, "rate_limited");
    assert.equal(refused.headers["retry-after"], "60");
    assert.equal(refused.headers.ratelimit, '"links";r=0;t=60');
    assert.equal(refused.headers["ratelimit-policy"], '"links";q=600;w=60');
    assert.equal((await from("198.51.100.2")).status, 200);
    // Refused before the limit is asked: nobody uses it up with links that are none.
    for (let i = 0; i < 5; i += 1) await request(small, "/generated/u1/x.png", { from: "198.51.100.3" });
    assert.equal((await from("198.51.100.3")).status, 200);
    // IPv6: one /64 is one client, and a /48 has its own limit.
    for (let i = 0; i < 3; i += 1) assert.equal((await from(`2001:db8:1:1::${i}`)).status, 200);
    assert.equal((await from("2001:db8:1:1::9")).status, 429);
    assert.equal((await from("2001:db8:1:2::1")).status, 200);
    assert.equal((await from("2001:db8:1:3::1")).status, 200);
    assert.equal((await from("2001:db8:1:4::1")).status, 429);
    assert.equal((await from("2001:db8:2:1::1")).status, 200);
  } finally {
    await small.stop();
  }
});

test("limits that fail let good links pass, and limits that are off are not asked", async () => {
  const failing = await startEdge({ bucket, failingLimiter: true });
  const off = await startEdge({ bucket, quotas: { LINKS: 0 }, vars: { LIMITS: "off" } });
  try {
    assert.equal((await request(failing, sign(failing, KEY))).status, 200);
    await sleep(50);
    assert.match(failing.logs(), /rate limit LINKS failed/);
    assert.equal((await request(off, sign(off, KEY))).status, 200);
  } finally {
    await failing.stop();
    await off.stop();
  }
});
