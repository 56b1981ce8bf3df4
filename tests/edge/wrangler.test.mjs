// The committed wrangler.toml: `wrangler dev` with the local R2 bucket and its S3 endpoint, as the demo starts it, and
// a production deployment up to the moment it would leave this machine.
import assert from "node:assert/strict";
import { spawn, execFile } from "node:child_process";
import { createHash, createHmac, randomBytes } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { edgeCommand } from "../../scripts/lib/edge.mjs";
import { ROOT, listen, newKey, request, sign, sleep, startOrigin } from "./harness.mjs";
import { signPut, verify } from "./rfc9421.mjs";

/** Puts an object through the bucket's S3 endpoint (AWS Signature Version 4). */
function putObject(port, s3, key, body) {
  const sha = (data) => createHash("sha256").update(data).digest("hex");
  const mac = (secret, data) => createHmac("sha256", secret).update(data).digest();
  const target = `/cdn-cgi/local/r2/s3/signet-images/${key}`;
  const date = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const day = date.slice(0, 8);
  const host = `127.0.0.1:${port}`;
  const canonical = ["PUT", target, "", `host:${host}`, `x-amz-content-sha256:${sha(body)}`, `x-amz-date:${date}`, "", "host;x-amz-content-sha256;x-amz-date", sha(body)].join("\n");
  const scope = `${day}/auto/s3/aws4_request`;
  const signing = ["auto", "s3", "aws4_request"].reduce(mac, mac(`AWS4${s3.secret}`, day));
  const signature = mac(signing, ["AWS4-HMAC-SHA256", date, scope, sha(canonical)].join("\n")).toString("hex");
  const headers = {
    host, "x-amz-date": date, "x-amz-content-sha256": sha(body), "content-length": body.length,
    authorization: `AWS4-HMAC-SHA256 Credential=${s3.id}/${scope}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=${signature}`,
  };
  return new Promise((done, failed) => {
    const outgoing = http.request({ host: "127.0.0.1", port, path: target, method: "PUT", headers, agent: false }, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part));
      answer.on("end", () => done({ status: answer.statusCode, text }));
    });
    outgoing.on("error", failed);
    outgoing.end(body);
  });
}

test("the committed configuration serves what the origin writes to the local bucket", { timeout: 240_000 }, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-wrangler-"));
  const origin = await startOrigin();
  const probe = await listen(net.createServer());
  await probe.close();
  const { port } = probe;
  const s3 = { id: "test-id", secret: randomBytes(24).toString("hex") };
  const vars = {
    IMAGES_HOST: `localhost:${port}`, API_HOST: `127.0.0.1:${port}`, ORIGIN_URL: `http://127.0.0.1:${origin.port}`,
    LINK_KEYS: `k1:${newKey()}`, EDGE_KEYS: `e1:${newKey()}`, REFERER_HOSTS: `127.0.0.1:${port}`,
  };
  const [program, argv, env] = edgeCommand({ dir, port, vars, s3 });
  const settings = path.join(dir, "wrangler.toml");
  fs.writeFileSync(settings, fs.readFileSync(settings, "utf8").replace("limit = 600,", "limit = 4,"));
  const child = spawn(program, argv, { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (output += part));
  const exited = new Promise((done) => child.once("exit", done));
  const edge = { port, vars };
  try {
    for (let answer; answer?.status !== 200; ) {
      assert.equal(child.exitCode, null, output);
      await sleep(200);
      answer = await request(edge, "/api/images", { host: "api" }).catch(() => undefined);
    }
    verify(origin.last(), vars.EDGE_KEYS);
    assert.equal(origin.last().headers["signet-client-ip"], "192.0.2.1");
    const picture = randomBytes(200_000);
    const put = await putObject(port, s3, "generated/u1/a.png", picture);
    assert.equal(put.status, 200, put.text);
    assert.equal((await request(edge, sign(edge, "generated/u1/a.png"), { from: "198.51.100.78" })).json().code, "link_revoked", "nobody said yet what is revoked");
    const snapshot = `signet-revoked-v1 ${Date.now()}\nsuspended u2\n`;
    const headers = signPut(vars.EDGE_KEYS, vars.API_HOST, "/.signet/revocations", snapshot);
    const kept = await request(edge, "/.signet/revocations", { host: "api", method: "PUT", headers, body: snapshot });
    assert.equal(kept.status, 204, kept.body.toString());
    const whole = await request(edge, sign(edge, "generated/u1/a.png"));
    assert.equal(whole.status, 200);
    assert.ok(whole.body.equals(picture));
    const part = await request(edge, sign(edge, "kept/u1/a.png"), { headers: { range: "bytes=10-19" } });
    assert.equal(part.status, 206);
    assert.ok(part.body.equals(picture.subarray(10, 20)));
    assert.equal(part.headers["content-range"], "bytes 10-19/200000");
    const fresh = await request(edge, sign(edge, "generated/u1/a.png"), { headers: { "if-none-match": whole.headers.etag } });
    assert.equal(fresh.status, 304);
    assert.equal((await request(edge, sign(edge, "generated/u2/a.png"), { from: "198.51.100.78" })).json().code, "link_revoked");
    assert.equal((await request(edge, "/generated/u1/a.png")).status, 403);
    assert.equal((await request(edge, sign(edge, "generated/u1/b.png"))).status, 404);
    // Who sends too much is not cut off in the middle of it: through the proxies of wrangler the answer would be lost.
    for (let i = 0; i < 6; i += 1) {
      const tooMuch = (outgoing) => {
        for (let sent = 0; sent < 320; sent += 1) outgoing.write(picture.subarray(0, 65_536));
        outgoing.end();
      };
      const refused = await request(edge, "/api/upload", { host: "api", method: "POST", body: tooMuch });
      assert.equal(refused.json().code, "body_too_large");
    }
    // Ten tries: one that falls on a turn of the minute starts the count anew only once.
    const answers = [];
    for (let i = 0; i < 10; i += 1) answers.push((await request(edge, sign(edge, "generated/u1/a.png"), { method: "HEAD", from: "198.51.100.77" })).status);
    assert.equal(answers[0], 200);
    assert.ok(answers.includes(429), `the Rate Limiting binding refuses: ${answers}`);
    const arrivals = [];
    for (let i = 0; i < 32; i += 1) arrivals.push((await request(edge, "/api/generate", { host: "api", method: "POST", from: "198.51.100.79", body: "{}" })).headers.ratelimit);
    assert.deepEqual([arrivals[29], arrivals[30], arrivals[31]], [undefined, '"penalty-box";r=0;t=600', '"penalty-box";r=0;t=600'], output);
  } finally {
    try {
      process.kill(-child.pid, "SIGTERM");
    } catch {
      // it is gone
    }
    await Promise.race([exited, sleep(8000)]);
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // it is gone
    }
    await origin.close();
    fs.rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
});

test("a production deployment passes up to the network", { timeout: 120_000 }, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-deploy-"));
  try {
    const argv = [path.join(ROOT, "node_modules/wrangler/bin/wrangler.js"), "deploy", "--dry-run", "--env", "production", "--outdir", dir];
    const env = { ...process.env, CI: "1", WRANGLER_SEND_METRICS: "false", WRANGLER_LOG_PATH: path.join(dir, "logs") };
    const { code, text } = await new Promise((done) =>
      execFile("node", argv, { cwd: ROOT, env }, (error, out, err) => done({ code: error?.code ?? 0, text: out + err })));
    assert.equal(code, 0, text);
    for (const binding of ["IMAGES", "LINKS", "FLOOD_TOKEN", "REVOCATIONS", "PENALTY_BOX", "TOKEN_LIMIT", "images.example.com"]) assert.ok(text.includes(binding), text);
    const wasm = fs.readdirSync(dir).find((name) => name.endsWith(".wasm"));
    assert.ok(wasm, "the module goes along");
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
});
