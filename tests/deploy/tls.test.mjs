// TLS on the origin itself, with an authority of our own: served, renewed without a restart, plain HTTP sent on.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import http2 from "node:http2";
import os from "node:os";
import path from "node:path";
import tls from "node:tls";
import { after, before, test } from "node:test";
import { authority, program, request, serve, until } from "./harness.mjs";

const HOSTS = ["api.example.com", "images.example.com"];
let dir, own, service, ca, plain;
const api = () => ({ ca, servername: "api.example.com" });
const replace = (name) => {
  for (const ending of ["pem", "key"]) {
    fs.copyFileSync(`${dir}/${name}.${ending}`, `${dir}/new`);
    if (ending === "key") fs.chmodSync(`${dir}/new`, 0o600);
    fs.renameSync(`${dir}/new`, `${dir}/live.${ending}`);
  }
};
/** The common name of the certificate that a new connection is shown. */
const shown = async () => (await request(`${service.url}/.well-known/jwks.json`, api())).certificate.subject.CN;
const series = async (name) => Number(new RegExp(`^${name} (.*)$`, "m").exec(await service.metrics())[1]);

before(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-tls-"));
  own = authority(dir);
  ca = own.ca;
  own.issue("first", HOSTS, 10);
  own.issue("second", HOSTS, 90);
  own.issue("third", HOSTS, 91);
  replace("first");
  service = await serve({
    SIGNET_SERVER__URL: "https://api.example.com",
    SIGNET_IMAGES__URL: "https://images.example.com",
    SIGNET_SERVER__TLS__CERTIFICATE_FILE: `${dir}/live.pem`,
    SIGNET_SERVER__TLS__KEY_FILE: `${dir}/live.key`,
    SIGNET_SERVER__TLS__REDIRECT_BIND: "127.0.0.1:0",
  });
  plain = `http://${service.bound.redirect}`;
});
after(async () => {
  await service?.stop();
  if (dir) fs.rmSync(dir, { recursive: true, force: true });
});

test("a_picture_is_made_and_fetched_over_tls_with_hsts_on_every_answer", async () => {
  const token = await service.token(api());
  const made = await service.generate(token, { prompt: "a lock" }, api());
  assert.equal(made.status, 200, String(made.body));
  const { url } = made.json().images[0];
  assert.match(url, /^https:\/\/images\.example\.com\//);
  const { pathname, search } = new URL(url);
  const images = { ca, servername: "images.example.com", headers: { host: "images.example.com" } };
  const picture = await request(`${service.imagesUrl}${pathname}${search}`, images);
  assert.equal(picture.status, 200);
  const refused = await request(`${service.imagesUrl}${pathname}`, images);
  assert.equal(refused.status, 403);
  const unknown = await request(`${service.url}/`, { ...api(), headers: { host: "other.example.com" } });
  assert.equal(unknown.status, 421);
  for (const { headers } of [made, picture, refused, unknown]) assert.equal(headers["strict-transport-security"], "max-age=31536000");
});

test("http_2_is_spoken_and_a_link_is_judged_by_the_same_bytes", async () => {
  const session = http2.connect(service.imagesUrl, { ca, servername: "images.example.com" });
  const ask = (target) =>
    new Promise((done, failed) => {
      const stream = session.request({ ":path": target, ":authority": "images.example.com" });
      stream.on("response", (headers) => done(headers[":status"]));
      stream.on("error", failed);
      stream.end();
    });
  session.on("error", () => {});
  try {
    assert.equal(await ask("/generated/u/a.png"), 403);
    assert.equal(await ask("/generated//u/a.png?exp=1&kid=a&sig=b"), 400);
    assert.equal(await ask("/generated/u/%61.png?exp=1&kid=a&sig=b"), 400);
  } finally {
    session.destroy();
  }
});

test("old_versions_of_tls_are_refused", async () => {
  const [host, port] = service.bound.public.split(":");
  const connect = (options) =>
    new Promise((done) => {
      const socket = tls.connect({ host, port, ca, servername: "api.example.com", ...options }, () => done(socket.getProtocol()));
      socket.on("error", (error) => done(error.code));
      setTimeout(() => socket.destroy(), 5000).unref();
    });
  assert.equal(await connect({}), "TLSv1.3");
  assert.equal(await connect({ maxVersion: "TLSv1.2" }), "TLSv1.2");
  const old = await connect({ minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" });
  assert.ok(!/^TLSv1/.test(old), old);
});

test("a_renewed_certificate_is_in_use_without_a_restart_and_at_once_on_sighup", async () => {
  assert.equal(await shown(), "first");
  const first = await series("signet_certificate_not_after_seconds");
  assert.ok(Math.abs(first - Date.now() / 1000 - 10 * 86400) < 3600, String(first));
  replace("second");
  await until(async () => (await shown()) === "second", "the second certificate is not shown");
  assert.ok((await series("signet_certificate_not_after_seconds")) - first > 70 * 86400);
  replace("third");
  service.kill("SIGHUP");
  await until(async () => (await shown()) === "third", "the third certificate is not shown");
});

test("a_pair_that_does_not_belong_together_changes_nothing_and_is_told", async () => {
  const before = await series("signet_certificate_reload_failures_total");
  const kept = await shown();
  fs.copyFileSync(`${dir}/first.pem`, `${dir}/live.pem`);
  await until(async () => (await series("signet_certificate_reload_failures_total")) > before, "the failure is not counted");
  assert.equal(await shown(), kept);
  assert.match(service.log(), /the certificate stays as it was/);
  assert.ok(!service.log().includes("PRIVATE KEY"));
});

test("plain_http_is_sent_on_without_its_query_and_nothing_else_is_taken", async () => {
  const ask = (method, target, host) => request(`${plain}${target}`, { method, headers: { host } });
  const link = await ask("GET", "/generated/u/a.png?sig=secret", "images.example.com");
  assert.equal(link.status, 308);
  assert.equal(link.headers.location, "https://images.example.com/generated/u/a.png");
  assert.equal((await ask("GET", "/", "api.example.com:80")).headers.location, "https://api.example.com/");
  const sent = await ask("POST", "/api/generate", "api.example.com");
  assert.equal(sent.status, 403);
  assert.equal(sent.json().code, "https_required");
  assert.equal((await ask("GET", "/", "evil.example.com")).status, 421);
  assert.equal((await ask("GET", "//evil.example.com/", "api.example.com")).headers.location, "https://api.example.com//evil.example.com/");
});

test("what_cannot_work_is_refused_at_the_start", () => {
  const start = (settings) => spawnSync(program(), ["serve"], { cwd: service.folder, env: { ...service.env, SIGNET_STATE__FILE: `${dir}/other.sqlite`, ...settings }, encoding: "utf8", timeout: 60_000 });
  const refusal = (settings) => {
    const { status, stderr } = start(settings);
    assert.notEqual(status, 0);
    return stderr;
  };
  assert.match(refusal({ SIGNET_SERVER__URL: "http://api.example.com" }), /must be https:\/\//);
  assert.match(refusal({ SIGNET_SERVER__TLS__KEY_FILE: `${dir}/first.key`, SIGNET_SERVER__TLS__CERTIFICATE_FILE: `${dir}/second.pem` }), /first\.key/);
  fs.copyFileSync(`${dir}/first.key`, `${dir}/open.key`);
  fs.chmodSync(`${dir}/open.key`, 0o644);
  assert.match(refusal({ SIGNET_SERVER__TLS__KEY_FILE: `${dir}/open.key`, SIGNET_SERVER__TLS__CERTIFICATE_FILE: `${dir}/first.pem` }), /everybody can read/);
});
