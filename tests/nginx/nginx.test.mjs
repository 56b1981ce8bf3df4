// deploy/nginx under real nginx: it parses, limits, bounds bodies and slow senders, and keeps its logs clean.
// Only ports, paths and one time-out are replaced; behind it stands a recorder in place of the origin.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import tls from "node:tls";
import { after, before, test } from "node:test";

const NGINX = ["/usr/sbin/nginx", "/usr/bin/nginx"].find((file) => fs.existsSync(file)) ?? "nginx";
const CONF = path.resolve(import.meta.dirname, "../../deploy/nginx/signet.conf");
let dir, nginx, backend, ports;
const seen = [];

const freePort = () =>
  new Promise((done) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

before(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-nginx-"));
  backend = http.createServer((request, response) => {
    let bytes = 0;
    request.on("data", (part) => (bytes += part.length));
    request.on("end", () => {
      seen.push({ target: request.url, headers: request.headers, bytes });
      response.setHeader("x-request-id", "r-1");
      response.setHeader("set-cookie", "a=b");
      response.end("ok");
    });
  });
  await new Promise((done) => backend.listen(0, "127.0.0.1", done));
  ports = { http: await freePort(), https: await freePort(), backend: backend.address().port };
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
    "-subj", "/CN=api.example.com", "-keyout", `${dir}/key.pem`, "-out", `${dir}/cert.pem`], { stdio: "ignore" });
  const conf = fs.readFileSync(CONF, "utf8")
    .replace(/^\s*listen \[::\].*$/gm, "")
    .replaceAll("listen 80", `listen 127.0.0.1:${ports.http}`)
    .replaceAll("listen 443", `listen 127.0.0.1:${ports.https}`)
    .replaceAll("/etc/nginx/tls/fullchain.pem", `${dir}/cert.pem`)
    .replaceAll("/etc/nginx/tls/privkey.pem", `${dir}/key.pem`)
    .replaceAll("/var/log/nginx/", `${dir}/`)
    .replaceAll("client_body_timeout 30s", "client_body_timeout 1s")
    .replaceAll("client_header_timeout 10s", "client_header_timeout 1s")
    .replace(/127\.0\.0\.1:808[01]/g, `127.0.0.1:${ports.backend}`);
  fs.writeFileSync(`${dir}/signet.conf`, conf);
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${dir}/${name};`).join("\n");
  fs.writeFileSync(`${dir}/nginx.conf`,
    `daemon off; master_process off; pid ${dir}/nginx.pid; error_log ${dir}/error.log;\nevents {}\nhttp {\n${temp}\ninclude ${dir}/signet.conf;\n}\n`);
  execFileSync(NGINX, ["-t", "-q", "-p", dir, "-c", `${dir}/nginx.conf`], { stdio: "inherit" });
  nginx = spawn(NGINX, ["-p", dir, "-c", `${dir}/nginx.conf`], { stdio: "ignore" });
  for (let i = 0; ; i++) {
    const up = await call("/up").catch(() => null);
    if (up) break;
    if (i > 100) throw new Error(fs.readFileSync(`${dir}/error.log`, "utf8"));
    await new Promise((done) => setTimeout(done, 50));
  }
});
after(() => {
  nginx?.kill("SIGKILL");
  backend?.close();
  fs.rmSync(dir, { recursive: true, force: true });
});

function call(target, { host = "api.example.com", method = "GET", headers = {}, body, localAddress } = {}) {
  return new Promise((done, failed) => {
    const outgoing = https.request(
      { host: "127.0.0.1", port: ports.https, path: target, method, localAddress, headers: { host, ...headers }, rejectUnauthorized: false, agent: false, servername: host },
      (answer) => {
        answer.resume();
        answer.on("end", () => done({ status: answer.statusCode, headers: answer.headers }));
      },
    );
    outgoing.on("error", failed);
    outgoing.end(body);
  });
}
const logs = () => fs.readdirSync(dir).filter((name) => name.endsWith(".log")).map((name) => fs.readFileSync(path.join(dir, name), "utf8")).join("");

test("from_idle_an_address_gets_burst_plus_one_generations_and_the_rest_429", async () => {
  const answers = await Promise.all(Array.from({ length: 10 }, (_, i) =>
    call("/api/generate", { method: "POST", body: "{}", headers: { authorization: `Bearer canary-token-${i}` } })));
  assert.equal(answers.filter(({ status }) => status === 200).length, 4);
  assert.equal(answers.filter(({ status }) => status === 429).length, 6);
});

test("a_token_gets_burst_plus_one_from_all_its_addresses_together", async () => {
  const from = (n, headers) => call("/api/generate", { method: "POST", body: "{}", headers, localAddress: `127.0.1.${n + 1}` });
  const shared = await Promise.all(Array.from({ length: 9 }, (_, n) => from(n, { authorization: "bearer  canary-shared" })));
  assert.equal(shared.filter(({ status }) => status === 200).length, 6);
  assert.equal(shared.filter(({ status }) => status === 429).length, 3);
  // Each of these addresses has room left; what is limited is the token.
  const others = await Promise.all(Array.from({ length: 9 }, (_, n) => from(n, { authorization: `Bearer canary-${n}` })));
  assert.ok(others.every(({ status }) => status === 200));
});

test("a_client_that_never_ends_its_headers_is_cut_off", async () => {
  const text = await new Promise((done, failed) => {
    const socket = tls.connect({ host: "127.0.0.1", port: ports.https, rejectUnauthorized: false }, () => socket.write("GET /slow HTTP/1.1\r\nHost: api.example.com\r\n"));
    let got = "";
    socket.on("data", (part) => (got += part));
    socket.on("close", () => done(got));
    socket.on("error", failed);
  });
  assert.ok(text === "" || text.includes(" 408 "), text);
  assert.ok(!seen.some(({ target }) => target === "/slow"));
});

test("old_versions_of_tls_are_refused_and_hsts_is_told", async () => {
  assert.equal((await call("/hsts")).headers["strict-transport-security"], "max-age=31536000");
  const error = await new Promise((done) => {
    const socket = tls.connect({ host: "127.0.0.1", port: ports.https, rejectUnauthorized: false, minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" }, () => done(null));
    socket.on("error", done);
  });
  assert.ok(error, "TLS 1.1 was spoken");
});

test("bodies_over_the_limit_are_refused_and_a_full_upload_passes", async () => {
  assert.equal((await call("/api/images", { method: "POST", body: Buffer.alloc(300 * 1024) })).status, 413);
  assert.equal((await call("/api/upload", { method: "POST", body: Buffer.alloc(10 * 1024 * 1024 + 60 * 1024) })).status, 200);
  assert.equal((await call("/api/upload", { method: "POST", body: Buffer.alloc(11 * 1024 * 1024) })).status, 413);
});

test("a_slow_sender_is_cut_off", async () => {
  const answer = await new Promise((done, failed) => {
    const socket = tls.connect({ host: "127.0.0.1", port: ports.https, rejectUnauthorized: false }, () =>
      socket.write("POST /api/upload HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 1000\r\n\r\nonly this"));
    let text = "";
    socket.on("data", (part) => (text += part));
    socket.on("close", () => done(text));
    socket.on("error", failed);
  });
  assert.ok(answer === "" || answer.includes(" 408 "), answer);
});

test("a_link_reaches_the_origin_byte_for_byte_and_cookies_do_not", async () => {
  const target = "/generated//u/%67.png?exp=1&kid=a&sig=canary-signature";
  const answer = await call(target, { host: "images.example.com", headers: { cookie: "s=canary-cookie", "x-real-ip": "203.0.113.9" } });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers["set-cookie"], undefined);
  const got = seen.at(-1);
  assert.equal(got.target, target);
  assert.equal(got.headers.cookie, undefined);
  assert.equal(got.headers["x-real-ip"], "127.0.0.1");
});

test("headers_that_claim_an_address_or_an_edge_are_removed", async () => {
  await call("/api/images", { headers: { "x-forwarded-for": "1.2.3.4", forwarded: "for=1.2.3.4", "signet-client-ip": "1.2.3.4", signature: "a=:b:", "signature-input": "a=()" } });
  const { headers } = seen.at(-1);
  for (const name of ["x-forwarded-for", "forwarded", "signet-client-ip", "signature", "signature-input"]) assert.equal(headers[name], undefined, name);
});

test("a_foreign_page_is_refused_but_a_followed_link_is_not", async () => {
  const from = (headers) => call("/generated/u/a.png", { host: "images.example.com", headers });
  assert.equal((await from({ referer: "https://images.example.com.evil.test/" })).status, 403);
  assert.equal((await from({ referer: "https://evil.test/?https://app.example.com/" })).status, 403);
  assert.equal((await from({ referer: "https://app.example.com/gallery" })).status, 200);
  assert.equal((await from({ referer: "https://api.example.com/" })).status, 200, "the studio shows no pictures");
  assert.equal((await from({ referer: "https://blog.test/", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" })).status, 200);
});

test("an_unknown_host_is_misdirected_and_http_is_sent_to_https", async () => {
  assert.equal((await call("/", { host: "other.example.com" })).status, 421);
  const plain = await new Promise((done) =>
    http.get({ host: "127.0.0.1", port: ports.http, path: "/generated/a.png?sig=x", headers: { host: "images.example.com" } }, (answer) => done(answer.resume())));
  assert.equal(plain.statusCode, 308);
  assert.equal(plain.headers.location, "https://images.example.com/generated/a.png");
});

test("no_log_holds_a_token_a_signature_or_a_cookie", () => {
  const text = logs();
  assert.ok(text.includes('"path":"/api/generate"'));
  assert.ok(!text.includes("canary"), "a secret reached the logs");
});
