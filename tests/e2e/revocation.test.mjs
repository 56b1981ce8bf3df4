// Revocations on real parts: the operator's commands, the service that repeats them, the Worker in plain workerd.
import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { ROOT, request, sign, sleep, startBucket, startEdge } from "../edge/harness.mjs";

const BIN = process.env.SIGNET_BIN ?? path.join(ROOT, "target/release/signet");
const run = promisify(execFile);
let bucket, edge, folder, env, origin;

before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-revocation-"));
  bucket = await startBucket();
  edge = await startEdge({ bucket, revocations: true, quotas: { LINKS: 1_000_000 } });
  env = {
    PATH: process.env.PATH, HOME: process.env.HOME,
    SIGNET_SERVER__BIND: "127.0.0.1:0", SIGNET_SERVER__OPERATOR_BIND: "127.0.0.1:0", SIGNET_SERVER__READY_FILE: path.join(folder, "ready"),
    SIGNET_SERVER__URL: `http://${edge.vars.API_HOST}`, SIGNET_IMAGES__URL: `http://${edge.vars.IMAGES_HOST}`, SIGNET_IMAGES__DELIVER: "false",
    SIGNET_IMAGES__KEYS: edge.vars.LINK_KEYS, SIGNET_EDGE__REQUIRE: "true", SIGNET_EDGE__KEYS: edge.vars.EDGE_KEYS,
    SIGNET_STATE__FILE: path.join(folder, "state.sqlite"), SIGNET_STORAGE__FOLDER: path.join(folder, "objects"),
    SIGNET_INFER__MODELS: JSON.stringify([path.join(ROOT, "tests/goldens/engine/model")]),
  };
  for (const owner of ["u1", "u2"]) await run(BIN, ["client", "add", "--user", owner, "--scopes", "images:read"], { env, cwd: folder });
  origin = spawn(BIN, ["serve"], { env, cwd: folder, stdio: "ignore" });
  for (const owner of ["u1", "u2"]) bucket.put(`generated/${owner}/a.png`, randomBytes(100));
});
after(async () => {
  origin?.kill("SIGKILL");
  await edge?.stop();
  await bucket?.close();
  fs.rmSync(folder, { recursive: true, force: true });
});

const status = async (link) => (await request(edge, link)).status;
/** Runs a command of the operator; seconds until the link answers so. */
async function until(link, wanted, ...command) {
  const { stderr } = command.length ? await run(BIN, command, { env, cwd: folder }) : { stderr: "" };
  const from = Date.now();
  for (let got; (got = await status(link)) !== wanted; ) {
    assert.ok(Date.now() - from < 40_000, `still ${got} and not ${wanted} after ${command.join(" ")}: ${stderr}`);
    await sleep(50);
  }
  if (command.length) assert.match(stderr, /the edge was told/);
  return (Date.now() - from) / 1000;
}

test("revocations_take_effect_within_thirty_seconds_with_the_origin_up_and_down", { timeout: 240_000 }, async (t) => {
  const [one, other] = [sign(edge, "generated/u1/a.png"), sign(edge, "generated/u2/a.png")];
  assert.equal(await status(one), 403, "nothing opens before the origin said what is revoked");
  await until(one, 200);
  const up = await until(one, 403, "user", "suspend", "u1");
  assert.equal(await status(other), 200);
  await until(one, 200, "user", "resume", "u1");
  origin.kill("SIGKILL");
  const down = await until(other, 403, "link", "revoke", `http://${edge.vars.IMAGES_HOST}${other}`);
  const again = sign(edge, "generated/u2/a.png", { dl: "b.png" });
  assert.equal(await status(again), 200, "the owner's other links still open");
  await until(again, 403, "user", "revoke-links", "u2");
  assert.equal(await status(sign(edge, "generated/u2/a.png", { ep: 1 })), 200);
  for (const seconds of [up, down]) assert.ok(seconds <= 30, `${seconds} s`);
  t.diagnostic(`from the command to the first refusal: ${up} s with the origin up, ${down} s with it down`);
});

test("what_is_not_our_link_cannot_be_revoked", async () => {
  const link = sign(edge, "generated/u1/a.png");
  await assert.rejects(run(BIN, ["link", "revoke", link.replace("sig=", "sig=A")], { env, cwd: folder }));
  await assert.rejects(run(BIN, ["link", "revoke", "/x"], { env, cwd: folder }));
});

/** Suspends `many` users in the state file at once, as so many calls of the program would. */
const SUSPEND = `
import hashlib, sqlite3, sys
file, many = sys.argv[1], int(sys.argv[2])
NEVER = 253402300799
def sha(text): return hashlib.sha256(text.encode()).digest()
def rows():
    for n in range(many):
        name = f"usr_{n:x}"
        yield "suspended", name, 0, NEVER, int.from_bytes(sha(f"owner {name}")[:2], "big") >> 4, int.from_bytes(sha(f"suspended {name} 0 {NEVER}")[:8], "big") >> 1
with sqlite3.connect(file, timeout=60) as state:
    state.executemany("INSERT INTO users (id, suspended) VALUES (?, 1)", ((f"usr_{n:x}",) for n in range(many)))
    state.executemany("INSERT INTO revoked (kind, name, value, ends, page, digest) VALUES (?, ?, ?, ?, ?, ?)", rows())
`;

test("however_many_are_suspended_the_edge_is_told_and_opens_for_the_others", { timeout: 280_000 }, async (t) => {
  const many = Number(process.env.SIGNET_TEST_REVOCATIONS ?? 150_000);
  origin.kill("SIGKILL");
  execFileSync("python3", ["-c", SUSPEND, path.join(folder, "state.sqlite"), String(many)], { stdio: "inherit" });
  for (const owner of ["usr_0", `usr_${(many - 1).toString(16)}`, "innocent"]) bucket.put(`generated/${owner}/a.png`, randomBytes(100));
  const from = Date.now();
  origin = spawn(BIN, ["serve"], { env, cwd: folder, stdio: "ignore" });
  const [first, last, innocent] = ["usr_0", `usr_${(many - 1).toString(16)}`, "innocent"].map((owner) => sign(edge, `generated/${owner}/a.png`));
  // More than an origin tells at once. The minute after which an edge that nobody tells anything closes, and some more.
  let opened = 0;
  while (Date.now() - from < 75_000) {
    opened += (await status(innocent)) === 200;
    await sleep(500);
  }
  assert.equal(await status(innocent), 200);
  assert.ok(opened > 100, `${opened}`);
  assert.deepEqual([await status(first), await status(last)], [403, 403]);
  const freed = await until(first, 200, "user", "resume", "usr_0");
  t.diagnostic(`${many} suspended; one let in again after ${freed} s`);
});
