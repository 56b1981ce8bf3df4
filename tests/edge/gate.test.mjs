// The path of an API call on the production build, against a stand-in origin that checks the edge's signature with an
// RFC 9421 verifier of its own.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import net from "node:net";
import { after, before, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { newKey, raw, request, sleep, startBucket, startEdge, startOrigin } from "./harness.mjs";
import { digest, verify } from "./rfc9421.mjs";

const MIB = 1024 * 1024;
let bucket, origin, edge;

before(async () => {
  bucket = await startBucket();
  origin = await startOrigin();
  edge = await startEdge({ bucket, origin });
});
after(async () => {
  await edge?.stop();
  await origin?.close();
  await bucket?.close();
});

const call = (target, options = {}) => request(edge, target, { host: "api", ...options });
const replyOnce = (reply) => {
  const usual = origin.reply;
  origin.reply = (...args) => {
    origin.reply = usual;
    reply(...args);
  };
};
const verified = () => verify(origin.last(), edge.vars.EDGE_KEYS);
/** Sends a body in chunks, without a Content-Length. */
const chunked = (parts) => async (outgoing) => {
  for (const part of parts) {
    if (outgoing.destroyed) return;
    if (!outgoing.write(part)) await new Promise((done) => { outgoing.once("drain", done); outgoing.once("close", done); });
  }
  outgoing.end();
};

test("a call reaches the origin, signed over all that the contract names", async () => {
  const body = JSON.stringify({ prompt: "a purple heart" });
  const answer = await call("/api/generate?x=1&y=%20", {
    method: "POST", body, from: "2001:db8::7",
    headers: {
      authorization: "Bearer abc.def", cookie: "session=1", "content-type": "application/json", "idempotency-key": "k-1",
      "content-length": String(body.length), "signet-studio": "1",
    },
  });
  assert.equal(answer.status, 200);
  const { components, values } = verified();
  assert.deepEqual(components, [
    "@method", "@authority", "@path", "@query", "authorization", "cookie", "content-type", "content-length",
    "idempotency-key", "signet-client-ip", "x-request-id", "content-digest", "signet-decided",
  ]);
  assert.equal(values.tag, "signet-edge-v1");
  assert.equal(values.alg, "hmac-sha256");
  assert.ok(Math.abs(values.created - Date.now() / 1000) < 10);
  assert.match(values.nonce, /^[0-9a-f]{32}$/);
  const seen = origin.last();
  assert.equal(seen.headers["signet-client-ip"], "2001:db8::7");
  assert.equal(seen.headers["signet-studio"], "1");
  assert.equal(seen.headers["content-digest"], digest(body));
  assert.equal(seen.url, "/api/generate?x=1&y=%20");
  assert.equal(String(seen.body), body);
  assert.equal(answer.headers["x-request-id"], seen.headers["x-request-id"]);
});

test("calls of every shape carry a signature that holds", async () => {
  const shapes = [
    ["/", {}],
    ["/api/images?limit=2", { headers: { authorization: "Bearer x" } }],
    ["/api/images/1/keep", { method: "POST" }],
    ["/api/images/1/keep", { method: "POST", headers: { "content-length": "0" } }],
    ["/api/images/1", { method: "DELETE" }],
    ["/api/images", { method: "HEAD" }],
    ["/api/images", { method: "OPTIONS" }],
    ["/oauth/token", { method: "POST", body: "grant_type=client_credentials", headers: { "content-type": "application/x-www-form-urlencoded" } }],
    ["/oauth/token", { method: "POST", body: chunked(["grant_type=", "client_credentials"]) }],
    ["/api/upload", { method: "POST", body: randomBytes(65_536) }],
    ["/api/upload", { method: "POST", body: randomBytes(65_537), headers: { "content-length": "65537" } }],
    ["/api/upload", { method: "POST", body: randomBytes(5 * MIB), headers: { "content-length": String(5 * MIB), "content-type": "image/png" } }],
    ["/api/upload", { method: "POST", body: chunked([randomBytes(40_000), randomBytes(40_000), randomBytes(300_000)]) }],
    ["/auth/callback?code=a&state=b", {}],
    ["/.well-known/jwks.json", {}],
    ["/v1/images/generations", { method: "POST", body: "{}", headers: { "content-length": "2" } }],
  ];
  const nonces = new Set();
  for (const [target, options] of shapes) {
    const answer = await call(target, options);
    assert.equal(answer.status, 200, target);
    const { values, components } = verified();
    nonces.add(values.nonce);
    const seen = origin.last();
    for (const name of ["content-length", "content-type", "authorization"]) {
      assert.equal(components.includes(name), seen.headers[name] !== undefined, `${options.method ?? "GET"} ${target}: ${name} ${seen.headers[name]}`);
    }
    if (Buffer.isBuffer(options.body)) assert.ok(seen.body.equals(options.body), target);
    const digested = seen.body.length > 0 && seen.body.length <= 65_536;
    assert.equal(seen.headers["content-digest"], digested ? digest(seen.body) : undefined, target);
  }
  assert.equal(nonces.size, shapes.length);
});

test("what only the edge may say about a client, a client cannot say", async () => {
  await call("/api/images", {
    headers: {
      "signet-client-ip": "10.0.0.1", "signet-charged": "0", "Signet-Anything": "x", signature: "signet=:AAAA:", "signature-input": "signet=()",
      "x-forwarded-for": "10.0.0.1", "x-forwarded-host": "evil", "x-forwarded-proto": "https", forwarded: "for=10.0.0.1",
      "x-real-ip": "10.0.0.1", "true-client-ip": "10.0.0.1", "cf-ray": "1", "cf-ipcountry": "XX", "x-request-id": "mine",
      "content-digest": "sha-256=:AAAA:", "x-http-method-override": "DELETE", "x-original-url": "/admin", "x_real_ip": "10.0.0.1", via: "1.1 x",
    },
  });
  const { headers } = origin.last();
  verified();
  assert.equal(headers["signet-client-ip"], "192.0.2.1");
  assert.match(headers["x-request-id"], /^[0-9a-f]{32}$/);
  for (const name of Object.keys(headers)) {
    assert.doesNotMatch(name, /^(x-forwarded|forwarded|x-real|true-client|cf-(?!ray-never)|signet-(?!client-ip)|content-digest|x-http-method|x-original|via|x_)/, name);
  }
});

test("only the service's own routes reach the origin", async () => {
  const before = origin.requests.length;
  for (const target of ["/admin", "/metrics", "/healthz", "/readyz", "/apis", "/api//x", "/api/%2e%2e/admin", "/generated/u1/a.png", "/cdn-cgi/x", "/.env", "/wp-login.php"]) {
    const answer = await call(target);
    assert.equal(answer.status, 404, target);
    assert.equal(answer.json().code, "not_found");
    assert.match(answer.headers["x-request-id"], /^[0-9a-f]{32}$/);
  }
  for (const target of ["/api/images?access_token=x", "/api/images?a=1&token=x", "/v1/models?%61ccess_token=x"]) {
    const answer = await call(target);
    assert.equal(answer.status, 400, target);
    const { code, error } = answer.json();
    assert.equal(code ?? error.code, "token_in_query");
  }
  for (const method of ["PROPFIND", "REPORT"]) {
    const answer = await call("/api/images", { method });
    assert.equal(answer.status, 405, method);
    assert.equal(answer.headers.allow, "GET, HEAD, POST, DELETE, OPTIONS");
  }
  assert.equal(origin.requests.length, before);
});

test("methods that no route has are answered by the origin, which knows those it has; their bodies stay here", async () => {
  for (const method of ["PUT", "PATCH"]) {
    replyOnce((incoming, outgoing) => outgoing.writeHead(405, { allow: "POST" }).end());
    const answer = await call("/api/generate", { method, body: "{}", headers: { "content-type": "application/json" } });
    assert.deepEqual([answer.status, answer.headers.allow], [405, "POST"], method);
    assert.deepEqual([origin.last().method, origin.last().body.length], [method, 0]);
    verified();
  }
});

test("bodies over the limit are refused by what they announce, before the origin hears of it", async () => {
  const before = origin.requests.length;
  for (const [target, length] of [["/api/generate", 256 * 1024 + 1], ["/oauth/token", 65_537], ["/api/upload", 10 * MIB + 65_537], ["/.well-known/jwks.json", 1], ["/api/upload", 10 ** 15]]) {
    const head = `POST ${target} HTTP/1.1\r\nHost: ${edge.vars.API_HOST}\r\nCF-Connecting-IP: 192.0.2.1\r\nContent-Length: ${length}\r\n\r\nx`;
    const answer = await raw(edge.port, head, (text) => text.includes("body_too_large"));
    assert.match(answer, /^HTTP\/1\.1 413 /, `${target} ${answer.slice(0, 200)}`);
    assert.match(answer, /"code":"body_too_large"/);
  }
  assert.equal(origin.requests.length, before);
  const exact = await call("/api/upload", { method: "POST", body: randomBytes(10 * MIB + 65_536), headers: { "content-length": String(10 * MIB + 65_536) } });
  assert.equal(exact.status, 200);
  verified();
});

test("chunked bodies are counted while they pass, and the origin's request is broken off", async () => {
  const small = await call("/oauth/token", { method: "POST", body: chunked([randomBytes(40_000), randomBytes(40_000)]) }).catch((error) => error);
  assert.equal(small.status, 413);
  const before = origin.requests.length;
  const aborted = origin.aborted;
  const large = await call("/api/upload", { method: "POST", body: chunked(Array.from({ length: 11 }, () => randomBytes(MIB))) });
  assert.equal(large.status, 413);
  assert.equal(large.json().code, "body_too_large");
  for (let i = 0; i < 100 && origin.aborted === aborted; i += 1) await sleep(20);
  assert.equal(origin.aborted, aborted + 1);
  assert.equal(origin.requests.length, before, "the origin never saw the request end");
  const json = await call("/api/generate", { method: "POST", body: chunked(Array.from({ length: 5 }, () => randomBytes(65_000))) });
  assert.equal(json.status, 413);
});

test("a client that breaks off while sending does not reach the origin as a whole request", async () => {
  const before = origin.requests.length;
  await new Promise((done) => {
    const socket = net.connect(edge.port, "127.0.0.1", () => {
      socket.write(`POST /api/generate HTTP/1.1\r\nHost: ${edge.vars.API_HOST}\r\nCF-Connecting-IP: 192.0.2.1\r\nContent-Length: 100\r\n\r\n{"prompt`);
      setTimeout(() => socket.destroy(), 100);
    });
    socket.on("close", done);
    socket.on("error", () => {});
  });
  await sleep(100);
  assert.equal(origin.requests.length, before);
  assert.equal((await call("/api/images")).status, 200);
});

test("the origin's answers pass unchanged but for what is between it and the edge", async () => {
  replyOnce((_request, answer) => {
    answer.writeHead(429, [
      ["content-type", "application/problem+json"], ["retry-after", "7"], ["RateLimit", '"token";r=0;t=7'], ["signet-charged", "0"],
      ["set-cookie", "a=1; Path=/"], ["set-cookie", "b=2; Path=/"], ["x-request-id", "of the origin"],
    ].flat());
    answer.end('{"code":"rate_limited"}');
  });
  const answer = await call("/api/generate", { method: "POST", body: "{}" });
  assert.equal(answer.status, 429);
  assert.equal(answer.headers["retry-after"], "7");
  assert.equal(answer.headers.ratelimit, '"token";r=0;t=7');
  assert.equal(answer.headers["signet-charged"], undefined);
  assert.deepEqual(answer.headers["set-cookie"], ["a=1; Path=/", "b=2; Path=/"]);
  assert.equal(answer.headers["x-request-id"], origin.last().headers["x-request-id"]);
  assert.equal(String(answer.body), '{"code":"rate_limited"}');
});

test("redirects go to the client, and empty answers stay empty", async () => {
  replyOnce((_request, answer) => answer.writeHead(302, { location: "https://login.example/" }).end());
  const redirect = await call("/auth/login");
  assert.equal(redirect.status, 302);
  assert.equal(redirect.headers.location, "https://login.example/");
  replyOnce((_request, answer) => answer.writeHead(204).end());
  const empty = await call("/api/images/1", { method: "DELETE" });
  assert.equal(empty.status, 204);
  assert.equal(empty.body.length, 0);
});

test("compressed, unmodified and HEAD answers arrive as the origin gave them", async () => {
  const text = "signet ".repeat(500);
  replyOnce((_request, answer) => answer.writeHead(200, { "content-encoding": "gzip", "content-type": "text/plain" }).end(gzipSync(text)));
  const packed = await call("/", { headers: { "accept-encoding": "gzip" } });
  assert.equal(packed.headers["content-encoding"], "gzip");
  assert.equal(String(gunzipSync(packed.body)), text);
  replyOnce((_request, answer) => answer.writeHead(304, { etag: '"a"', "cache-control": "no-cache" }).end());
  const same = await call("/", { headers: { "if-none-match": '"a"' } });
  assert.equal(same.status, 304);
  assert.equal(same.headers.etag, '"a"');
  assert.equal(origin.last().headers["if-none-match"], '"a"');
  replyOnce((_request, answer) => answer.writeHead(200, { "content-length": "1234" }).end());
  const head = await call("/", { method: "HEAD" });
  assert.equal(head.headers["content-length"], "1234");
});

test("server-sent events pass as they come", async () => {
  let finish;
  replyOnce((_request, answer) => {
    answer.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    answer.write("event: queued\ndata: {}\n\n");
    finish = () => answer.end("event: done\ndata: {}\n\n");
  });
  const bytes = `GET /api/jobs/1/events HTTP/1.1\r\nHost: ${edge.vars.API_HOST}\r\nCF-Connecting-IP: 192.0.2.1\r\n\r\n`;
  let first;
  const all = await raw(edge.port, bytes, (text) => {
    if (text.includes("queued") && !first) {
      first = text; // the first event is here while the answer is not over
      finish();
    }
    return text.includes("event: done");
  });
  assert.ok(first && !first.includes("event: done"));
  assert.match(all, /content-type: text\/event-stream/i);
});

test("a client that leaves ends its request at the origin, waiting or streaming", async () => {
  let closed = 0;
  const bytes = `GET /api/jobs/1/events HTTP/1.1\r\nHost: ${edge.vars.API_HOST}\r\nCF-Connecting-IP: 192.0.2.1\r\n\r\n`;
  const until = async (count) => {
    for (let i = 0; i < 500 && closed < count; i += 1) await sleep(20);
    assert.equal(closed, count);
  };
  replyOnce((_request, answer) => answer.on("close", () => (closed += 1)));
  // A reset: of a mere end of what the client sends, workerd on plain TCP hears only when it writes.
  await new Promise((done) => {
    const socket = net.connect(edge.port, "127.0.0.1", () => socket.write(bytes));
    const before = origin.requests.length;
    const timer = setInterval(() => origin.requests.length > before && socket.resetAndDestroy(), 10);
    socket.on("close", () => done(clearInterval(timer)));
  });
  await until(1);
  replyOnce((_request, answer) => {
    answer.writeHead(200, { "content-type": "text/event-stream" });
    const timer = setInterval(() => answer.write("event: step\n\n"), 20);
    answer.on("close", () => {
      clearInterval(timer);
      closed += 1;
    });
  });
  await raw(edge.port, bytes, (text) => text.includes("step"));
  await until(2);
});

test("an origin that is away or breaks off is 502, told as a problem", async () => {
  const alone = await startEdge({ bucket, vars: { ORIGIN_URL: "http://127.0.0.1:9" } });
  try {
    const answer = await request(alone, "/api/images", { host: "api" });
    assert.equal(answer.status, 502);
    assert.equal(answer.json().code, "origin_unreachable");
    assert.equal(answer.headers["cache-control"], "no-store");
    assert.equal(answer.json().request_id, answer.headers["x-request-id"]);
    const head = await request(alone, "/api/images", { host: "api", method: "HEAD" });
    assert.equal(head.status, 502);
    assert.match(alone.logs(), /the origin does not answer/);
  } finally {
    await alone.stop();
  }
  replyOnce((incoming) => incoming.socket.destroy());
  assert.equal((await call("/api/images")).status, 502);
  assert.equal((await call("/api/images")).status, 200);
});

test("header values that cannot be signed are refused, not sent", async () => {
  const before = origin.requests.length;
  const answer = await raw(edge.port, `GET /api/images HTTP/1.1\r\nHost: ${edge.vars.API_HOST}\r\nCF-Connecting-IP: 192.0.2.1\r\nAuthorization: Bearer \u00e9\r\nConnection: close\r\n\r\n`);
  assert.match(answer, /^HTTP\/1\.1 400 [\s\S]*malformed_header/);
  assert.equal(origin.requests.length, before);
});

test("floods from an address or with a token are held back, with a policy of their own name", async () => {
  const small = await startEdge({ bucket, origin, quotas: { FLOOD: 3, FLOOD_TOKEN: 2 } });
  try {
    const from = (address, token) =>
      request(small, "/api/images", { host: "api", from: address, headers: token ? { authorization: `Bearer ${token}` } : {} });
    for (let i = 0; i < 3; i += 1) assert.equal((await from("198.51.100.1")).status, 200);
    const refused = await from("198.51.100.1");
    assert.equal(refused.status, 429);
    assert.equal(refused.json().code, "rate_limited");
    assert.equal(refused.headers.ratelimit, '"edge-flood";r=0;t=60');
    assert.match(refused.headers["x-request-id"], /./);
    assert.equal((await from("198.51.100.2", "t1")).status, 200);
    assert.equal((await from("198.51.100.3", "t1")).status, 200);
    const token = await from("198.51.100.4", "t1");
    assert.equal(token.status, 429);
    assert.equal(token.headers.ratelimit, '"edge-flood-token";r=0;t=60');
    assert.equal((await from("198.51.100.4", "t2")).status, 200);
  } finally {
    await small.stop();
  }
});

test("the first key of the ring signs", async () => {
  const keys = `new:${newKey()},old:${newKey()}`;
  const rotated = await startEdge({ bucket, origin, vars: { EDGE_KEYS: keys } });
  try {
    await request(rotated, "/api/images", { host: "api" });
    assert.equal(verify(origin.last(), keys).values.keyid, "new");
  } finally {
    await rotated.stop();
  }
});
