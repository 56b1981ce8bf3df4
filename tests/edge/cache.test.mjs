// The edge's cache: behind every check, under the object's key, whole pictures only, gone within a minute.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import http from "node:http";
import { after, before, test } from "node:test";
import { request, sign, sleep, startBucket, startCache, startEdge } from "./harness.mjs";

let bucket, cache, edge;
before(async () => {
  bucket = await startBucket();
  cache = await startCache();
  edge = await startEdge({ bucket, cache, vars: { EDGE_CACHE: "on", LIMITS: "off" } });
});
after(async () => {
  await edge.stop();
  await cache.close();
  await bucket.close();
});
/** The answer does not wait for the cache to have taken it. */
async function untilPuts(count) {
  for (const end = Date.now() + 10_000; Date.now() < end && cache.puts < count; ) await sleep(10);
  assert.equal(cache.puts, count);
}
const reads = () => bucket.seen.filter((line) => line.startsWith("get ")).length;

test("ten thousand views of a hundred pictures read the bucket a hundred times, without the cache ten thousand times", { timeout: 300_000 }, async () => {
  const plain = await startEdge({ bucket, vars: { LIMITS: "off" } });
  const pictures = Array.from({ length: 100 }, (_, i) => [`generated/u${i}/v.png`, bucket.put(`generated/u${i}/v.png`, randomBytes(2000 + i))]);
  try {
    const count = async (it) => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
      bucket.seen.length = 0;
      // Each picture once, so that the first views of one do not race for it; the rest mixed and at once.
      const puts = cache.puts;
      for (const [key] of pictures) await request(it, sign(it, key), { agent });
      if (it === edge) await untilPuts(puts + 100);
      let next = 100;
      await Promise.all(Array.from({ length: 16 }, async () => {
        while (next < 10_000) {
          const [key, bytes] = pictures[(next++ * 37) % 100];
          const answer = await request(it, sign(it, key), { agent });
          assert.equal(answer.status, 200);
          assert.ok(answer.body.equals(bytes));
        }
      }));
      agent.destroy();
      return reads();
    };
    assert.equal(await count(plain), 10_000);
    assert.equal(await count(edge), 100);
  } finally {
    await plain.stop();
  }
});

test("a cached picture is out of reach without a good link", async () => {
  const key = "generated/u/c.png";
  const bytes = bucket.put(key, randomBytes(5000));
  const puts = cache.puts;
  const first = await request(edge, sign(edge, key));
  await untilPuts(puts + 1);
  const [hits, before] = [cache.hits, reads()];
  const second = await request(edge, sign(edge, key));
  assert.ok(second.body.equals(bytes));
  assert.deepEqual([cache.hits, reads()], [hits + 1, before]);
  for (const name of ["etag", "content-type", "content-length", "content-security-policy", "cross-origin-resource-policy"]) {
    assert.equal(second.headers[name], first.headers[name], name);
  }
  assert.match(second.headers["cache-control"], /^private, max-age=\d+$/);
  const past = Math.floor(Date.now() / 1000) - 1;
  const bad = [
    [`/${key}`, 403], [sign(edge, key, { exp: past }), 410], [sign(edge, key, { ip: "198.51.100.1" }), 403],
    [sign(edge, key).replace(/sig=(.)/, (_, first) => `sig=${first === "A" ? "B" : "A"}`), 403], [`/pictures.invalid/${key}`, 403],
  ];
  for (const [target, status] of bad) assert.equal((await request(edge, target)).status, status, target);
  assert.equal((await request(edge, sign(edge, key), { headers: { referer: "https://evil.test/" } })).status, 403);
  assert.equal((await request(edge, `/${key}`, { host: "pictures.invalid" })).status, 421);
  assert.equal(cache.hits, hits + 1, "no refused request looked into the cache");
});

test("a deleted picture is gone within a minute, and nothing but whole pictures is kept", async () => {
  const key = "generated/u/d.png";
  bucket.put(key, randomBytes(3000));
  const puts = cache.puts;
  assert.equal((await request(edge, sign(edge, key), { headers: { range: "bytes=0-9" } })).status, 206);
  assert.equal((await request(edge, sign(edge, key), { method: "HEAD" })).status, 200);
  assert.equal((await request(edge, sign(edge, "generated/u/none.png"))).status, 404);
  bucket.failing = "500";
  assert.equal((await request(edge, sign(edge, "generated/u/e.png"))).status, 503);
  bucket.put("generated/u/cut.png", randomBytes(100_000));
  bucket.failing = "cut";
  assert.equal((await request(edge, sign(edge, "generated/u/cut.png"))).status, 503);
  bucket.failing = null;
  bucket.put("generated/u/large.png", randomBytes(5 * 1024 * 1024));
  assert.equal((await request(edge, sign(edge, "generated/u/large.png"))).body.length, 5 * 1024 * 1024);
  assert.equal(cache.puts, puts, "part, head, refusal, failure and large picture are not kept");
  assert.equal((await request(edge, sign(edge, key))).status, 200);
  await untilPuts(puts + 1);
  assert.ok([...cache.entries.values()].every(({ life }) => life > 0 && life <= 60));
  bucket.objects.delete(key);
  cache.skip += 60;
  assert.equal((await request(edge, sign(edge, key))).json().code, "not_found");
});

test("while the cache fails, pictures come from the bucket", async () => {
  const bytes = bucket.put("generated/u/f.png", randomBytes(100));
  cache.failing = true;
  for (let i = 0; i < 2; i += 1) {
    const answer = await request(edge, sign(edge, "generated/u/f.png"));
    assert.deepEqual([answer.status, answer.body.equals(bytes)], [200, true]);
  }
  cache.failing = false;
});
