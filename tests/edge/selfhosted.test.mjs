// The committed configuration for plain workerd, live: `signet serve` behind it, its folder of objects as the bucket.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { ROOT, WORKERD, listen, newKey, request, sign, sleep } from "./harness.mjs";

const SIGNET = process.env.SIGNET_BIN ?? path.join(ROOT, "target/debug/signet"); // cargo test --workspace --no-run

async function freePort() {
  const probe = await listen(net.createServer());
  await probe.close();
  return probe.port;
}

/** A process with its output; `stop()` ends it. */
function start(program, args, options) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (output += part));
  const exited = new Promise((done) => child.once("exit", done));
  return { child, output: () => output, stop: () => (child.kill("SIGKILL"), exited) };
}

async function until(what, it) {
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(50)) {
    if (it.child.exitCode !== null) break;
    if (await what()) return;
  }
  throw new Error(`did not start:\n${it.output()}`);
}

test("a picture is made and opened through the self-hosted edge", { timeout: 180_000 }, async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-selfhosted-"));
  const [port, origin] = [await freePort(), await freePort()];
  const vars = {
    IMAGES_HOST: `localhost:${port}`, API_HOST: `127.0.0.1:${port}`, ORIGIN_URL: `http://127.0.0.1:${origin}`, CLIENT_IP_HEADER: "x-real-ip",
    REFERER_HOSTS: `127.0.0.1:${port}`, LINK_KEYS: `k1:${newKey()}`, EDGE_KEYS: `e1:${newKey()}`,
  };
  const { PATH, HOME, SIGNET_CACHE, XDG_CACHE_HOME } = process.env;
  const inherited = Object.fromEntries(Object.entries({ PATH, HOME, SIGNET_CACHE, XDG_CACHE_HOME }).filter(([, value]) => value));
  const env = {
    ...inherited,
    SIGNET_SERVER__BIND: `127.0.0.1:${origin}`, SIGNET_SERVER__OPERATOR_BIND: "127.0.0.1:0", SIGNET_SERVER__READY_FILE: path.join(folder, "ready"),
    SIGNET_STATE__FILE: path.join(folder, "state.sqlite"), SIGNET_STORAGE__FOLDER: path.join(folder, "objects"),
    SIGNET_INFER__MODELS: JSON.stringify([path.join(ROOT, "tests/goldens/engine/model")]), SIGNET_INFER__DEVICE: "cpu",
    SIGNET_EDGE__REQUIRE: "true", SIGNET_EDGE__URL: `http://127.0.0.1:${port}`, SIGNET_EDGE__KEYS: vars.EDGE_KEYS, SIGNET_IMAGES__KEYS: vars.LINK_KEYS,
    SIGNET_IMAGES__DELIVER: "false", SIGNET_IMAGES__URL: `http://localhost:${port}`, SIGNET_EDGE__URL: `http://127.0.0.1:${port}`,
  };
  const service = start(SIGNET, ["serve"], { cwd: folder, env });
  await until(() => fs.existsSync(path.join(folder, "ready")), service).catch(async (error) => (await service.stop(), Promise.reject(error)));
  fs.mkdirSync(path.join(folder, "edge"));
  const edge = start(WORKERD, [
    "serve", path.join(ROOT, "deploy/workerd/config.capnp"), "--socket-addr", `http=127.0.0.1:${port}`,
    "--directory-path", `objects=${path.join(folder, "objects")}`, "--directory-path", `state=${path.join(folder, "edge")}`,
  ], { env: { PATH, ...vars } });
  try {
    const it = { port, vars };
    await until(() => request(it, "/").then(() => true, () => false), edge);
    const client = JSON.parse(execFileSync(SIGNET, ["client", "add", "--json"], { cwd: folder, env }).toString());
    const basic = Buffer.from(`${client.client_id}:${client.client_secret}`).toString("base64");
    const form = { authorization: `Basic ${basic}`, "content-type": "application/x-www-form-urlencoded" };
    const token = await request(it, "/oauth/token", { host: "api", method: "POST", headers: form, body: "grant_type=client_credentials" });
    assert.equal(token.status, 200, token.body.toString());
    const bearer = { authorization: `Bearer ${token.json().access_token}` };
    const made = await request(it, "/api/generate", {
      host: "api", method: "POST", headers: { ...bearer, "content-type": "application/json" }, body: JSON.stringify({ prompt: "a cat", steps: 1 }),
    });
    assert.equal(made.status, 200, made.body.toString());
    const [image] = made.json().images;
    const link = new URL(image.url);
    assert.equal(link.host, vars.IMAGES_HOST);
    const target = link.pathname + link.search;
    // Nothing opens before the origin said what is revoked.
    await until(async () => (await request(it, target)).status === 200, edge);
    const whole = await request(it, target);
    assert.equal(whole.status, 200);
    assert.ok(whole.body.equals(fs.readFileSync(path.join(folder, "objects", image.key))));
    const part = await request(it, target, { headers: { range: "bytes=1-3" } });
    assert.deepEqual([part.status, part.body.toString("latin1"), part.headers["content-range"]], [206, "PNG", `bytes 1-3/${whole.body.length}`]);
    const tail = await request(it, target, { headers: { range: "bytes=-4" } });
    assert.ok(tail.body.equals(whole.body.subarray(-4)));
    assert.equal((await request(it, target, { headers: { range: "bytes=99999999-" } })).status, 416);
    assert.equal((await request(it, target, { headers: { "if-none-match": whole.headers.etag } })).status, 304);
    const head = await request(it, target, { method: "HEAD" });
    assert.deepEqual([head.status, head.headers["content-length"], head.body.length], [200, String(whole.body.length), 0]);
    assert.equal((await request(it, link.pathname)).json().code, "bad_signature");
    // A signed name is only a name: folders and what is no picture are not found.
    for (const key of ["generated/x", "generated", ".partial/x.png"]) {
      assert.ok([400, 403, 404].includes((await request(it, sign(it, key))).status), key);
    }
    const gone = await request(it, `/api/images/${image.id}`, { host: "api", method: "DELETE", headers: bearer });
    assert.equal(gone.status, 204, gone.body.toString());
    assert.equal((await request(it, target)).json().code, "not_found");
    let refused = 0;
    for (let i = 0; i < 620 && !refused; i += 1) refused = (await request(it, target, { headers: { "x-real-ip": "192.0.2.200" } })).status === 429 ? 1 : 0;
    assert.equal(refused, 1, "the stand-in for the rate limit holds");
    // The edge has the origin's keys: it judged the token above, and turns a bent one away.
    assert.doesNotMatch(edge.output(), /public keys cannot be had/);
    const bent = { authorization: bearer.authorization.replace(/.{4}$/, "AAAA") };
    const turned = await request(it, "/api/usage", { host: "api", headers: bent });
    assert.deepEqual([turned.status, turned.json().code], [401, "unauthorized"]);
    // A token's six at once are decided at the edge, by which the origin abides; refusals of the origin cost nothing.
    const ask = (prompt) => request(it, "/api/generate", {
      host: "api", method: "POST", headers: { ...bearer, "content-type": "application/json", "x-real-ip": "192.0.2.201" }, body: JSON.stringify({ prompt, steps: 1 }),
    });
    for (let i = 0; i < 8; i += 1) assert.equal((await ask("")).status, 400, "refused by the origin");
    let blocked;
    for (let i = 0; i < 32 && !blocked; i += 1) {
      const answer = await request(it, "/api/generate", { host: "api", method: "POST", headers: { "x-real-ip": "192.0.2.202" } });
      if (answer.headers.ratelimit) blocked = [i, answer.headers.ratelimit];
    }
    assert.deepEqual(blocked, [30, '"penalty-box";r=0;t=600']);
    assert.doesNotMatch(edge.output(), /panicked|internal error/);
  } finally {
    await Promise.all([edge.stop(), service.stop()]);
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
