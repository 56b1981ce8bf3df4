// The rows of the Durable Objects on the real SQLite: how large the file is, that rows have a bound and which go first,
// and that what has ended is forgotten down to the last byte.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { ROOT, WORKERD, listen, sleep } from "./harness.mjs";

/** What SQLite may take for a row beside key and record; shared/src/penalty/stored.rs counts with the same. */
const ROW = 40;
const KEY = 8;

const WORKER = `
import { Rows } from "./objects.js";
const keyOf = (i) => {
  const key = new Uint8Array(${KEY});
  const view = new DataView(key.buffer);
  view.setUint32(0, Math.imul(i, 2654435761) >>> 0); // as spread as addresses are
  view.setUint32(4, i);
  return key;
};
export class Filled extends Rows {
  async fetch(request) {
    const { begin, count, bytes, ends, forget, look } = await request.json();
    for (let i = begin; i < begin + (count ?? 0); i += 1) this.write(keyOf(i), new Uint8Array(bytes).fill(i), ends);
    if (count) await this.wake();
    if (forget) await this.alarm();
    const { rows } = this.sql.exec("SELECT count(*) AS rows FROM rows").one();
    const row = look === undefined ? undefined : this.read(keyOf(look));
    return Response.json({ rows, size: this.sql.databaseSize, row: row && [...row], alarm: await this.state.storage.getAlarm() });
  }
}
export default {
  fetch: (request, env) => env.FILLED.get(env.FILLED.idFromName(new URL(request.url).pathname)).fetch(request),
};`;

test("an object's file is as small as documented, bounded, and empty when all has ended", { timeout: 120_000 }, async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-rows-"));
  const probe = await listen(net.createServer());
  const { port } = probe;
  await probe.close();
  fs.mkdirSync(path.join(folder, "state"));
  fs.copyFileSync(path.join(ROOT, "edge/objects.js"), path.join(folder, "objects.js"));
  fs.writeFileSync(path.join(folder, "index.js"), WORKER);
  fs.writeFileSync(path.join(folder, "edge_bg.js"), "");
  fs.writeFileSync(path.join(folder, "instance.js"), "export const start = () => {};");
  const names = ["index.js", "objects.js", "edge_bg.js", "instance.js"];
  fs.writeFileSync(path.join(folder, "config.capnp"), `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "filled", worker = .filled), (name = "state", disk = (path = ${JSON.stringify(path.join(folder, "state"))}, writable = true))],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "filled")],
);
const filled :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [${names.map((name) => `(name = "${name}", esModule = embed "${name}")`).join(", ")}],
  bindings = [(name = "FILLED", durableObjectNamespace = "Filled")],
  durableObjectNamespaces = [(className = "Filled", uniqueKey = "filled", enableSql = true)],
  durableObjectStorage = (localDisk = "state"),
);
`);
  const child = spawn(WORKERD, ["serve", path.join(folder, "config.capnp")], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (output += part));
  const exited = new Promise((done) => child.once("exit", done));
  const ask = async (name, question) => {
    const answer = await fetch(`http://127.0.0.1:${port}/${name}`, { method: "POST", body: JSON.stringify({ begin: 0, ...question }) });
    assert.equal(answer.status, 200, output);
    return answer.json();
  };
  try {
    for (let tries = 0; tries < 200 && !(await ask("first", {}).catch(() => undefined)); tries += 1) await sleep(50);
    const later = Date.now() + 3_600_000;
    const empty = await ask("size", {});
    for (const [name, bytes] of [["one arrival", 6], ["thirty arrivals", 64]]) {
      const { rows, size } = await ask(name, { count: 20_000, bytes, ends: later });
      assert.equal(rows, 20_000);
      assert.ok(size - empty.size <= rows * (KEY + bytes + ROW), `${name}: ${(size - empty.size) / rows} bytes a row`);
    }
    // Twenty thousand that end late, then more than the bound of those that end early: the late ones stay.
    await ask("bound", { count: 20_000, bytes: 6, ends: later });
    for (let begin = 20_000; begin < 120_000; begin += 20_000) await ask("bound", { begin, count: 20_000, bytes: 6, ends: later - 1_000_000 + begin });
    const full = await ask("bound", { look: 7 });
    assert.ok(full.rows > 40_000 && full.rows <= 65_536, String(full.rows));
    assert.deepEqual(full.row, [7, 7, 7, 7, 7, 7]);
    assert.deepEqual((await ask("bound", { look: 119_999 })).row?.length, 6, "and the newest");
    // Written again and again a row is one row.
    for (let i = 0; i < 5; i += 1) await ask("again", { count: 20_000, bytes: 6, ends: later });
    assert.equal((await ask("again", {})).rows, 20_000);
    // What has ended goes with the alarm, what has not stays.
    await ask("ends", { count: 1_000, bytes: 6, ends: 1 });
    await ask("ends", { begin: 1_000, count: 10, bytes: 6, ends: later });
    const kept = await ask("ends", { forget: true });
    assert.equal(kept.rows, 10);
    assert.ok(kept.alarm > Date.now(), "and is looked at again");
    await ask("gone", { count: 20_000, bytes: 6, ends: 1 });
    const gone = await ask("gone", { forget: true });
    assert.deepEqual([gone.rows, gone.size, gone.alarm], [0, empty.size, null]);
    assert.equal((await ask("gone", { count: 1, bytes: 6, ends: later })).rows, 1, "and can be used again");
  } finally {
    child.kill("SIGKILL");
    await exited;
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
