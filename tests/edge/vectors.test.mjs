// Every vector of tests/vectors/links.json through the wasm build in workerd, on the very path of real links. The test
// build lets headers replace clock, keys, policy and target; the production build must not know them.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { ROOT, request, sign, startBucket, startEdge } from "./harness.mjs";

const vectors = JSON.parse(fs.readFileSync(path.join(ROOT, "tests/vectors/links.json"), "utf8"));
let bucket, edge;

before(async () => {
  bucket = await startBucket();
  edge = await startEdge({ bucket, build: "worker-test", vars: { LIMITS: "off" } });
});
after(async () => {
  await edge?.stop();
  await bucket?.close();
});

const hex = (text) => Buffer.from(text, "utf8").toString("hex");

function hooks(vector) {
  const revoked = [
    ...vector.revocations.links.map((link) => `link ${link}`),
    ...Object.entries(vector.revocations.epochs).map(([owner, epoch]) => `epoch ${owner} ${epoch}`),
    ...vector.revocations.suspended.map((owner) => `suspended ${owner}`),
  ];
  const { hosts, allow_links, allow_empty } = vector.policy;
  return Object.fromEntries(
    Object.entries({
      "test-target": hex(vector.target),
      "test-ring": vector.ring,
      "test-policy": `${hosts.join(",")}|${allow_links}|${allow_empty}`,
      "test-now": String(vector.now),
      "test-revoked": revoked.join(","),
      // As a raw header would come: one byte for each letter that UTF-8 needs.
      referer: vector.referer && Buffer.from(vector.referer, "utf8").toString("latin1"),
      origin: vector.origin,
      "sec-fetch-site": vector.site,
      "sec-fetch-mode": vector.mode,
      "sec-fetch-dest": vector.dest,
    }).filter(([, value]) => value !== null && value !== undefined),
  );
}

test("every vector gets its answer from the wasm build", async () => {
  assert.ok(vectors.length >= 60);
  const wrong = [];
  for (const vector of vectors) {
    const key = vector.target.split("?")[0].slice(1);
    if ([200, 302].includes(vector.expect.status)) bucket.put(key, Buffer.from("picture"));
    const answer = await request(edge, "/", { method: vector.method, headers: hooks(vector), from: vector.client ?? "203.0.113.250" });
    const code = [200, 302].includes(answer.status) || vector.method === "HEAD" ? null : answer.json().code;
    const got = { status: answer.status, code, location: answer.headers.location ?? null, disposition: answer.headers["content-disposition"] ?? null };
    const expected = { ...vector.expect, code: vector.method === "HEAD" ? null : vector.expect.code };
    if (!isDeepStrictEqual(got, expected)) wrong.push(`${vector.name}: ${JSON.stringify(got)}, not ${JSON.stringify(expected)}`);
  }
  assert.deepEqual(wrong, []);
});

test("the production build knows none of the test's headers", async () => {
  const production = await startEdge({ bucket });
  try {
    const good = vectors.find((vector) => vector.expect.status === 200);
    const answer = await request(production, "/", { headers: hooks(good) });
    assert.equal(answer.status, 400);
    const expired = sign(production, "generated/u1/a.png", { exp: 1_700_000_000 });
    const back = await request(production, expired, { headers: { "test-now": "1699999999" } });
    assert.equal(back.status, 410);
  } finally {
    await production.stop();
  }
});
