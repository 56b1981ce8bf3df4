// Revocations at the edge: who may say what is revoked, how it takes effect, and what happens while nobody says so.
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, randomBytes, sign as signBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { newKey, request, sign, sleep, startBucket, startEdge, startOrigin } from "./harness.mjs";
import { PATH, Revoked, put } from "./revoked.mjs";
import { signPut } from "./rfc9421.mjs";

const now = () => Math.floor(Date.now() / 1000);
const text = (at, ...lines) => [`signet-revoked-v1 ${at * 1000}`, ...lines].map((line) => `${line}\n`).join("");
let bucket, origin;
before(async () => {
  bucket = await startBucket();
  origin = await startOrigin();
  for (const owner of ["good", "bad", "old"]) bucket.put(`generated/${owner}/a.png`, randomBytes(100));
});
after(() => Promise.all([bucket.close(), origin.close()]));

const open = async (edge, owner, params, options) => {
  const answer = await request(edge, sign(edge, `generated/${owner}/a.png`, params), options);
  return answer.status === 200 ? 200 : answer.json().code;
};
const ISSUER = "https://api.example.com";
function newSigner(kid) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  return { kid, privateKey, jwk: { ...publicKey.export({ format: "jwk" }), use: "sig", alg: "EdDSA", kid } };
}
/** An access token as the origin makes them; `claims` change it. */
function tokenOf(key, claims) {
  const b64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = { iss: ISSUER, aud: "signet", sub: "u", client_id: "c", jti: randomBytes(16).toString("base64url"), scope: "images:read", iat: now(), exp: now() + 900, ...claims };
  const signed = `${b64({ alg: "EdDSA", typ: "at+jwt", kid: key.kid })}.${b64(body)}`;
  return `${signed}.${signBytes(null, Buffer.from(signed), key.privateKey).toString("base64url")}`;
}
async function withEdge(vars, work, options = {}) {
  const edge = await startEdge({ bucket, origin, vars, revocations: true, ...options });
  try {
    await work(edge);
  } finally {
    await edge.stop();
  }
}

test("a_snapshot_closes_suspended_owners_older_epochs_and_single_links", () =>
  withEdge({}, async (edge) => {
    const [one, other] = [sign(edge, "generated/good/a.png", { dl: "x.png" }), sign(edge, "generated/good/a.png")];
    const print = createHash("sha256").update(/sig=(.*)$/.exec(one)[1]).digest("hex").slice(0, 32);
    const answer = await put(edge, text(now(), "epoch old 3", `link ${print} ${now() + 600}`, "suspended bad"));
    assert.equal(answer.status, 204, answer.body.toString());
    assert.equal((await request(edge, one)).json().code, "link_revoked");
    assert.equal((await request(edge, other)).status, 200);
    assert.equal(await open(edge, "bad"), "link_revoked");
    assert.equal(await open(edge, "old"), "link_revoked");
    assert.equal(await open(edge, "old", { ep: 2 }), "link_revoked");
    assert.equal(await open(edge, "old", { ep: 3 }), 200);
    assert.equal(origin.requests.length, 0, "the snapshot is not the origin's to see");
  }));

test("without_a_snapshot_of_the_last_minute_links_close_unless_the_operator_said_otherwise", () =>
  Promise.all([
    withEdge({}, async (edge) => {
      assert.equal(await open(edge, "good"), "link_revoked");
      assert.equal((await put(edge, text(now() - 61, "suspended bad"))).status, 204);
      assert.equal(await open(edge, "good"), "link_revoked");
      assert.equal((await put(edge, text(now() - 55, "suspended bad"))).status, 204);
      assert.equal(await open(edge, "good"), 200);
    }),
    withEdge({ REVOCATION: "open" }, async (edge) => {
      assert.equal(await open(edge, "good"), 200);
      assert.equal((await put(edge, text(now() - 3000, "suspended bad"))).status, 204);
      assert.equal(await open(edge, "good"), 200);
      assert.equal(await open(edge, "bad"), "link_revoked", "what was known stays closed");
    }),
  ]));

test("only_the_origin_says_what_is_revoked_and_never_backwards", () =>
  withEdge({}, async (edge) => {
    const at = now();
    const good = text(at, "suspended bad");
    const signed = (body, { ring = edge.vars.EDGE_KEYS, path = PATH, created } = {}) => signPut(ring, edge.vars.API_HOST, path, body, created);
    assert.equal((await put(edge, good)).status, 204);
    const forged = [
      {},
      { ...signed(good), signature: "signet=:AAAA:" },
      signed(good, { ring: `e1:${newKey()}` }),
      signed(good, { ring: `e9:${newKey()}` }),
      signed(good, { path: "/api/images" }),
      signed(good, { created: at - 40 }),
      signed(text(at + 1)),
    ];
    for (const headers of forged) {
      const answer = await put(edge, good, headers);
      assert.equal(answer.status, 403, JSON.stringify(headers));
      assert.equal(answer.json().code, "edge_only");
    }
    // An older snapshot, sent again by whoever recorded it, frees nobody.
    assert.equal((await put(edge, text(at - 1))).status, 204);
    assert.equal(await open(edge, "bad"), "link_revoked");
    for (const bad of ["", "x", text(at + 5, "free bad"), text(at + 5).trim()]) {
      assert.ok([400, 413].includes((await put(edge, bad)).status), bad);
    }
    const huge = text(at + 5, ...Array.from({ length: 20_000 }, (_, i) => `suspended ${"u".repeat(50)}${i}`));
    assert.equal((await put(edge, huge)).json().code, "body_too_large");
    assert.equal((await request(edge, PATH, { host: "api" })).status, 405);
    assert.equal((await request(edge, PATH)).json().code, "bad_signature", "on the images host it is a link like any other");
  }));

test("while_the_object_is_away_the_last_snapshot_stays_in_force", () =>
  withEdge({}, async (edge) => {
    // Already 35 s old: no longer fresh, so that the isolate asks again at once, and gets nothing.
    assert.equal((await put(edge, text(now() - 35, "suspended bad", "epoch old 3"))).status, 204);
    for (let i = 0; i < 4; i += 1) {
      assert.equal(await open(edge, "bad"), "link_revoked");
      assert.equal(await open(edge, "good"), 200);
      assert.equal(await open(edge, "old", { ep: 3 }), "link_revoked", "a second look that fails closes what it is about, and nothing else");
      await sleep(400);
    }
    assert.match(edge.logs(), /revocations do not answer: the object is away/);
  }, { revocations: "failing" }));

test("an_origin_tells_pages_that_differ_and_every_kind_closes_what_it_names", () =>
  withEdge({}, async (edge) => {
    const key = newSigner("a");
    const token = (claims) => ({ host: "api", headers: { authorization: `Bearer ${tokenOf(key, claims)}` } });
    const call = async (claims, from = "192.0.2.1") => {
      const answer = await request(edge, "/api/images", { ...token(claims), from });
      return answer.status === 200 ? 200 : answer.json().code;
    };
    origin.jwks = { keys: [key.jwk], issuer: ISSUER, audience: "signet" };
    const soon = { ends: now() + 600 };
    const revoked = new Revoked()
      .set("suspended", "bad").set("epoch", "old", { value: 3 }).set("client", "c_bad", soon).set("token", "t_bad", soon)
      .set("address", "198.51.100.7", soon).set("address", "2001:db8:0:1::/64", soon).set("address", "2001:db8:5::/48", soon)
      .set("suspended", "over", { ends: now() - 1 });
    bucket.put("generated/over/a.png", randomBytes(100));
    assert.equal((await revoked.tell(edge)).pages, new Set(revoked.pages.keys()).size);
    assert.equal(await open(edge, "bad"), "link_revoked");
    assert.equal(await open(edge, "over"), 200, "what has ended closes nothing");
    assert.deepEqual([await open(edge, "old", { ep: 2 }), await open(edge, "old", { ep: 3 })], ["link_revoked", 200]);
    assert.equal(await open(edge, "good"), 200);
    for (const [from, wanted] of [["198.51.100.7", 0], ["198.51.100.8", 200], ["2001:db8:0:1::9", 0], ["2001:db8:0:2::9", 200], ["2001:db8:5:77::9", 0]]) {
      assert.equal(await open(edge, "good", {}, { from }), wanted || "link_revoked", from);
      assert.equal(await call({}, from), wanted || "address_revoked", from);
    }
    assert.equal(await call({}), 200);
    assert.equal(await call({ sub: "bad" }), "suspended");
    assert.equal(await call({ client_id: "c_bad" }), "unauthorized");
    assert.equal(await call({ jti: "t_bad" }), "unauthorized");
    assert.equal(await call({ sub: "old" }), 200, "an epoch is about links");
    // Told again it is one message; one change is one page more, and what is let go opens.
    assert.deepEqual(await revoked.tell(edge), { messages: 1, pages: 0, bytes: 0 });
    revoked.remove("suspended", "bad");
    assert.equal((await revoked.tell(edge)).pages, 1);
    await sleep(10_500);
    assert.equal(await open(edge, "bad"), 200);
    assert.equal(await call({ sub: "bad" }), 200);
    assert.equal(await call({ client_id: "c_bad" }), "unauthorized", "the rest stays");
  }));

test("older_or_foreign_pages_change_nothing", () =>
  withEdge({}, async (edge) => {
    const at = Date.now();
    const revoked = new Revoked().set("suspended", "bad");
    await revoked.tell(edge, at);
    const [page] = revoked.pages.keys();
    const without = (taken, root) => put(edge, `signet-revoked-v2 ${taken} ${root}\npage ${page}\n`);
    assert.equal((await without(at - 1, "more")).status, 204);
    assert.equal((await without(at, new Revoked().root())).status, 204);
    assert.equal(await open(edge, "bad"), "link_revoked");
    // Pages that do not make what the origin says is all confirm nothing, and are told back.
    const wrong = await put(edge, `signet-revoked-v2 ${at + 5} ${"0".repeat(32)}\n`);
    assert.equal(wrong.status, 409);
    assert.equal(wrong.body.toString(), `${revoked.digests()[0]}\n`);
    for (const bad of [
      `signet-revoked-v2 ${at + 9} less\n`,
      `signet-revoked-v2 ${at + 9} more\npage 4096\n`,
      `signet-revoked-v2 ${at + 9} more\npage ${(page + 1) % 4096}\nsuspended bad 0 9\n`,
      `signet-revoked-v2 ${at + 9} more\npage ${page}\nallowed bad 0 9\n`,
      `signet-revoked-v3 ${at + 9} more\n`,
    ]) {
      const answer = await put(edge, bad);
      assert.deepEqual([answer.status, answer.json().code], [400, "malformed_snapshot"], bad);
    }
  }));

test("a_million_suspended_owners_close_their_links_and_nobody_elses", { timeout: 300_000 }, (t) =>
  withEdge({}, async (edge) => {
    const many = Number(process.env.SIGNET_TEST_REVOCATIONS ?? 1_000_000);
    const revoked = new Revoked();
    for (let n = 0; n < many; n += 1) revoked.set("suspended", `usr_${n.toString(16)}`);
    const owners = [0, 1, many >> 1, many - 1].map((n) => `usr_${n.toString(16)}`);
    const good = Array.from({ length: 40 }, (_, n) => `good_${n}`);
    for (const owner of [...owners, ...good]) bucket.put(`generated/${owner}/a.png`, randomBytes(100));
    let from = Date.now();
    const all = await revoked.tell(edge, from);
    t.diagnostic(`${many} told in ${Date.now() - from} ms, ${all.messages} messages, ${all.bytes} bytes`);
    from = Date.now();
    await revoked.tell(edge);
    t.diagnostic(`told again in ${Date.now() - from} ms`);
    from = Date.now();
    assert.equal(await open(edge, good[0]), 200);
    t.diagnostic(`the first link of an isolate, with its fetch of the filter: ${Date.now() - from} ms`);
    for (const owner of good) assert.equal(await open(edge, owner), 200, owner);
    for (const owner of owners) assert.equal(await open(edge, owner), "link_revoked", owner);
    revoked.remove("suspended", owners[1]);
    const one = await revoked.set("suspended", good[1]).tell(edge);
    assert.ok(one.pages <= 2 && one.bytes < 100_000, JSON.stringify(one));
    await sleep(10_500);
    from = Date.now();
    assert.equal(await open(edge, owners[1]), 200);
    assert.equal(await open(edge, good[1]), "link_revoked");
    t.diagnostic(`two changes, fetched and asked about: ${Date.now() - from} ms`);
    assert.ok(!/revocations (failed|do not answer|answered)/.test(edge.logs()), edge.logs());
  }));
