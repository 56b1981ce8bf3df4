// CPU of workerd for each request: our Worker beside the same job in JavaScript, on plain workerd, in alternating rounds.
// One process each; wrk drives them over 8 connections; user and system time come from /proc. Prints a Markdown table.
import { execFile } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import fs from "node:fs";
import { promisify } from "node:util";
import { sign, startBucket, startEdge } from "../../tests/edge/harness.mjs";

const ROUNDS = Number(process.env.ROUNDS ?? 7);
const SECONDS = Number(process.env.SECONDS ?? 3);
const KEY = "generated/usr_1/0190a5d0-ac96-774b-bcce-b302099a8057.png";
const TICK_US = 1e6 / 100; // USER_HZ is 100 on every Linux that Rust and Node run on

function cpu(child) {
  const fields = fs.readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

async function round(edge, target) {
  const before = cpu(edge.child);
  const url = `http://127.0.0.1:${edge.port}${target}`;
  const { stdout } = await promisify(execFile)("wrk", [
    "-t1", "-c8", `-d${SECONDS}s`, "-H", `Host: ${edge.vars.IMAGES_HOST}`, "-H", "CF-Connecting-IP: 192.0.2.1", url,
  ]);
  const requests = Number(/(\d+) requests in/.exec(stdout)[1]);
  return { us: (cpu(edge.child) - before) / requests, requests, refused: Number(/Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? 0) };
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

const bucket = await startBucket();
bucket.put(KEY, randomBytes(200 * 1024));
const vars = { LIMITS: "off" };
const js = { bucket, build: "../../scripts/bench.d/js-worker" };
const edges = [
  ["Signet's Worker", await startEdge({ bucket, vars })],
  ["JavaScript, key imported for each request", await startEdge({ ...js, vars })],
  ["JavaScript, key imported once", await startEdge({ ...js, vars: { ...vars, KEEP_KEY: "1" } })],
];

/** A link as the JavaScript Worker wants it. */
function hexLink(edge) {
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const sig = createHmac("sha256", edge.vars.LINK_KEYS).update(`/${KEY}${exp}`).digest("hex");
  return `/${KEY}?exp=${exp}&sig=${sig}`;
}
const spoil = (link) => link.replace(/sig=(.)/, (_, first) => `sig=${first === "0" ? "1" : "0"}`);

try {
  const cases = [];
  for (const [name, edge] of edges) {
    const link = name.startsWith("Signet") ? sign(edge, KEY, { exp: Math.floor(Date.now() / 1000) + 3600 }) : hexLink(edge);
    cases.push({ name, edge, refused: spoil(link), accepted: link, samples: { refused: [], accepted: [] } });
  }
  for (const kind of ["refused", "accepted"]) {
    for (const it of cases) await round(it.edge, it[kind]); // warm
    for (let n = 0; n < ROUNDS; n += 1) {
      for (const it of cases) {
        const { us, requests, refused } = await round(it.edge, it[kind]);
        if (refused !== (kind === "refused" ? requests : 0)) throw new Error(`${it.name}: ${refused} of ${requests} refused, ${kind}`);
        it.samples[kind].push(us);
      }
    }
  }
  const [ours] = cases;
  console.log(`CPU of workerd a request, median of ${ROUNDS} alternating rounds of ${SECONDS} s (ours ÷ theirs in brackets):\n`);
  console.log("| Worker | refused, bad MAC | accepted, 200 KB |\n|---|--:|--:|");
  for (const { name, samples } of cases) {
    const cells = ["refused", "accepted"].map((kind) => {
      const us = median(samples[kind]);
      // Ratios round by round: both sides of each saw the same machine.
      const ratio = median(samples[kind].map((other, n) => ours.samples[kind][n] / other));
      return `${us.toFixed(0)} µs${name === ours.name ? "" : ` (${ratio.toFixed(2)})`}`;
    });
    console.log(`| ${name} | ${cells.join(" | ")} |`);
  }
  console.log("");
} finally {
  await Promise.all(edges.map(([, edge]) => edge.stop()));
  await bucket.close();
}
