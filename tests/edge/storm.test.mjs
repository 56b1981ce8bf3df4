// Ten thousand hostile requests among ten thousand good ones, to one isolate: every good one is answered with its
// picture, no hostile one opens anything, nothing panics.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import http from "node:http";
import net from "node:net";
import { test } from "node:test";
import { request, sign, startBucket, startEdge, startOrigin } from "./harness.mjs";

const COUNT = 10_000;
const WORKERS = 32;
const KEYS = 50;

/** A repeatable stream of numbers below `n` (mulberry32), so that a failure can be seen again. */
function numbers(seed) {
  return (n) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

function hostile(good, below, at) {
  const [path, query] = good.split("?");
  const cut = below(good.length);
  const kinds = [
    () => good.slice(0, cut),
    () => `${good.slice(0, cut)}${String.fromCharCode(33 + below(93))}${good.slice(cut + 1)}`,
    () => `${path}%2F?${query}`,
    () => path.replace("generated", ["kept", "uploads", "temp", "%67enerated", "GENERATED"][below(5)]) + `?${query}`,
    () => `${path}?${query.split("&").reverse().join("&")}`,
    () => `${path}?${query}&${query}`,
    () => `${path}?exp=${"9".repeat(below(400))}&kid=k1&sig=${"A".repeat(43)}`,
    () => `/${"../".repeat(below(40))}etc/passwd?${query}`,
    () => `/${"a/".repeat(below(2000))}b?${query}`,
    () => `${path}?${"a=b&".repeat(below(1000))}${query}`,
    () => `${path}?${query.replace(/sig=.*/, `sig=${randomBytes(32).toString("base64url")}`)}`,
    () => `${path}?${query.replace("kid=k1", `kid=${["", "K1", "k2", "..", "a".repeat(33)][below(5)]}`)}`,
    () => `${path}?dl=${["con.png", "a.exe", "..%2F", "x".repeat(200)][below(4)]}&${query}`,
    () => `${path}?ip=${["::1", "1.2.3.4-33", "0".repeat(32), "256.1.1.1"][below(4)]}&${query}`,
    () => `${path}\u00e9?${query}`.replace("\u00e9", "%C3%A9"),
  ];
  const target = kinds[at % kinds.length]();
  return target === good || !target.startsWith("/") ? `${path}?x` : target;
}

const HEADERS = [
  {}, { range: "bytes=99999999999999999999-" }, { range: `bytes=${"0-1,".repeat(500)}` }, { "if-none-match": '"'.repeat(3000) },
  { referer: "https://[::1" }, { referer: `https://${"a.".repeat(1000)}` }, { "sec-fetch-site": "cross-site" }, { "if-range": "W/".repeat(900) },
];

test("every good request among a storm of hostile ones gets its picture", { timeout: 400_000 }, async () => {
  const bucket = await startBucket();
  const origin = await startOrigin();
  const edge = await startEdge({ bucket, origin, vars: { LIMITS: "off" } });
  const agent = new http.Agent({ keepAlive: true, maxSockets: WORKERS });
  try {
    const pictures = Array.from({ length: KEYS }, (_, i) => {
      const key = `generated/u${i}/p.png`;
      return { key, bytes: bucket.put(key, randomBytes(500 + i)) };
    });
    const below = numbers(42);
    let next = 0;
    let good = 0;
    const opened = [];
    const failed = [];
    const worker = async () => {
      while (next < 2 * COUNT) {
        const at = next;
        next += 1;
        const { key, bytes } = pictures[at % KEYS];
        const link = sign(edge, key);
        if (at % 2 === 0) {
          const answer = await request(edge, link, { agent }).catch((error) => ({ status: error.message }));
          if (answer.status === 200 && answer.body.equals(bytes)) good += 1;
          else failed.push(`${at}: ${answer.status}`);
          continue;
        }
        const api = at % 16 === 1;
        const target = hostile(link, below, at >> 1);
        const headers = HEADERS[below(HEADERS.length)];
        const answer = await request(edge, api ? `/api/../${target}` : target, { agent, headers, host: api ? "api" : "images" })
          .catch((error) => ({ status: error.message }));
        if (!(answer.status >= 400 && answer.status < 500)) opened.push(`${answer.status} ${target.slice(0, 200)} ${JSON.stringify(headers).slice(0, 80)}`);
      }
    };
    // Beside them, bytes that are no HTTP at all, and connections that end in the middle.
    const noise = async () => {
      for (let i = 0; i < 300; i += 1) {
        await new Promise((done) => {
          const socket = net.connect(edge.port, "127.0.0.1", () => {
            socket.write(i % 2 ? randomBytes(300) : `GET ${sign(edge, pictures[0].key)} HTTP/1.1\r\nHost: ${edge.vars.IMAGES_HOST}\r\n`);
            setTimeout(() => socket.destroy(), 2);
          });
          socket.on("close", done);
          socket.on("error", () => {});
        });
      }
    };
    await Promise.all([noise(), ...Array.from({ length: WORKERS }, worker)]);
    assert.deepEqual(failed, []);
    assert.equal(good, COUNT);
    assert.deepEqual(opened, []);
    assert.doesNotMatch(edge.logs(), /panicked|unreachable|internal error/);
    assert.equal(origin.requests.length, 0);
  } finally {
    agent.destroy();
    await edge.stop();
    await origin.close();
    await bucket.close();
  }
});
