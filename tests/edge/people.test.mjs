// What the images host answers beside pictures: pages for people, the way back to a link's clean spelling, preflights and
// what scripts of an allowed page may read, and the files that browsers ask every host for.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { request, sign, sleep, startBucket, startEdge, startOrigin } from "./harness.mjs";

const KEY = "generated/u1/0190a5d0-ac96-774b-bcce-b302099a8057.png";
const BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
const OURS = "http://example.com";
let bucket, edge;

before(async () => {
  bucket = await startBucket();
  edge = await startEdge({ bucket });
  bucket.put(KEY, Buffer.from("a picture"));
});
after(async () => {
  await edge?.stop();
  await bucket?.close();
});

const good = () => sign(edge, KEY);
const now = () => Math.floor(Date.now() / 1000);
/** Every refusal that a link can meet, by code: target and options. */
const refusals = () => ({
  malformed_link: [`${good()}.`],
  bad_signature: [good().replace("u1", "u2")],
  link_expired: [sign(edge, KEY, { exp: now() - 1 })],
  life_too_long: [sign(edge, KEY, { exp: now() + 8 * 86400 })],
  ip_mismatch: [sign(edge, KEY, { ip: "203.0.113.9" })],
  referer_denied: [good(), { headers: { referer: "https://evil.test/" } }],
  not_found: [sign(edge, "generated/u1/gone.png")],
  method_not_allowed: [good(), { method: "POST" }],
  range_not_satisfiable: [good(), { headers: { range: "bytes=900-" } }],
  precondition_failed: [good(), { headers: { "if-match": '"other"' } }],
});

test("people get a page for every refusal, with the status and code that programs get", async () => {
  for (const [code, [target, options = {}]] of Object.entries(refusals())) {
    const plain = await request(edge, target, options);
    assert.equal(plain.json().code, code);
    const page = await request(edge, target, { ...options, headers: { ...options.headers, accept: BROWSER } });
    assert.equal(page.status, plain.status, code);
    assert.equal(page.headers["content-type"], "text/html; charset=utf-8", code);
    assert.equal(page.headers["cache-control"], "no-store");
    assert.equal(page.headers["x-content-type-options"], "nosniff");
    assert.equal(page.headers["referrer-policy"], "no-referrer");
    assert.match(page.headers["content-security-policy"], /^default-src 'none'; style-src 'sha256-[^']+'; .*sandbox$/);
    assert.match(page.headers["x-request-id"], /^[0-9a-f]{32}$/);
    for (const name of ["allow", "content-range"]) assert.equal(page.headers[name], plain.headers[name], code);
    const html = page.body.toString();
    assert.ok(html.startsWith("<!doctype html>") && html.includes(`<code>${code}</code>`), code);
    assert.doesNotMatch(html, /<script|href=|src=|url\(/);
    if (["method_not_allowed", "range_not_satisfiable"].includes(code)) continue; // HEAD has neither
    const head = await request(edge, target, { method: "HEAD", headers: { ...options.headers, accept: BROWSER } });
    assert.deepEqual([head.status, head.body.length, head.headers["content-type"]], [plain.status, 0, "text/html; charset=utf-8"], code);
  }
});

test("programs, and pictures in a page, get the code in JSON", async () => {
  for (const accept of [undefined, "*/*", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "application/json, text/html", "text/html;q=0.1, */*"]) {
    const answer = await request(edge, `${good()}.`, { headers: accept ? { accept } : {} });
    assert.equal(answer.headers["content-type"], "application/problem+json", accept);
    assert.equal(answer.json().code, "malformed_link");
  }
});

test("over the limit a page says so too", async () => {
  const small = await startEdge({ bucket, quotas: { LINKS: 1 } });
  try {
    for (const target of [sign(small, KEY), "/robots.txt"]) {
      const from = `198.51.100.${target.length}`;
      await request(small, target, { from });
      const page = await request(small, target, { from, headers: { accept: BROWSER } });
      assert.equal(page.status, 429);
      assert.equal(page.headers["retry-after"], "60");
      assert.ok(page.body.toString().includes("<code>rate_limited</code>"));
    }
    const [from, ask] = ["198.51.100.250", { method: "OPTIONS", headers: { origin: OURS } }];
    assert.equal((await request(small, "/", { ...ask, from })).status, 204);
    assert.equal((await request(small, "/", { ...ask, from })).status, 429);
  } finally {
    await small.stop();
  }
});

test("a link that carries trackers is sent on to its clean spelling, and opens nothing", async () => {
  bucket.seen.length = 0;
  const clean = good();
  const [path, query] = clean.split("?");
  for (const target of [`${clean}&fbclid=IwAR0`, `${clean}&utm_source=a%20b&utm_medium=c`, `${path}?gclid=1&${query}`]) {
    for (const method of ["GET", "HEAD"]) {
      const answer = await request(edge, target, { method });
      assert.equal(answer.status, 302, target);
      assert.equal(answer.headers.location, clean);
      assert.equal(answer.headers["cache-control"], "no-store");
      assert.equal(answer.headers["referrer-policy"], undefined);
      assert.equal(answer.body.length, 0);
    }
  }
  assert.ok(bucket.seen.every((line) => line.startsWith("head ")), "no byte of the picture was read");
  const followed = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", referer: "https://l.blog.test/" };
  assert.equal((await request(edge, `${clean}&fbclid=1`, { headers: followed })).status, 302);
  const embedded = { "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image" };
  assert.equal((await request(edge, `${clean}&fbclid=1`, { headers: embedded })).status, 400);
  assert.equal((await request(edge, `${clean}&fbclid=1`, { headers: { "sec-fetch-mode": "no-cors" } })).status, 400);
  for (const [code, target] of [
    ["bad_signature", `${clean.replace("u1", "u2")}&fbclid=1`],
    ["link_expired", `${sign(edge, KEY, { exp: now() - 1 })}&fbclid=1`],
    ["not_found", `${sign(edge, "generated/u1/gone.png")}&fbclid=1`],
    ["malformed_link", `${clean}&amp;fbclid=1`],
    ["malformed_link", `${clean}&fbclid=1&v=2`],
  ]) {
    assert.equal((await request(edge, target)).json().code, code, target);
  }
});

test("scripts of an allowed page may read pictures and refusals, and no others", async () => {
  const allowed = { origin: OURS };
  for (const [target, options] of [[good()], [good(), { method: "HEAD" }], [good(), { headers: { range: "bytes=0-1" } }], ...Object.values(refusals())]) {
    for (const accept of ["*/*", BROWSER]) {
      const ask = (origin) => request(edge, target, { ...options, headers: { ...options?.headers, ...(origin && { origin }), accept } });
      const ours = await ask(OURS);
      assert.equal(ours.headers["access-control-allow-origin"], OURS, target);
      assert.equal(ours.headers["access-control-expose-headers"], "ETag, Content-Range, Accept-Ranges");
      assert.equal(ours.headers.vary, "Origin");
      for (const origin of [undefined, "null", "http://evil.test", "https://example.com", `${OURS}/`, `${OURS}, ${OURS}`]) {
        const { headers } = await ask(origin);
        assert.equal(headers["access-control-allow-origin"], undefined, origin);
        assert.equal(headers.vary, "Origin");
      }
      assert.equal(ours.headers["access-control-allow-credentials"], undefined);
    }
  }
  const cors = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "image" };
  assert.equal((await request(edge, good(), { headers: { ...cors, ...allowed } })).status, 200);
  assert.equal((await request(edge, good(), { headers: { ...cors, origin: "null" } })).status, 403);
});

test("a preflight is decided by its origin alone", async () => {
  for (const target of ["/", good(), "/a//b", `${good()}&x=1`]) {
    const yes = await request(edge, target, { method: "OPTIONS", headers: { origin: "http://a.example.org:81", "access-control-request-method": "GET", accept: BROWSER } });
    assert.equal(yes.status, 204, target);
    assert.equal(yes.headers["access-control-allow-origin"], "http://a.example.org:81");
    assert.equal(yes.headers["access-control-allow-methods"], "GET, HEAD");
    assert.equal(yes.headers["access-control-allow-headers"], "Range, If-Range, If-None-Match");
    assert.equal(yes.headers.vary, "Origin");
    for (const origin of [undefined, "null", "http://evil.test"]) {
      const no = await request(edge, target, { method: "OPTIONS", headers: { ...(origin && { origin }), "access-control-request-method": "GET" } });
      assert.equal(no.status, 405, target);
      assert.equal(no.headers["access-control-allow-origin"], undefined);
    }
  }
});

test("icons and robots.txt are answered, and counted as what they are", async () => {
  const told = await startOrigin();
  const own = await startEdge({ bucket, origin: told });
  try {
    const robots = await request(own, "/robots.txt");
    assert.deepEqual([robots.status, robots.body.toString()], [200, "User-agent: *\nDisallow: /\n"]);
    assert.equal(robots.headers["content-type"], "text/plain; charset=utf-8");
    assert.equal(robots.headers["cache-control"], "public, max-age=86400");
    const head = await request(own, "/robots.txt", { method: "HEAD" });
    assert.deepEqual([head.status, head.headers["content-length"]], [200, robots.headers["content-length"]]);
    for (const icon of ["/favicon.ico", "/apple-touch-icon.png", "/apple-touch-icon-120x120-precomposed.png"]) {
      assert.equal((await request(own, icon)).status, 204, icon);
    }
    assert.equal((await request(own, "/favicon.ico", { method: "POST" })).status, 405);
    assert.equal((await request(own, "/favicon.ico?exp=1")).json().code, "bad_signature");
    await request(own, `${sign(own, KEY)}&fbclid=1`);
    await request(own, "/", { method: "OPTIONS", headers: { origin: OURS } });
    for (const end = Date.now() + 20_000; Date.now() < end && told.reports.length === 0; ) await sleep(100);
    const lines = told.reports.map(({ body }) => body).join("");
    for (const line of ["link site_file unknown 5", "link redirected k1 1", "link preflight unknown 1", "link bad_signature unknown 1", "link method_not_allowed unknown 1"]) {
      assert.ok(lines.split("\n").includes(line), `${line} in ${lines}`);
    }
  } finally {
    await own.stop();
    await told.close();
  }
});

test("a name beyond ASCII is told in both ways", async () => {
  const dn = Buffer.from("größe (1).png").toString("base64url");
  const answer = await request(edge, sign(edge, KEY, { dn }));
  assert.equal(answer.status, 200);
  assert.equal(answer.headers["content-disposition"], "attachment; filename=\"gr__e (1).png\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%281%29.png");
});

test("another picture than the wanted one is 412", async () => {
  const { headers } = await request(edge, good());
  assert.equal((await request(edge, good(), { headers: { "if-match": headers.etag } })).status, 200);
  assert.equal((await request(edge, good(), { headers: { "if-match": "*" } })).status, 200);
  for (const tag of ['"other"', `W/${headers.etag}`]) {
    for (const method of ["GET", "HEAD"]) assert.equal((await request(edge, good(), { method, headers: { "if-match": tag } })).status, 412, tag);
  }
});
