// The penalty box at the edge: who is blocked and for how long, what a blocked flood costs, and what happens while the
// object fails.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { request, sleep, startBucket, startEdge, startOrigin } from "./harness.mjs";
import { verify } from "./rfc9421.mjs";

let bucket, origin;
before(async () => {
  bucket = await startBucket();
  origin = await startOrigin();
});
after(() => Promise.all([bucket?.close(), origin?.close()]));

const generate = (edge, from, { method = "POST", target = "/api/generate" } = {}) =>
  request(edge, target, { host: "api", method, from, headers: method === "POST" ? { "content-type": "application/json" } : {}, body: method === "POST" ? "{}" : undefined });
const asked = (edge) => edge.logs().split("object asked: PENALTY_BOX").length - 1;
async function withEdge(options, work) {
  const edge = await startEdge({ bucket, origin, ...options });
  try {
    await work(edge);
  } finally {
    await edge.stop();
  }
}

test("thirty_arrivals_a_minute_pass_the_next_blocks_and_a_blocked_flood_asks_no_object", () =>
  withEdge({ objects: { PENALTY_BOX: "counted" } }, async (edge) => {
    const before = origin.requests.length;
    for (let i = 0; i < 30; i += 1) {
      // Arrivals that are refused, of other methods or at other generation routes, count like any other.
      const kind = [{}, { method: "PUT" }, { target: "/v1/images/edits" }, { target: "/api/generate?token=x" }, { method: "GET" }][i % 5];
      assert.notEqual((await generate(edge, "192.0.2.1", kind)).status, 429, `arrival ${i}`);
    }
    assert.equal(asked(edge), 30);
    const passed = origin.requests.length - before;
    const first = await generate(edge, "192.0.2.1");
    assert.equal(first.status, 429);
    assert.equal(first.json().code, "rate_limited");
    assert.equal(first.headers.ratelimit, '"penalty-box";r=0;t=600');
    assert.equal(first.headers["ratelimit-policy"], '"penalty-box";q=30;w=60');
    assert.equal(first.headers["retry-after"], "600");
    assert.equal(asked(edge), 31);
    for (let i = 0; i < 500; i += 1) assert.equal((await generate(edge, "192.0.2.1")).status, 429);
    assert.equal(asked(edge), 31, "five hundred refusals asked nobody");
    assert.equal(origin.requests.length - before, passed, "nothing blocked reaches the origin");
    assert.equal((await generate(edge, "192.0.2.2")).status, 200, "others are not blocked");
    assert.equal((await request(edge, "/api/images", { host: "api", from: "192.0.2.1" })).status, 200, "other routes are open");
  }));

test("the_origin_is_told_by_which_numbers_the_edge_decided", () =>
  withEdge({ vars: { PENALTY_RULE: "5/60" } }, async (edge) => {
    await generate(edge, "192.0.2.9");
    const sent = origin.last();
    assert.equal(sent.headers["signet-decided"], "penalty-box=5/60");
    assert.ok(verify(sent, edge.vars.EDGE_KEYS).components.includes("signet-decided"), "and it is signed");
    await request(edge, "/api/images", { host: "api", headers: { "signet-decided": "penalty-box=5/60" } });
    assert.equal(origin.last().headers["signet-decided"], undefined, "a client cannot say so");
  }));

test("a_block_ends_after_its_time_though_arrivals_go_on", () =>
  withEdge({ vars: { PENALTY_RULE: "3/2" } }, async (edge) => {
    for (let i = 0; i < 3; i += 1) assert.equal((await generate(edge, "192.0.2.3")).status, 200);
    const began = Date.now();
    assert.equal((await generate(edge, "192.0.2.3")).status, 429);
    let refused = 0;
    while ((await generate(edge, "192.0.2.3")).status === 429) {
      refused += 1;
      await sleep(50);
      assert.ok(Date.now() - began < 20_000, "it never ends");
    }
    assert.ok(Date.now() - began >= 1_950 && refused > 3);
  }));

test("ipv6_counts_by_64_and_ten_times_as_much_by_48", () =>
  withEdge({ vars: { PENALTY_RULE: "3/600" } }, async (edge) => {
    for (let i = 0; i < 3; i += 1) assert.equal((await generate(edge, `2001:db8:1:1::${i}`)).status, 200);
    assert.equal((await generate(edge, "2001:db8:1:1:ffff::")).status, 429, "the /64");
    // 4 so far; 26 more of the /48, each from a /64 of its own.
    for (let i = 0; i < 26; i += 1) assert.equal((await generate(edge, `2001:db8:1:${(i + 16).toString(16)}::1`)).status, 200, `part ${i}`);
    assert.equal((await generate(edge, "2001:db8:1:ff::1")).status, 429, "the /48");
    assert.equal((await generate(edge, "2001:db8:1:fe::1")).status, 429);
    assert.equal((await generate(edge, "2001:db8:2:1::1")).status, 200, "the next /48 is open");
  }));

for (const mode of ["failing", "broken", "hanging"]) {
  test(`while_the_object_is_${mode}_requests_pass_and_the_origin_decides`, () =>
    withEdge({ objects: { PENALTY_BOX: mode }, vars: { PENALTY_RULE: "2/600" } }, async (edge) => {
      for (let i = 0; i < (mode === "hanging" ? 1 : 5); i += 1) {
        assert.equal((await generate(edge, "192.0.2.4")).status, 200);
        assert.equal(origin.last().headers["signet-decided"], undefined, "nothing is claimed that was not decided");
      }
      assert.match(edge.logs(), /the penalty box fails, the origin decides/);
    }));
}

test("limits_switched_off_ask_no_object", () =>
  withEdge({ objects: { PENALTY_BOX: "counted" }, vars: { LIMITS: "off" } }, async (edge) => {
    for (let i = 0; i < 40; i += 1) assert.equal((await generate(edge, "192.0.2.5")).status, 200);
    assert.equal(asked(edge), 0);
  }));
