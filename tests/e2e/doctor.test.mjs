// `signet doctor` against the demo, through the real edge: every row passes that loopback has something for, within a
// minute; and a demo whose limits are off is told so.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { after, before, test } from "node:test";
import { ROOT, startDemo } from "./harness.mjs";

const BIN = process.env.SIGNET_BIN ?? path.join(ROOT, "target/release/signet");
// HTTPS is not asked of loopback, advisories are not asked for in tests, and nothing in the demo writes an access log.
const WITHOUT_INPUT = ["access-log", "hsts", "https", "versions"];
const SPENDING = ["limit-address", "limit-token", "penalty-box", "quota-user", "storage-full"];
let demo, prometheus;

before(async () => {
  demo = await startDemo();
  const rules = fs.readFileSync(path.join(ROOT, "deploy/prometheus/alerts.yml"), "utf8").match(/(?<=- alert: ).*/g);
  const body = JSON.stringify({ data: { groups: [{ rules: rules.map((name) => ({ name, health: "ok", state: "inactive" })) }] } });
  prometheus = http.createServer((_, answer) => answer.setHeader("content-type", "application/json").end(body));
  await new Promise((done) => prometheus.listen(0, "127.0.0.1", done));
});
after(async () => {
  await demo?.stop();
  prometheus?.close();
});

/** Both files of the demo as a shell reads them. */
function variables() {
  const lines = ["env", "doctor.env"].flatMap((name) => fs.readFileSync(path.join(ROOT, ".run", name), "utf8").trim().split("\n"));
  return Object.fromEntries(lines.map((line) => /^(\w+)='(.*)'$/.exec(line).slice(1)));
}

function doctor(more = []) {
  const argv = ["doctor", "--json", "--advisories", "off", "--prometheus", `http://127.0.0.1:${prometheus.address().port}`, ...more];
  const env = { PATH: process.env.PATH, ...variables() };
  return new Promise((done) => {
    const child = spawn(BIN, argv, { cwd: ROOT, env, stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (part) => (text += part));
    child.on("exit", (code) => done({ code, text, rows: JSON.parse(text) }));
  });
}
const ids = (rows, status) => rows.filter((row) => row.status === status).map((row) => row.id).sort();

test("the_demo_passes_every_row_that_loopback_has_something_for_within_a_minute", async () => {
  assert.equal(fs.statSync(path.join(ROOT, ".run/doctor.env")).mode & 0o777, 0o600);
  const from = Date.now();
  const { code, text, rows } = await doctor();
  const seconds = (Date.now() - from) / 1000;
  console.log(`signet doctor took ${seconds} s`);
  assert.deepEqual(ids(rows, "fail"), [], text);
  // The simulated bucket may know no lifecycle rules; R2 does.
  const skipped = ids(rows, "skipped").filter((id) => id !== "lifecycle");
  assert.deepEqual(skipped, [...WITHOUT_INPUT, ...SPENDING].sort(), text);
  assert.equal(code, 0);
  assert.ok(seconds < 60, `${seconds} s`);
  for (const name of ["CLIENT_SECRET", "ADMIN_CLIENT_SECRET"]) assert.ok(!text.includes(demo.env[name]), name);
  assert.ok(!text.includes(demo.env.LINK_KEYS.split(":")[1]));
});

test("asked_to_spend_it_meets_every_limit_at_the_real_edge", async () => {
  const { rows, text, code } = await doctor(["--intrusive"]);
  assert.deepEqual(ids(rows, "fail"), [], text);
  const passed = ids(rows, "pass");
  for (const id of SPENDING.filter((id) => id !== "storage-full")) assert.ok(passed.includes(id), text);
  assert.equal(code, 0);
});

test("limits_that_are_off_are_told", async () => {
  await demo.stop();
  demo = await startDemo(["--limits", "off"]);
  const { rows, text, code } = await doctor();
  assert.equal(code, 1, text);
  assert.ok(ids(rows, "fail").includes("limits-declared"), text);
});
