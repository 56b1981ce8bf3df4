// A real `signet serve` on free ports with a folder of its own, and what the tests of deploy/ need around it.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
export const SCOPES = "images:generate images:read images:write uploads:write";

/** The program: `SIGNET_BIN`, else the newest build. */
export function program() {
  if (process.env.SIGNET_BIN) return process.env.SIGNET_BIN;
  const built = ["release", "debug"].map((profile) => path.join(ROOT, "target", profile, "signet")).filter((file) => fs.existsSync(file));
  assert.ok(built.length, "build the program first: cargo build --bin signet");
  return built.sort((a, b) => fs.statSync(b).mtimeMs - fs.statSync(a).mtimeMs)[0];
}

export const freePort = () =>
  new Promise((done) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

/** Waits until `look` returns something; throws what `why` says after `seconds`. */
export async function until(look, why, seconds = 60) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(typeof why === "function" ? why() : why);
    await sleep(100);
  }
}

/** One request; nothing is followed. `ca` makes it HTTPS that checks the certificate for `servername`. */
export function request(url, { method = "GET", headers = {}, body, ca, servername } = {}) {
  return new Promise((done, failed) => {
    const client = url.startsWith("https:") ? https : http;
    const outgoing = client.request(url, { method, headers, agent: false, ca, servername }, (answer) => {
      const parts = [];
      const certificate = answer.socket.getPeerCertificate?.();
      answer.on("data", (part) => parts.push(part));
      answer.on("error", failed);
      answer.on("end", () => {
        const bytes = Buffer.concat(parts);
        done({ status: answer.statusCode, headers: answer.headers, body: bytes, certificate, json: () => JSON.parse(bytes.toString("utf8")) });
      });
    });
    outgoing.setTimeout(90_000, () => outgoing.destroy(new Error("no answer within 90 s")));
    outgoing.on("error", failed);
    outgoing.end(body);
  });
}

/** Starts the service; `settings` are variables over the defaults. `keep` leaves its folder where it is. */
export async function serve(settings = {}, { folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-deploy-")), keep = false } = {}) {
  const ready = path.join(folder, "ready.json");
  fs.rmSync(ready, { force: true });
  const names = ["PATH", "HOME", "SIGNET_CACHE", "XDG_CACHE_HOME", "ORT_DYLIB_PATH", "SIGNET_INFER__LIBRARY"];
  const inherited = Object.fromEntries(names.filter((name) => process.env[name]).map((name) => [name, process.env[name]]));
  const env = {
    ...inherited,
    SIGNET_SERVER__BIND: "127.0.0.1:0",
    SIGNET_SERVER__OPERATOR_BIND: "127.0.0.1:0",
    SIGNET_IMAGES__BIND: "127.0.0.1:0",
    SIGNET_SERVER__READY_FILE: ready,
    SIGNET_STATE__FILE: path.join(folder, "signet.sqlite"),
    SIGNET_STORAGE__FOLDER: path.join(folder, "objects"),
    // The small random model of the goldens: none of this is about beauty.
    SIGNET_INFER__MODELS: JSON.stringify([path.join(ROOT, "tests/goldens/engine/model")]),
    ...settings,
  };
  const child = spawn(program(), ["serve"], { cwd: folder, stdio: ["ignore", "pipe", "pipe"], env });
  let log = "";
  child.stdout.on("data", (part) => (log += part));
  child.stderr.on("data", (part) => (log += part));
  const exited = new Promise((done) => child.once("exit", (code, signal) => done(code ?? signal)));
  let ended = false;
  exited.then(() => (ended = true));
  await until(() => fs.existsSync(ready) || ended, () => `signet serve did not start:\n${log}`).catch((error) => {
    child.kill("SIGKILL");
    throw error;
  });
  if (ended) throw new Error(`signet serve ended:\n${log}`);
  const bound = JSON.parse(fs.readFileSync(ready, "utf8"));
  const scheme = env.SIGNET_SERVER__TLS__CERTIFICATE_FILE ? "https" : "http";
  const service = {
    folder, env, bound, pid: child.pid,
    url: `${scheme}://${bound.public}`,
    imagesUrl: `${scheme}://${bound.images}`,
    operatorUrl: `http://${bound.operator}`,
    log: () => log,
    /** Another command of the program on the same state. */
    run: (...args) => execFileSync(program(), args, { cwd: folder, env, encoding: "utf8" }),
    metrics: async () => (await request(`http://${bound.operator}/metrics`)).body.toString("utf8"),
    /** A token of a new client, of a user of its own. */
    async token(options = {}) {
      const { client_id, client_secret } = JSON.parse(service.run("client", "add", "--json"));
      const answer = await request(`${service.url}/oauth/token`, {
        ...options, method: "POST",
        headers: { ...options.headers, authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString("base64")}`, "content-type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams({ grant_type: "client_credentials", scope: SCOPES }).toString(),
      });
      assert.equal(answer.status, 200, String(answer.body));
      return answer.json().access_token;
    },
    generate: (token, wish, options = {}) =>
      request(`${service.url}/api/generate`, {
        ...options, method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...options.headers },
        body: JSON.stringify({ steps: 1, ...wish }),
      }),
    kill: (signal) => child.kill(signal),
    async stop() {
      if (!ended) child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 12_000);
      await exited;
      clearTimeout(timer);
      if (!keep) fs.rmSync(folder, { recursive: true, force: true });
    },
  };
  return service;
}

/** A certificate authority of our own in `dir`; `issue` makes a server's certificate with it. */
export function authority(dir) {
  const openssl = (...args) => execFileSync("openssl", args, { cwd: dir, stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-x509", ...key, "-days", "2", "-subj", "/CN=a test's authority", "-keyout", "ca.key", "-out", "ca.pem");
  return {
    ca: fs.readFileSync(path.join(dir, "ca.pem")),
    /** Files `NAME.pem` and `NAME.key`; the key's mode is 600. */
    issue(name, hosts, days = 30) {
      fs.writeFileSync(path.join(dir, `${name}.ext`), `subjectAltName=${hosts.map((host) => (/^[\d.]+$/.test(host) ? `IP:${host}` : `DNS:${host}`)).join(",")}\n`);
      openssl("req", ...key, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
      openssl("x509", "-req", "-in", `${name}.csr`, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", String(days), "-extfile", `${name}.ext`, "-out", `${name}.pem`);
      fs.chmodSync(path.join(dir, `${name}.key`), 0o600);
      return { certificate: path.join(dir, `${name}.pem`), key: path.join(dir, `${name}.key`) };
    },
  };
}
