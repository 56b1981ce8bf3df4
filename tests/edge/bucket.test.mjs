// The bucket of a self-hosted edge alone: workerd over a folder, asked as the R2 binding asks.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { ROOT, WORKERD, listen, sleep } from "./harness.mjs";

const SIZE = 49 * 1024 * 1024;
const KEY = "generated/u/large.png";
const picture = Buffer.alloc(SIZE, (_, at) => at);
for (let at = 0; at < SIZE; at += 4096) picture.writeUInt32LE(at, at); // no two places look alike
let folder, port, workerd, exited;

before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-bucket-"));
  fs.mkdirSync(path.join(folder, "objects", path.dirname(KEY)), { recursive: true });
  fs.writeFileSync(path.join(folder, "objects", KEY), picture);
  const probe = await listen(net.createServer());
  await probe.close();
  port = probe.port;
  fs.copyFileSync(path.join(ROOT, "deploy/workerd/bucket.js"), path.join(folder, "bucket.js"));
  fs.writeFileSync(path.join(folder, "config.capnp"), `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "bucket", worker = (
      compatibilityDate = "2026-11-01",
      modules = [(name = "bucket.js", esModule = embed "bucket.js")],
      bindings = [(name = "OBJECTS", service = "objects")])),
    (name = "objects", disk = (path = ${JSON.stringify(path.join(folder, "objects"))}, writable = false)),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "bucket")],
);`);
  workerd = spawn(WORKERD, ["serve", path.join(folder, "config.capnp")], { stdio: "inherit" });
  exited = new Promise((done) => workerd.once("exit", done));
  for (let i = 0; i < 200; i += 1) {
    if (await ask({ method: "head", object: KEY }).then(() => true, () => false)) return;
    await sleep(50);
  }
  throw new Error("workerd did not start");
});
after(async () => {
  workerd.kill("SIGKILL");
  await exited;
  fs.rmSync(folder, { recursive: true, force: true });
});

/** Asks the bucket; `read(answer)` may take the answer over. */
function ask(question, read) {
  return new Promise((done, failed) => {
    const headers = { "cf-r2-request": JSON.stringify({ version: 1, ...question }) };
    const outgoing = http.get({ host: "127.0.0.1", port, agent: false, headers }, (answer) => {
      if (read) return done(read(answer));
      const parts = [];
      answer.on("data", (part) => parts.push(part)).on("error", failed);
      answer.on("end", () => {
        const all = Buffer.concat(parts);
        const size = Number(answer.headers["cf-r2-metadata-size"] ?? 0);
        done({ status: answer.statusCode, about: size ? JSON.parse(all.subarray(0, size)) : null, bytes: all.subarray(size) });
      });
    });
    outgoing.on("error", failed);
  });
}

const part = (range) => ask({ method: "get", object: KEY, range });
const resident = (field) => Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(fs.readFileSync(`/proc/${workerd.pid}/status`, "utf8"))[1]) / 1024;

test("a part has the bytes that were asked for, wherever it lies", { timeout: 120_000 }, async () => {
  const cases = [
    [{ offset: "0", length: "1" }, 0, 1], [{ offset: "4095", length: "4098" }, 4095, 8193], [{ offset: String(SIZE - 3) }, SIZE - 3, SIZE],
    [{ suffix: "5" }, SIZE - 5, SIZE], [{ offset: "65535", length: "3000000" }, 65535, 3065535], [{ offset: String(SIZE - 1), length: "99" }, SIZE - 1, SIZE],
  ];
  for (const [range, from, to] of cases) {
    const found = await part(range);
    assert.equal(found.status, 200);
    assert.ok(found.bytes.equals(picture.subarray(from, to)), JSON.stringify(range));
    assert.deepEqual(found.about.range, { offset: from, length: to - from });
    assert.equal(found.about.size, SIZE);
  }
  assert.equal((await part({ offset: String(SIZE) })).status, 416);
  assert.ok((await ask({ method: "get", object: KEY })).bytes.equals(picture));
});

test("many single bytes of a large object cost next to no memory", { timeout: 120_000 }, async () => {
  await part({ offset: "1", length: "1" });
  const before = resident("VmRSS");
  fs.writeFileSync(`/proc/${workerd.pid}/clear_refs`, "5"); // the peak begins anew
  const found = await Promise.all(Array.from({ length: 40 }, (_, n) => part({ offset: String(SIZE - 1 - n), length: "1" })));
  found.forEach(({ bytes }, n) => assert.ok(bytes.equals(picture.subarray(SIZE - 1 - n, SIZE - n))));
  const more = resident("VmHWM") - before;
  console.log(`40 parts of one byte: +${more.toFixed(0)} MB`);
  assert.ok(more <= 100, `+${more} MB`);
});

test("readers that leave or stand still keep no part from another", { timeout: 120_000 }, async () => {
  // More than are looked for at once: half leave at once, half read nothing of what they asked for.
  const idle = [];
  for (let n = 0; n < 24; n += 1) {
    const answer = await ask({ method: "get", object: KEY, range: { offset: String(20_000_000 + n) } }, (answer) => answer);
    if (n % 2) answer.destroy();
    else idle.push(answer);
  }
  for (let n = 0; n < 24; n += 1) http.get({ host: "127.0.0.1", port, agent: false, headers: { "cf-r2-request": JSON.stringify({ method: "get", object: KEY, range: { suffix: "1" } }) } }).on("error", () => {}).destroy();
  for (let n = 0; n < 3; n += 1) {
    const found = await part({ suffix: "4" });
    assert.equal(found.status, 200);
    assert.ok(found.bytes.equals(picture.subarray(-4)));
  }
  for (const answer of idle) answer.destroy();
});
