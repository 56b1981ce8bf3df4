// Access tokens at the edge: which reach the origin, how its keys are kept and rotated, and the limit `token`.
import assert from "node:assert/strict";
import { generateKeyPairSync, randomBytes, sign as signBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { request, sleep, startBucket, startEdge, startOrigin } from "./harness.mjs";
import { verify } from "./rfc9421.mjs";

const ISSUER = "https://api.example.com";
const AUDIENCE = "signet";
const now = () => Math.floor(Date.now() / 1000);
const b64 = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

function newKey(kid) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  return { kid, privateKey, jwk: { ...publicKey.export({ format: "jwk" }), use: "sig", alg: "EdDSA", kid } };
}
const jwks = (...keys) => ({ keys: keys.map((key) => key.jwk), issuer: ISSUER, audience: AUDIENCE });

/** A token as the origin makes them; `header` and `claims` change it. */
function tokenOf(key, { header = {}, claims = {} } = {}) {
  const head = { alg: "EdDSA", typ: "at+jwt", kid: key.kid, ...header };
  const body = {
    iss: ISSUER, aud: AUDIENCE, sub: "u", client_id: "c", jti: randomBytes(16).toString("base64url"),
    scope: "images:generate", iat: now(), exp: now() + 900, ...claims,
  };
  const signed = `${b64(head)}.${b64(body)}`;
  return `${signed}.${signBytes(null, Buffer.from(signed), key.privateKey).toString("base64url")}`;
}

let bucket;
before(async () => (bucket = await startBucket()));
after(() => bucket?.close());

async function withEdge({ keys, reply, ...options }, work) {
  const origin = await startOrigin(reply);
  let edge;
  try {
    origin.jwks = keys && jwks(...keys);
    edge = await startEdge({ bucket, origin, ...options });
    await work(edge, origin);
  } finally {
    await edge?.stop();
    await origin.close();
  }
}
const call = (edge, token, { target = "/api/images", method = "GET", from = "192.0.2.1", headers = {} } = {}) =>
  request(edge, target, {
    host: "api", method, from, headers: { ...(token !== undefined && { authorization: `Bearer ${token}` }), ...(method === "POST" && { "content-type": "application/json" }), ...headers },
    body: method === "POST" ? "{}" : undefined,
  });
const generate = (edge, token, options) => call(edge, token, { target: "/api/generate", method: "POST", ...options });

test("a_bad_token_is_turned_away_before_the_origin_sees_it", () => {
  const key = newKey("a");
  return withEdge({ keys: [key] }, async (edge, origin) => {
    assert.equal((await call(edge, tokenOf(key))).status, 200);
    assert.equal(origin.keyRequests.length, 1);
    assert.ok(verify(origin.keyRequests[0], edge.vars.EDGE_KEYS), "the edge signs its own questions too");
    const good = tokenOf(key);
    const [head, body, signature] = good.split(".");
    const bad = {
      "another key's signature": tokenOf({ ...newKey("a"), kid: "a" }),
      "another audience": tokenOf(key, { claims: { aud: "other" } }),
      "another issuer": tokenOf(key, { claims: { iss: "https://evil.example" } }),
      "past its time": tokenOf(key, { claims: { iat: now() - 1000, exp: now() - 1 } }),
      "from the future": tokenOf(key, { claims: { iat: now() + 600, exp: now() + 1200 } }),
      "too long a life": tokenOf(key, { claims: { exp: now() + 7200 } }),
      "no algorithm": tokenOf(key, { header: { alg: "none" } }),
      "another algorithm": tokenOf(key, { header: { alg: "HS256" } }),
      "another type": tokenOf(key, { header: { typ: "JWT" } }),
      "an unknown key": tokenOf(newKey("z")),
      "an extra claim": tokenOf(key, { claims: { admin: true } }),
      "a changed claim": `${head}.${b64(Buffer.from(body, "base64url").toString().replace('"u"', '"v"'))}.${signature}`,
      "no signature": `${head}.${body}.`,
      "a cut signature": good.slice(0, -1),
      "nonsense": "abc",
      "too long": "A".repeat(4000),
    };
    const seen = origin.requests.length;
    for (const [what, token] of Object.entries(bad)) {
      for (const answer of [await call(edge, token), await generate(edge, token, { from: `192.0.2.${what.length + 100}` })]) {
        assert.equal(answer.status, 401, what);
        assert.equal(answer.json().code, "unauthorized", what);
        assert.equal(answer.headers["www-authenticate"], 'Bearer realm="signet", error="invalid_token"');
        assert.equal(answer.headers["cache-control"], "no-store");
        assert.match(answer.headers["x-request-id"], /^[0-9a-f]{32}$/);
      }
    }
    assert.equal(origin.requests.length, seen, "the origin saw none of them");
    assert.ok(origin.keyRequests.length <= 2, "and was asked for no more than one newer set of keys");
    // A good one among them goes on, whatever the scheme's spelling; other schemes and no token are the origin's to judge.
    assert.equal((await call(edge, good)).status, 200);
    assert.equal((await call(edge, undefined, { headers: { authorization: `bearer  ${good}` } })).status, 200);
    assert.equal((await call(edge, undefined)).status, 200);
    assert.equal((await call(edge, "x", { target: "/oauth/introspect", method: "POST" })).status, 200);
    assert.doesNotMatch(edge.logs(), /edge: internal error|panicked/);
  });
});

test("without_keys_tokens_pass_and_the_origin_judges", () =>
  withEdge({}, async (edge, origin) => {
    assert.equal((await call(edge, "anything")).status, 200);
    for (let i = 0; i < 20; i += 1) await call(edge, "anything");
    assert.equal(origin.keyRequests.length, 1, "it is asked once in ten seconds");
    assert.equal((await generate(edge, tokenOf(newKey("a")))).status, 200);
    assert.equal(origin.last().headers["signet-decided"], "penalty-box=30/600", "the limit of the token is the origin's then");
    assert.match(edge.logs(), /public keys cannot be had/);
  }));

for (const [what, set] of Object.entries({
  "no JSON": "x", "no keys": { issuer: ISSUER, audience: AUDIENCE, keys: [] }, "no names": { keys: [newKey("a").jwk] },
  "other kinds of keys": { issuer: ISSUER, audience: AUDIENCE, keys: [{ kty: "RSA", kid: "a", n: "AQAB", e: "AQAB" }, null, 5] },
  "a broken key": { issuer: ISSUER, audience: AUDIENCE, keys: [{ kty: "OKP", crv: "Ed25519", kid: "a", x: "AA" }] },
})) {
  test(`a_jwks_with_${what.replaceAll(" ", "_")}_is_none`, () =>
    withEdge({}, async (edge, origin) => {
      origin.jwks = set;
      assert.equal((await call(edge, tokenOf(newKey("a")))).status, 200);
      assert.doesNotMatch(edge.logs(), /edge: internal error|panicked/);
    }));
}

test("a_new_key_is_found_by_its_first_token_and_made_up_ids_do_not_multiply_questions", () => {
  const [old, fresh] = [newKey("old"), newKey("new")];
  return withEdge({ keys: [old] }, async (edge, origin) => {
    assert.equal((await call(edge, tokenOf(old))).status, 200);
    origin.jwks = jwks(fresh, old);
    assert.equal((await call(edge, tokenOf(fresh))).status, 401, "asked a moment ago");
    for (let i = 0; i < 200; i += 1) assert.equal((await call(edge, tokenOf(newKey(`x${i}`)), { from: `192.0.2.${i}` })).status, 401);
    assert.ok(origin.keyRequests.length <= 2);
    await sleep(10_500);
    assert.equal((await call(edge, tokenOf(fresh))).status, 200);
    assert.equal((await call(edge, tokenOf(old))).status, 200, "the one before is still good");
    assert.ok(origin.keyRequests.length <= 3);
    const answer = origin.keyRequests.length;
    origin.jwks = null; // away: the keys at hand count
    await sleep(10_500);
    assert.equal((await call(edge, tokenOf(newKey("y")))).status, 401);
    assert.equal(origin.keyRequests.length, answer + 1);
    assert.equal((await call(edge, tokenOf(fresh))).status, 200);
  });
});

test("a_token_has_six_generations_at_once_and_the_seventh_waits_three_seconds", () => {
  const key = newKey("a");
  return withEdge({ keys: [key], objects: { TOKEN_LIMIT: "counted" } }, async (edge, origin) => {
    const claims = { jti: "one" };
    assert.equal((await call(edge, tokenOf(key))).status, 200, "whose coming makes the keys known");
    // Two tokens of one id count as one, from whatever address.
    const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => generate(edge, tokenOf(key, { claims: { ...claims, exp: now() + 600 + i } }), { from: `192.0.2.${i}` })));
    assert.equal(answers.filter((answer) => answer.status === 200).length, 6);
    const refused = answers.find((answer) => answer.status === 429);
    assert.equal(refused.headers.ratelimit, '"token";r=0;t=3');
    assert.equal(refused.headers["ratelimit-policy"], '"token";q=6;w=18');
    assert.equal(refused.headers["retry-after"], "3");
    assert.equal(refused.json().code, "rate_limited");
    assert.equal(origin.last().headers["signet-decided"], "penalty-box=30/600 token=20/5");
    assert.equal((await generate(edge, tokenOf(key, { claims: { jti: "two" } }))).status, 200, "another token is another count");
    assert.equal((await call(edge, tokenOf(key, { claims }))).status, 200, "other routes are not charged");
    const forged = tokenOf({ ...newKey("a"), kid: "a" }, { claims: { jti: "three" } });
    for (let i = 0; i < 10; i += 1) assert.equal((await generate(edge, forged, { from: `192.0.2.${i + 50}` })).status, 401);
    assert.equal(edge.logs().split("object asked: TOKEN_LIMIT").length - 1, 11, "who cannot sign charges nobody");
    await sleep(3_100);
    assert.equal((await generate(edge, tokenOf(key, { claims }))).status, 200);
    assert.equal((await generate(edge, tokenOf(key, { claims }))).status, 429);
  });
});

test("what_the_origin_did_not_charge_is_given_back", () => {
  const key = newKey("a");
  let charged = "0";
  const reply = (request, answer) => {
    if (charged === "drop") return request.socket.destroy();
    answer.writeHead(charged === "0" ? 422 : 200, charged === "1" ? {} : { "signet-charged": charged });
    answer.end("{}");
  };
  return withEdge({ keys: [key], reply }, async (edge) => {
    const token = tokenOf(key);
    let address = 1;
    const one = () => generate(edge, token, { from: `192.0.2.${address++}` });
    for (let i = 0; i < 20; i += 1) {
      const answer = await one();
      assert.equal(answer.status, 422, `refused by the origin, number ${i}`);
      assert.equal(answer.headers["signet-charged"], undefined, "which is between the two");
      await sleep(20); // it is given back after the answer
    }
    charged = "drop";
    for (let i = 0; i < 10; i += 1) {
      assert.equal((await one()).status, 502);
      await sleep(20);
    }
    // What does not pass the edge's later checks costs nothing either.
    for (let i = 0; i < 10; i += 1) {
      const answer = await request(edge, "/api/generate", { host: "api", method: "POST", from: `192.0.2.${address++}`, headers: { authorization: `Bearer ${token}` }, body: "x".repeat(300_000) });
      assert.equal(answer.status, 413);
      await sleep(20);
    }
    charged = "1";
    const statuses = [];
    for (let i = 0; i < 8; i += 1) statuses.push((await one()).status);
    assert.deepEqual(statuses.slice(0, 6), [200, 200, 200, 200, 200, 200], "all six were still there");
    assert.ok(statuses.includes(429));
  });
});

for (const mode of ["failing", "broken", "hanging"]) {
  test(`while_the_object_of_tokens_is_${mode}_the_origin_decides`, () => {
    const key = newKey("a");
    return withEdge({ keys: [key], objects: { TOKEN_LIMIT: mode } }, async (edge, origin) => {
      const token = tokenOf(key);
      for (let i = 0; i < (mode === "hanging" ? 1 : 10); i += 1) {
        assert.equal((await generate(edge, token)).status, 200);
        assert.equal(origin.last().headers["signet-decided"], "penalty-box=30/600");
      }
      assert.match(edge.logs(), /the limit of tokens fails, the origin decides/);
    });
  });
}
