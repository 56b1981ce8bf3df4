// Revocations at the edge: who may say what is revoked, how it takes effect, and what happens while nobody says so.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { newKey, request, sign, sleep, startBucket, startEdge, startOrigin } from "./harness.mjs";
import { signPut } from "./rfc9421.mjs";

const PATH = "/.signet/revocations";
const now = () => Math.floor(Date.now() / 1000);
const text = (at, ...lines) => [`signet-revoked-v1 ${at * 1000}`, ...lines].map((line) => `${line}\n`).join("");
let bucket, origin;
before(async () => {
  bucket = await startBucket();
  origin = await startOrigin();
  for (const owner of ["good", "bad", "old"]) bucket.put(`generated/${owner}/a.png`, randomBytes(100));
});
after(() => Promise.all([bucket.close(), origin.close()]));

const put = (edge, body, headers = signPut(edge.vars.EDGE_KEYS, edge.vars.API_HOST, PATH, body)) =>
  request(edge, PATH, { host: "api", method: "PUT", headers, body });
const open = async (edge, owner, params) => {
  const answer = await request(edge, sign(edge, `generated/${owner}/a.png`, params));
  return answer.status === 200 ? 200 : answer.json().code;
};
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
    assert.equal((await put(edge, text(now() - 35, "suspended bad"))).status, 204);
    for (let i = 0; i < 4; i += 1) {
      assert.equal(await open(edge, "bad"), "link_revoked");
      assert.equal(await open(edge, "good"), 200);
      await sleep(400);
    }
    assert.match(edge.logs(), /revocations do not answer: the object is away/);
  }, { revocations: "failing" }));
