// `signet doctor` on a deployment without Cloudflare: `signet serve` behind real nginx with deploy/nginx's configuration
// and TLS. The rows that loopback has nothing for pass here, and fail when just their item breaks.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

const ROOT = path.resolve(import.meta.dirname, "../..");
const BIN = process.env.SIGNET_BIN ?? path.join(ROOT, "target/debug/signet"); // cargo test --workspace --no-run
const NGINX = ["/usr/sbin/nginx", "/usr/bin/nginx"].find((file) => fs.existsSync(file)) ?? "nginx";
const CONF = fs.readFileSync(path.join(ROOT, "deploy/nginx/signet.conf"), "utf8");
// Beside what spends: nothing here stands for Prometheus, a source tree, advisories or an origin's own log.
const WITHOUT_INPUT = ["alerts", "source-secrets", "structured-logs", "versions"];
const SPENDING = ["limit-address", "limit-token", "penalty-box", "quota-user", "storage-full"];
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let dir, nginx, origin, ports, env, deployment;

const freePort = () =>
  new Promise((done) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
const openssl = (...argv) => execFileSync("openssl", argv, { cwd: dir, stdio: "ignore" });

before(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-doctor-"));
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-x509", ...key, "-days", "1", "-subj", "/CN=doctor test", "-keyout", "ca-key.pem", "-out", "ca.pem");
  openssl("req", ...key, "-subj", "/CN=api.example.com", "-keyout", "key.pem", "-out", "request.pem");
  fs.writeFileSync(`${dir}/names`, "subjectAltName=DNS:api.example.com,DNS:images.example.com\n");
  openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-days", "1", "-extfile", "names", "-out", "cert.pem");
  ports = { http: await freePort(), https: await freePort() };
  const linkKeys = `k1:${randomBytes(32).toString("base64")}`;
  env = {
    PATH: process.env.PATH, HOME: process.env.HOME,
    ...(process.env.SIGNET_CACHE && { SIGNET_CACHE: process.env.SIGNET_CACHE }),
    ...(process.env.XDG_CACHE_HOME && { XDG_CACHE_HOME: process.env.XDG_CACHE_HOME }),
    SIGNET_SERVER__BIND: "127.0.0.1:0", SIGNET_SERVER__OPERATOR_BIND: "127.0.0.1:0", SIGNET_IMAGES__BIND: "127.0.0.1:0",
    SIGNET_SERVER__URL: "https://api.example.com", SIGNET_IMAGES__URL: "https://images.example.com",
    SIGNET_IMAGES__KEYS: linkKeys, SIGNET_EDGE__CLIENT_ADDRESS_HEADER: "X-Real-IP", SIGNET_SERVER__READY_FILE: `${dir}/ready.json`,
    SIGNET_STATE__FILE: `${dir}/signet.sqlite`, SIGNET_STORAGE__FOLDER: `${dir}/objects`,
    SIGNET_INFER__MODELS: JSON.stringify([path.join(ROOT, "tests/goldens/engine/model")]),
    SIGNET_LIMITS__UPLOADS__PER_MINUTE: "6000", SIGNET_LIMITS__TOKEN_ENDPOINT__PER_MINUTE: "6000",
  };
  const scopes = "images:generate images:read images:write uploads:write billing:read";
  const client = JSON.parse(execFileSync(BIN, ["client", "add", "--name", "doctor", "--scopes", scopes, "--json"], { cwd: dir, env }));
  const log = fs.openSync(`${dir}/origin.log`, "w");
  origin = spawn(BIN, ["serve"], { cwd: dir, env, stdio: ["ignore", log, log] });
  const ready = await until(() => JSON.parse(fs.readFileSync(`${dir}/ready.json`, "utf8")));
  Object.assign(ports, { api: ready.public.split(":").pop(), images: ready.images.split(":").pop() });
  deployment = {
    EDGE_URL: "https://api.example.com", IMAGES_URL: "https://images.example.com",
    ORIGIN_URL: `http://${ready.public}`, OPERATOR_URL: `http://${ready.operator}`,
    CLIENT_ID: client.client_id, CLIENT_SECRET: client.client_secret, LINK_KEYS: linkKeys,
    ACCESS_LOG: `${dir}/signet.log`, SSL_CERT_FILE: `${dir}/ca.pem`,
  };
  await front((conf) => conf);
});
after(() => {
  nginx?.kill("SIGKILL");
  origin?.kill("SIGKILL");
  fs.rmSync(dir, { recursive: true, force: true });
});

async function until(what) {
  for (let i = 0; ; i++) {
    try {
      return await what();
    } catch (error) {
      if (i > 200) throw error;
      await sleep(50);
    }
  }
}

/** Starts nginx with the shipped configuration, changed by `change`. */
async function front(change) {
  if (nginx) {
    const ended = new Promise((done) => nginx.once("exit", done));
    nginx.kill("SIGKILL");
    await ended;
  }
  const conf = change(CONF)
    .replace(/^\s*listen \[::\].*$/gm, "")
    .replaceAll("listen 80", `listen 127.0.0.1:${ports.http}`)
    .replaceAll("listen 443", `listen 127.0.0.1:${ports.https}`)
    .replaceAll("/etc/nginx/tls/fullchain.pem", `${dir}/cert.pem`)
    .replaceAll("/etc/nginx/tls/privkey.pem", `${dir}/key.pem`)
    .replaceAll("/var/log/nginx/", `${dir}/`)
    // Every examination signs in a few times; the origin's own limit is the contract's.
    .replace(/zone=signet_oauth:10m( +)rate=\d+r\/m/, "zone=signet_oauth:10m$1rate=6000r/m")
    .replaceAll("127.0.0.1:8080", `127.0.0.1:${ports.api}`)
    .replaceAll("127.0.0.1:8081", `127.0.0.1:${ports.images}`);
  fs.writeFileSync(`${dir}/signet.conf`, conf);
  fs.writeFileSync(`${dir}/signet.log`, "");
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${dir}/${name};`).join("\n");
  fs.writeFileSync(`${dir}/nginx.conf`,
    `daemon off; master_process off; pid ${dir}/nginx.pid; error_log ${dir}/error.log;\nevents {}\nhttp {\n${temp}\ninclude ${dir}/signet.conf;\n}\n`);
  nginx = spawn(NGINX, ["-p", dir, "-c", `${dir}/nginx.conf`], { stdio: "ignore" });
  await until(() => new Promise((done, failed) => net.connect(ports.https, "127.0.0.1", done).on("error", failed).on("connect", function () { this.destroy(); })));
}

function doctor() {
  const to = ["api", "images"].flatMap((name) => [
    "--connect-to", `${name}.example.com:443=127.0.0.1:${ports.https}`, "--connect-to", `${name}.example.com:80=127.0.0.1:${ports.http}`,
  ]);
  return new Promise((done) => {
    const child = spawn(BIN, ["doctor", "--json", "--advisories", "off", ...to], { cwd: dir, env: { ...env, ...deployment }, stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (part) => (text += part));
    child.on("exit", (code) => done({ code, text, rows: JSON.parse(text) }));
  });
}
const ids = (rows, status) => rows.filter((row) => row.status === status).map((row) => row.id).sort();

test("a_deployment_behind_nginx_passes_every_row_it_has_something_for", async () => {
  const { rows, text, code } = await doctor();
  assert.deepEqual(ids(rows, "fail"), [], text);
  assert.deepEqual(ids(rows, "skipped"), [...WITHOUT_INPUT, ...SPENDING].sort(), text);
  assert.equal(code, 0);
});

for (const [id, change] of [
  ["hsts", (conf) => conf.replaceAll(/add_header Strict-Transport-Security.*$/gm, "")],
  ["https", (conf) => conf.replace(/location \/ \{ return 308 [^}]*\}/, "location / { return 200; }")],
  ["access-log", (conf) => conf.replace("log_format signet escape=json", "log_format signet escape=json '$http_authorization '")],
  ["link-spelling", (conf) => conf.replace("proxy_pass http://signet_images; }", "rewrite ^/+(.*)$ /$1 break; proxy_pass http://signet_images; }")],
]) {
  test(`${id}_fails_alone_when_its_item_is_broken`, async () => {
    await front(change);
    const { rows, text, code } = await doctor();
    assert.deepEqual(ids(rows, "fail"), [id], text);
    assert.equal(code, 1);
  });
}
