// A link key is rotated while 500 links a second are opened at an edge of two places, which learn of the new keyring one
// after the other: no good link is refused; after the retirement no old one opens.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ROOT, newKey, request, sign, sleep, startBucket, startEdge } from "./harness.mjs";

const SIGNET = process.env.SIGNET_BIN ?? path.join(ROOT, "target/debug/signet"); // cargo test --workspace --no-run
const A_SECOND = 500;
const KEY = "generated/u/a.png";

test("a rotation under 500 links a second refuses no good one", { timeout: 120_000 }, async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-rotation-"));
  const ring = path.join(folder, "ring");
  fs.writeFileSync(ring, `k1:${newKey()}`, { mode: 0o600 });
  const bucket = await startBucket();
  bucket.put(KEY, randomBytes(1000));
  const start = () => startEdge({ bucket, vars: { LINK_KEYS: fs.readFileSync(path.join(folder, "given"), "utf8"), LIMITS: "off" } });
  fs.copyFileSync(ring, path.join(folder, "given"));
  const places = [await start(), await start()];
  const retired = [];
  const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
  // The operator's command: it ends when every place has what it was given, one after the other.
  const command = `cat >'${folder}/given' && touch '${folder}/wanted' && while [ -e '${folder}/wanted' ]; do sleep 0.1; done`;
  let ended = false;
  const deployer = (async () => {
    while (!ended) {
      if (fs.existsSync(path.join(folder, "wanted"))) {
        for (const at of [0, 1]) {
          const next = await start();
          retired.push(places[at]); // requests under way are finished there
          places[at] = next;
          await sleep(1000);
        }
        fs.rmSync(path.join(folder, "wanted"));
      }
      await sleep(50);
    }
  })();
  const signet = (...more) => promisify(execFile)(SIGNET, ["keys", "rotate", "--edge", command, "--wait", "0", ...more], {
    cwd: folder,
    env: { PATH: process.env.PATH, SIGNET_IMAGES__KEYS_FILE: ring },
  });
  const counts = { k1: 0, k2: 0 };
  const refused = [];
  let pending = 0;
  const kept = sign({ vars: { LINK_KEYS: fs.readFileSync(ring, "utf8") } }, KEY, { dl: "kept.png" });
  const open = async (target, place) => {
    pending += 1;
    const answer = await request(place, target, { agent }).catch((error) => ({ status: error.message }));
    pending -= 1;
    if (answer.status === 200) counts[/kid=([a-z0-9]+)/.exec(target)[1]] += 1;
    else refused.push(`${answer.status} ${target}`);
  };
  let sent = 0;
  const from = Date.now();
  // Signs as the origin does: with the first key of the file as it stands. Every fourth link is the one from before.
  const traffic = setInterval(() => {
    for (; sent < ((Date.now() - from) / 1000) * A_SECOND; sent += 1) {
      const target = sent % 4 ? sign({ vars: { LINK_KEYS: fs.readFileSync(ring, "utf8") } }, KEY) : kept;
      open(target, places[sent % 2]);
    }
  }, 10);
  try {
    await sleep(1000);
    await signet("--kid", "k2");
    await sleep(1000);
    clearInterval(traffic);
    const seconds = (Date.now() - from) / 1000;
    while (pending > 0) await sleep(20);
    assert.deepEqual(refused, []);
    assert.ok(counts.k1 > 500 && counts.k2 > 500, JSON.stringify(counts));
    assert.ok((counts.k1 + counts.k2) / seconds > 0.9 * A_SECOND, `${(counts.k1 + counts.k2) / seconds} a second`);
    await assert.rejects(signet("--retire", "k1"), /may live until/);
    await signet("--retire", "k1", "--now");
    for (const place of places) {
      assert.equal((await request(place, kept)).json().code, "bad_signature");
      assert.equal((await request(place, sign(place, KEY))).status, 200);
    }
  } finally {
    clearInterval(traffic);
    ended = true;
    await deployer;
    agent.destroy();
    await Promise.all([...places, ...retired].map((edge) => edge.stop()));
    await bucket.close();
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
