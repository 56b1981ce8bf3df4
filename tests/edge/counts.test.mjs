// What the edge counts reaches the origin: signed, at most every ten seconds an isolate, each request once.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { newKey, request, sign, sleep, startBucket, startEdge, startOrigin } from "./harness.mjs";
import { digest, verify } from "./rfc9421.mjs";

function added(reports) {
  const sums = {};
  for (const { body } of reports) {
    for (const line of body.toString().trim().split("\n")) {
      const [what, count] = [line.slice(0, line.lastIndexOf(" ")), line.slice(line.lastIndexOf(" ") + 1)];
      sums[what] = (sums[what] ?? 0) + Number(count);
    }
  }
  return sums;
}

test("every verdict is told to the origin by key id, in few signed reports", { timeout: 60_000 }, async () => {
  const bucket = await startBucket();
  const origin = await startOrigin();
  const keys = [`new:${newKey()}`, `old:${newKey()}`];
  const edge = await startEdge({ bucket, origin, vars: { LINK_KEYS: keys.join(",") }, quotas: { FLOOD: 3 } });
  try {
    bucket.put("generated/u/a.png", randomBytes(10));
    const old = { vars: { ...edge.vars, LINK_KEYS: keys[1] } };
    const past = Math.floor(Date.now() / 1000) - 5;
    const targets = [
      ...Array(5).fill(sign(edge, "generated/u/a.png")),
      ...Array(3).fill(sign(old, "generated/u/a.png")),
      sign(old, "generated/u/a.png", { exp: past }), sign(edge, "generated/u/b.png"),
      sign(old, "generated/u/a.png").replace(/.$/, (last) => (last === "A" ? "E" : "A")),
      sign({ vars: { ...edge.vars, LINK_KEYS: `foreign:${newKey()}` } }, "generated/u/a.png"), "/nothing", "//x?kid=old",
    ];
    for (const target of targets) await request(edge, target);
    await request(edge, targets[0], { method: "POST" });
    await request(edge, targets[0], { headers: { referer: "https://evil.test/" } });
    for (let i = 0; i < 5; i += 1) await request(edge, "/api/usage", { host: "api" });
    const wanted = {
      "link ok new": 5, "link ok old": 3, "link link_expired old": 1, "link not_found new": 1, "link bad_signature old": 1,
      "link bad_signature unknown": 2, "link malformed_link old": 1, "link method_not_allowed new": 1,
      "link referer_denied new": 1, "limited edge-flood": 2,
    };
    const total = (sums) => Object.values(sums).reduce((sum, count) => sum + count, 0);
    const from = Date.now();
    while (total(added(origin.reports)) < total(wanted) && Date.now() - from < 25_000) await sleep(100);
    assert.deepEqual(added(origin.reports), wanted);
    assert.ok(origin.reports.length <= 2, `${origin.reports.length} reports`);
    const [report] = origin.reports;
    assert.equal(report.method, "POST");
    const covered = verify(report, edge.vars.EDGE_KEYS);
    assert.ok(covered, "signed");
    assert.equal(report.headers["content-digest"], digest(report.body));
    // No client can send one through the gate.
    assert.equal((await request(edge, "/.signet/counts", { host: "api", method: "POST", body: "limited links 9\n" , from: "192.0.2.77" })).status, 404);
  } finally {
    await edge.stop();
    await origin.close();
    await bucket.close();
  }
});
