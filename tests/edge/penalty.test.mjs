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

const generate = (edge, from, { method = "POST", target = "/api/generate", headers = {} } = {}) =>
  request(edge, target, { host: "api", method, from, headers: method === "POST" ? { "content-type": "application/json", ...headers } : headers, body: method === "POST" ? "{}" : undefined });
const asked = (edge) => edge.logs().split("object asked: PENALTY_BOX").length - 1;
/** The log comes through a pipe, a little after the answer. */
async function askedIs(edge, times, why) {
  for (let i = 0; i < 100 && asked(edge) < times; i += 1) await sleep(20);
  assert.equal(asked(edge), times, why);
}
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
      // Arrivals at other generation routes, and those that are refused later, count like any other.
      const kind = [{}, { target: "/v1/images/edits" }, { headers: { authorization: "Bearer x" } }, { headers: { "sec-fetch-site": "same-origin" } }][i % 4];
      assert.notEqual((await generate(edge, "192.0.2.1", kind)).status, 429, `arrival ${i}`);
    }
    await askedIs(edge, 30);
    const passed = origin.requests.length - before;
    const first = await generate(edge, "192.0.2.1");
    assert.equal(first.status, 429);
    assert.equal(first.json().code, "rate_limited");
    assert.equal(first.headers.ratelimit, '"penalty-box";r=0;t=600');
    assert.equal(first.headers["ratelimit-policy"], '"penalty-box";q=30;w=60');
    assert.equal(first.headers["retry-after"], "600");
    await askedIs(edge, 31);
    for (let i = 0; i < 500; i += 1) assert.equal((await generate(edge, "192.0.2.1")).status, 429);
    await askedIs(edge, 31, "five hundred refusals asked nobody");
    assert.equal(origin.requests.length - before, passed, "nothing blocked reaches the origin");
    assert.equal((await generate(edge, "192.0.2.2")).status, 200, "others are not blocked");
    assert.equal((await request(edge, "/api/images", { host: "api", from: "192.0.2.1" })).status, 200, "other routes are open");
  }));

test("only_what_could_generate_counts_and_a_foreign_page_locks_nobody_out", () =>
  withEdge({ objects: { PENALTY_BOX: "counted" }, vars: { PENALTY_RULE: "3/600" } }, async (edge) => {
    const from = "192.0.2.77";
    for (const method of ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"]) {
      for (let i = 0; i < 31; i += 1) assert.notEqual((await generate(edge, from, { method, target: `/api/generate?${i}` })).status, 429, method);
    }
    const foreign = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" };
    for (let i = 0; i < 31; i += 1) {
      const answer = await generate(edge, from, { headers: foreign });
      assert.deepEqual([answer.status, answer.json().code], [403, "cross_site"]);
    }
    for (const target of ["/api/%67enerate", "/api//generate", "/api/./generate"]) {
      for (let i = 0; i < 31; i += 1) assert.equal((await generate(edge, from, { target })).status, 404, target);
    }
    assert.equal(asked(edge), 0);
    for (let i = 0; i < 3; i += 1) assert.equal((await generate(edge, from)).status, 200);
    assert.equal((await generate(edge, from)).status, 429, "what could generate still counts");
  }));

test("the_flood_shield_counts_what_a_foreign_page_sends", () =>
  withEdge({ quotas: { FLOOD: 5 } }, async (edge) => {
    const foreign = { "sec-fetch-site": "cross-site" };
    const statuses = [];
    for (let i = 0; i < 8; i += 1) statuses.push((await generate(edge, "192.0.2.78", { headers: foreign })).status);
    assert.deepEqual(statuses, [403, 403, 403, 403, 403, 429, 429, 429]);
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
    const full = await generate(edge, "2001:db8:1:ff::1");
    assert.equal(full.status, 429, "the /48");
    assert.ok(Number(full.headers["retry-after"]) <= 60, "which is slowed, not blocked");
    assert.equal((await generate(edge, "2001:db8:1:fe::1")).status, 429);
    assert.equal((await generate(edge, "2001:db8:2:1::1")).status, 200, "the next /48 is open");
  }));

test("an_ipv4_address_counts_as_one_through_nat64_siit_and_6to4", () =>
  withEdge({ vars: { PENALTY_RULE: "3/600" } }, async (edge) => {
    for (const from of ["198.51.100.7", "64:ff9b::198.51.100.7", "2002:c633:6407::5"]) assert.equal((await generate(edge, from)).status, 200, from);
    for (const from of ["::ffff:0:198.51.100.7", "64:ff9b:1::198.51.100.7", "198.51.100.7"]) assert.equal((await generate(edge, from)).status, 429, from);
    assert.equal((await generate(edge, "64:ff9b::198.51.100.8")).status, 200, "its neighbour");
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
