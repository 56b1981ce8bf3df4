// Below /v1 the edge's own refusals have the shape that OpenAI's clients read, below /oauth the one of OAuth's; their
// codes and headers are the usual ones.
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { after, before, test } from "node:test";
import { request, startBucket, startEdge, startOrigin } from "./harness.mjs";

let bucket, origin, edge;

before(async () => {
  bucket = await startBucket();
  origin = await startOrigin();
  const jwk = generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" });
  origin.jwks = { keys: [{ ...jwk, kid: "a" }], issuer: "https://api.example.com", audience: "signet" };
  edge = await startEdge({ bucket, origin, vars: { PENALTY_RULE: "2/600" }, quotas: { FLOOD: 5 } });
});
after(async () => {
  await edge?.stop();
  await origin?.close();
  await bucket?.close();
});

let caller = 0;
/** Each from an address of its own, unless told. */
const call = (target, options = {}) => request(edge, target, { host: "api", from: `198.51.100.${(caller += 1)}`, ...options });

function refused(answer, status, type, code) {
  assert.equal(answer.status, status, code);
  assert.equal(answer.headers["content-type"], "application/json");
  assert.equal(answer.headers["cache-control"], "no-store");
  assert.match(answer.headers["x-request-id"], /^[0-9a-f]{32}$/);
  const { error, ...more } = answer.json();
  assert.deepEqual(more, {});
  const { message, ...rest } = error;
  assert.deepEqual(rest, { type, param: null, code });
  assert.ok(message.length > 5, message);
  return message;
}

test("a bad token is 401 with the challenge", async () => {
  const answer = await call("/v1/models", { headers: { authorization: "Bearer nonsense" } });
  refused(answer, 401, "authentication_error", "unauthorized");
  assert.match(answer.headers["www-authenticate"], /^Bearer/);
  const head = await call("/v1/models", { method: "HEAD", headers: { authorization: "Bearer nonsense" } });
  assert.deepEqual([head.status, head.body.length], [401, 0]);
});

test("limits are 429, name their policy and say when there is room", async () => {
  const generate = () => call("/v1/images/generations", { method: "POST", from: "192.0.2.1", body: "{}" });
  for (let i = 0; i < 2; i += 1) assert.equal((await generate()).status, 200);
  const blocked = await generate();
  assert.match(refused(blocked, 429, "rate_limit_error", "rate_limited"), /penalty-box/);
  assert.equal(blocked.headers["retry-after"], "600");
  for (let i = 0; i < 5; i += 1) assert.equal((await call("/v1/models", { from: "192.0.2.2" })).status, 200);
  const flood = await call("/v1/models", { from: "192.0.2.2" });
  assert.match(refused(flood, 429, "rate_limit_error", "rate_limited"), /edge-flood/);
  assert.equal(flood.headers.ratelimit, '"edge-flood";r=0;t=60');
});

test("what is wrong with the request is said in the same shape", async () => {
  const body = Buffer.alloc(300 * 1024);
  refused(await call("/v1/images/generations", { method: "POST", body }), 413, "invalid_request_error", "body_too_large");
  const put = await call("/v1/models", { method: "PROPFIND" });
  refused(put, 405, "invalid_request_error", "method_not_allowed");
  assert.match(put.headers.allow, /POST/);
  refused(await call("/v1/models?access_token=x"), 400, "invalid_request_error", "token_in_query");
  refused(await call("/v1//models"), 404, "not_found_error", "not_found");
  refused(await call("/v1/models", { host: "evil.example" }), 421, "invalid_request_error", "unknown_host");
});

test("an origin that is away is 502", async () => {
  const { reply } = origin;
  origin.reply = (sent) => sent.socket.destroy();
  try {
    refused(await call("/v1/models"), 502, "server_error", "origin_unreachable");
    assert.equal((await call("/api/images")).json().code, "origin_unreachable", "a problem everywhere else");
    assert.equal((await call("/v1")).headers["content-type"], "application/problem+json");
  } finally {
    origin.reply = reply;
  }
});

test("below /oauth refusals are those of RFC 6749", async () => {
  const told = async (target, options, status, error, code) => {
    const answer = await call(target, options);
    assert.deepEqual([answer.status, answer.headers["content-type"]], [status, "application/json"], code);
    const { error_description: description, ...rest } = answer.json();
    assert.deepEqual(rest, { error, code });
    assert.match(description, /^[ !#-[\]-~]+$/);
  };
  await told("/oauth/token?access_token=x", {}, 400, "invalid_request", "token_in_query");
  await told("/oauth/token", { method: "POST", body: Buffer.alloc(300 * 1024) }, 413, "invalid_request", "body_too_large");
  const { reply } = origin;
  origin.reply = (sent) => sent.socket.destroy();
  try {
    await told("/oauth/token", { method: "POST", body: "x" }, 502, "server_error", "origin_unreachable");
  } finally {
    origin.reply = reply;
  }
});
