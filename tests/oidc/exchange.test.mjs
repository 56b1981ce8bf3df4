// Clients exchange a trusted provider's token for one of ours (RFC 8693): with an issuer whose every token we make.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { constants, createHmac, createPublicKey, generateKeyPairSync, sign as signBytes } from "node:crypto";
import http from "node:http";
import { after, before, test } from "node:test";
import { NO_LIMITS, serve } from "../studio/harness.mjs";

const GRANT = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token";
const b64 = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
// Providers publish keys of several kinds under one id.
const kinds = {
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  ES384: generateKeyPairSync("ec", { namedCurve: "P-384" }),
  PS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  EdDSA: generateKeyPairSync("ed25519"),
};
kinds.RS512 = kinds.PS256;
const many = ["EdDSA", "ES384", "ES256", "PS256"].map((kind) => ({ ...kinds[kind].publicKey.export({ format: "jwk" }), kid: "many" }));
const encryption = { ...kinds.PS256.publicKey.export({ format: "jwk" }), kid: "many", use: "enc", n: "AQAB" };
const onlyPs256 = { ...kinds.PS256.publicKey.export({ format: "jwk" }), kid: "only", alg: "PS256" };
const stranger = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
const now = () => Math.floor(Date.now() / 1000);

let issuer, server, service, client;
before(async () => {
  server = http.createServer((request, answer) => {
    const documents = {
      "/.well-known/openid-configuration": { issuer, authorization_endpoint: `${issuer}/a`, token_endpoint: `${issuer}/t`, jwks_uri: `${issuer}/jwks` },
      "/jwks": { keys: [{ kty: "oct", k: "AAAA", kid: "../../k" }, { ...publicKey.export({ format: "jwk" }), kid: "k", use: "sig" }, encryption, ...many, onlyPs256] },
    };
    const found = documents[request.url];
    answer.writeHead(found ? 200 : 404, { "content-type": "application/json" }).end(JSON.stringify(found ?? {}));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  issuer = `http://127.0.0.1:${server.address().port}`;
  service = await serve({
    ...NO_LIMITS,
    SIGNET_LIMITS__TOKEN_ENDPOINT_CLIENT__PER_MINUTE: "6000",
    SIGNET_LIMITS__TOKEN_ENDPOINT_CLIENT__BURST: "1000",
    SIGNET_AUTH__PROVIDER__ISSUER: issuer,
    SIGNET_AUTH__PROVIDER__CLIENT_ID: "studio",
    SIGNET_AUTH__PROVIDER__AUDIENCES: '["app"]',
  });
  client = service.client(execFileSync);
});
after(async () => {
  await service?.stop();
  server?.closeAllConnections();
  await new Promise((done) => server?.close(done));
});

function token(claims = {}, header = {}, key = privateKey) {
  const signed = `${b64({ alg: "ES256", kid: "k", ...header })}.${b64({ iss: issuer, sub: "alice", aud: "app", iat: now(), exp: now() + 60, ...claims })}`;
  return `${signed}.${signBytes("sha256", Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

async function ask(fields) {
  const body = new URLSearchParams({ client_id: client.client_id, client_secret: client.client_secret, ...fields });
  const answer = await fetch(`${service.url}/oauth/token`, { method: "POST", body });
  return { status: answer.status, ...(await answer.json()) };
}
const exchange = (subject_token, more = {}) => ask({ grant_type: GRANT, subject_token, subject_token_type: ID_TOKEN, ...more });
const refresh = (refresh_token) => ask({ grant_type: "refresh_token", refresh_token });
const subject = (access) => JSON.parse(Buffer.from(access.split(".")[1], "base64url")).sub;

test("a_good_token_is_exchanged_for_ours_and_a_person_is_one_user", async () => {
  const one = await exchange(token());
  assert.equal(one.status, 200, JSON.stringify(one));
  assert.equal(one.issued_token_type, "urn:ietf:params:oauth:token-type:access_token");
  assert.match(subject(one.access_token), /^usr_[0-9a-f]{32}$/);
  assert.equal(subject((await exchange(token())).access_token), subject(one.access_token));
  assert.notEqual(subject((await exchange(token({ sub: "bob" }))).access_token), subject(one.access_token));
  const list = await fetch(`${service.url}/api/images`, { headers: { authorization: `Bearer ${one.access_token}` } });
  assert.equal(list.status, 200);
  assert.equal((await exchange(token({ aud: ["x", "app"] }), { scope: "images:read" })).scope, "images:read");
  assert.equal((await exchange(token(), { scope: "admin" })).error, "invalid_scope");
});

test("refresh_tokens_rotate_with_a_grace_and_reuse_kills_the_family", async () => {
  const first = (await exchange(token(), { scope: "images:read" })).refresh_token;
  const second = await refresh(first);
  assert.equal(second.scope, "images:read");
  const retried = await refresh(first);
  assert.equal(retried.refresh_token, second.refresh_token, "a retry gets the same successor");
  const third = await refresh(second.refresh_token);
  await new Promise((done) => setTimeout(done, 11_100));
  assert.equal((await refresh(first)).error, "invalid_grant", "used again later");
  assert.equal((await refresh(third.refresh_token)).error, "invalid_grant", "and with it the family");
});

test("of_several_keys_under_one_id_the_one_that_fits_the_algorithm_counts", async () => {
  const made = (alg, kid, claims = {}) => {
    const signed = `${b64({ alg, kid })}.${b64({ iss: issuer, sub: "alice", aud: "app", iat: now(), exp: now() + 60, ...claims })}`;
    const hash = alg === "EdDSA" ? null : `sha${alg.slice(2)}`;
    const pss = alg.startsWith("PS") && { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
    return `${signed}.${signBytes(hash, Buffer.from(signed), { key: kinds[alg].privateKey, dsaEncoding: "ieee-p1363", ...pss }).toString("base64url")}`;
  };
  for (const alg of Object.keys(kinds)) {
    const answer = await exchange(made(alg, "many"));
    assert.equal(answer.status, 200, `${alg}: ${JSON.stringify(answer)}`);
  }
  assert.equal((await exchange(made("PS256", "only"))).status, 200);
  assert.equal((await exchange(made("RS512", "only"))).status, 400, "a key that names its algorithm is for no other");
});

test("dates_with_fractions_and_repeated_audiences_are_read", async () => {
  const at = now();
  assert.equal((await exchange(token({ exp: at + 60.5, iat: at - 0.25, nbf: at - 1.75 }))).status, 200);
  assert.equal((await exchange(token({ exp: at - 3600.5 }))).status, 400);
  const body = new URLSearchParams({ client_id: client.client_id, client_secret: client.client_secret, grant_type: GRANT, subject_token: token(), subject_token_type: ID_TOKEN });
  for (const [name, value] of [["audience", "a"], ["resource", "https://a.example/"], ["audience", "b"], ["resource", "https://b.example/"]]) body.append(name, value);
  assert.equal((await fetch(`${service.url}/oauth/token`, { method: "POST", body })).status, 200);
  body.append("scope", "images:read");
  body.append("scope", "images:write");
  assert.equal((await (await fetch(`${service.url}/oauth/token`, { method: "POST", body })).json()).error, "invalid_request");
});

test("a_client_that_shows_its_secret_under_one_name_and_asks_under_another_is_refused", async () => {
  const basic = (fields) => fetch(`${service.url}/oauth/token`, {
    method: "POST", body: new URLSearchParams({ grant_type: "client_credentials", ...fields }),
    headers: { authorization: `Basic ${Buffer.from(`${client.client_id}:${client.client_secret}`).toString("base64")}` },
  });
  const other = service.client(execFileSync);
  const refused = await basic({ client_id: other.client_id });
  assert.deepEqual([refused.status, (await refused.json()).error], [400, "invalid_request"]);
  assert.equal((await basic({ client_id: client.client_id })).status, 200);
  assert.equal((await basic({})).status, 200);
});

test("an_issuer_that_spells_itself_otherwise_is_told_at_the_start", async () => {
  const settings = { ...NO_LIMITS, SIGNET_AUTH__PROVIDER__ISSUER: `${issuer}/`, SIGNET_AUTH__PROVIDER__CLIENT_ID: "studio" };
  await assert.rejects(serve(settings), (error) => error.message.includes(`"${issuer}/"`) && error.message.includes(`"${issuer}"`) && error.message.includes("auth.provider.issuer"));
  // One that is away says nothing about its name: the service starts.
  const away = await serve({ ...settings, SIGNET_AUTH__PROVIDER__ISSUER: "http://127.0.0.1:9" });
  await away.stop();
});

test("whatever_else_a_token_may_be_it_is_refused", async () => {
  const hmac = (header) => {
    const signed = `${b64(header)}.${b64({ iss: issuer, sub: "alice", aud: "app", iat: now(), exp: now() + 60 })}`;
    const secret = createPublicKey(privateKey).export({ format: "pem", type: "spki" });
    return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  };
  const good = token();
  const cases = {
    "another issuer": token({ iss: "https://evil.example" }),
    "another audience": token({ aud: "studio-of-others" }),
    "our studio's audience, which is not listed": token({ aud: "studio" }),
    "expired": token({ iat: now() - 7200, exp: now() - 3600 }),
    "from the future": token({ iat: now() + 3600, exp: now() + 7200 }),
    "not yet": token({ nbf: now() + 3600 }),
    "another's signature": token({}, {}, stranger),
    "no signature": `${b64({ alg: "none" })}.${good.split(".")[1]}.`,
    "the public key as a secret": hmac({ alg: "HS256", kid: "k" }),
    "an unknown key": token({}, { kid: "other" }),
    "a key id with path tricks": token({}, { kid: "../../k" }),
    "an access token": token({}, { typ: "at+jwt" }),
    "critical extensions": token({}, { crit: ["x"], x: 1 }),
    "another algorithm's name": token({}, { alg: "RS256" }),
    "no subject": token({ sub: "" }),
    "a number for a subject": token({ sub: 7 }),
    "huge": token({ pad: "x".repeat(20_000) }),
    "no token": "x",
    "one of ours": (await exchange(good)).access_token,
  };
  for (const [what, subject_token] of Object.entries(cases)) {
    const answer = await exchange(subject_token);
    assert.ok([400, 413].includes(answer.status) && !answer.access_token, `${what}: ${JSON.stringify(answer)}`);
  }
  assert.equal((await ask({ grant_type: GRANT, subject_token: good, subject_token_type: "urn:ietf:params:oauth:token-type:saml2" })).error, "invalid_request");
  assert.equal((await ask({ grant_type: GRANT, subject_token: good, subject_token_type: ID_TOKEN, actor_token: good })).error, "invalid_request");
});
