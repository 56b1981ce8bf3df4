// Mistakes of published schemes, each tried on a scheme that makes it and on ours, on the same runtime: what opens there
// must not open here.
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { request, sign, startBucket, startEdge } from "./harness.mjs";

const now = () => Math.floor(Date.now() / 1000);
let bucket, ours, theirs;
before(async () => {
  bucket = await startBucket();
  for (const key of ["generated/u/a", "generated/u/a1", "generated/u/a:b"]) bucket.put(key, randomBytes(50));
  ours = await startEdge({ bucket, vars: { LIMITS: "off" } });
  theirs = await startEdge({ bucket, build: "../../scripts/bench.d/js-worker" }); // path + expiry, parseInt, hex
});
after(async () => {
  await Promise.all([ours.stop(), theirs.stop()]);
  await bucket.close();
});
const mac = (edge, input) => createHmac("sha256", edge.vars.LINK_KEYS).update(input);
const theirLink = (path, exp) => `${path}?exp=${exp}&sig=${mac(theirs, path + exp).digest("hex")}`;
const status = async (edge, target) => (await request(edge, target)).status;

test("a character does not wander from the path into the expiry", async () => {
  const exp = now() + 60;
  const link = theirLink("/generated/u/a1", exp);
  assert.equal(await status(theirs, link), 200);
  assert.equal(await status(theirs, link.replace("a1?exp=", "a?exp=1")), 200, "theirs: another picture, for centuries");
  const good = sign(ours, "generated/u/a1", { exp });
  assert.equal(await status(ours, good), 200);
  assert.equal(await status(ours, good.replace("a1?exp=", "a?exp=1")), 403);
});

test("a character does not wander from the path into the address", async () => {
  const secureLink = (path, ip) => mac(theirs, path + ip).digest("hex"); // as the example of nginx joins them
  assert.equal(secureLink("/generated/u/a1", "27.0.0.1"), secureLink("/generated/u/a", "127.0.0.1"));
  const good = sign(ours, "generated/u/a1", { ip: "27.0.0.1" });
  assert.equal((await request(ours, good, { from: "27.0.0.1" })).status, 200);
  const moved = good.replace("a1?", "a?").replace("ip=27", "ip=127");
  assert.equal((await request(ours, moved, { from: "127.0.0.1" })).json().code, "bad_signature");
});

test("a link has one spelling, a whole signature and no room for more", async () => {
  /** Decodes like Buffer, compares as much as it is given, leaves the query out and undoes escapes first. */
  const lenient = (edge, target) => {
    const [path, query] = target.split("?");
    const given = Buffer.from(/sig=([^&]*)/.exec(query)[1], "base64");
    const wanted = mac(edge, decodeURIComponent(path).replaceAll("\n", "")).digest();
    return given.equals(wanted.subarray(0, given.length)) && given.length > 0;
  };
  const path = "/generated/u/a";
  const their = `${path}?sig=${mac(theirs, path).digest("base64url")}`;
  const good = sign(ours, "generated/u/a");
  assert.ok(lenient(theirs, their));
  assert.equal(await status(ours, good), 200);
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const variants = {
    "unused bits of the last character": (link) => link.replace(/.$/, (last) => alphabet[alphabet.indexOf(last) ^ 1]),
    "padding": (link) => `${link}=`,
    "a cut signature": (link) => link.replace(/sig=(..).*/, "sig=$1"),
    "an escaped letter": (link) => link.replace("generated", "%67enerated"),
    "a line feed in the path": (link) => link.replace("/u/", "%0A/u/"),
    "a parameter more": (link) => `${link}&width=1`,
  };
  for (const [name, change] of Object.entries(variants)) {
    assert.ok(lenient(theirs, change(their)), `the lenient scheme takes ${name}`);
    assert.equal(await status(ours, change(good)), 400, name);
  }
  // No refusal tells, to anybody or to the log, what the signature would have been.
  const sig = /sig=(.*)$/.exec(good)[1];
  const refused = await request(ours, good.replace(/sig=.{4}/, "sig=AAAA"));
  assert.equal(refused.status, 403);
  assert.ok(!refused.body.includes(sig) && !ours.logs().includes(sig));
});

test("an edge without a key opens nothing", async () => {
  const edge = await startEdge({ bucket, vars: { LINK_KEYS: "" } });
  try {
    for (const target of ["/generated/u/a", sign(ours, "generated/u/a")]) assert.equal(await status(edge, target), 503);
  } finally {
    await edge.stop();
  }
});

test("an expiry that is no number never fails open, even under a good signature", async () => {
  for (const exp of ["NaN", "never", `${now() + 60}x`, "1e99"]) {
    const opened = await status(theirs, theirLink("/generated/u/a", exp));
    assert.equal(opened, exp === "1e99" ? 410 : 200, `theirs, ${exp}`);
    assert.equal(await status(ours, sign(ours, "generated/u/a", { exp })), 400, exp);
  }
});
