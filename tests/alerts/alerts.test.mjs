// The rules under real Prometheus: it scrapes two live services under a small attack, and the alerts fire. Only `for` is
// changed, to nothing, and the scrape interval, to a second. The second service's clock can be set forwards.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { authority, freePort, program, request, ROOT, serve, until } from "../deploy/harness.mjs";

let dir, service, shared, prometheus, api, ca;
const tls = () => ({ ca, servername: "api.example.com" });
const DAY = 86_400;
const HOUR = 3600;
const OLD_KEY = `old:${randomBytes(32).toString("base64")}`;
/** Where libfaketime lies; Debian's folder differs by machine. */
const library = () => {
  const found = execFileSync("dpkg", ["-L", "libfaketime"], { encoding: "utf8" }).match(/^.*\/libfaketimeMT\.so\.1$/m);
  assert.ok(found, "there is no libfaketimeMT.so.1");
  return found[0];
};
/** Sets the second service's clock so many seconds forwards. */
const forwards = (seconds) => fs.writeFileSync(`${dir}/clock`, `+${seconds}\n`);

before(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-alerts-"));
  const own = authority(dir);
  ca = own.ca;
  const { certificate, key } = own.issue("server", ["api.example.com", "images.example.com", "127.0.0.1"], 2);
  const keys = `${dir}/link-keys`;
  fs.writeFileSync(keys, `new:${randomBytes(32).toString("base64")},${OLD_KEY}`, { mode: 0o600 });
  const written = Date.now() / 1000 - 100 * DAY;
  fs.utimesSync(keys, written, written);
  service = await serve({
    SIGNET_IMAGES__KEYS_FILE: keys,
    SIGNET_LIMITS__UPLOADS__PER_MINUTE: "6000",
    SIGNET_LIMITS__UPLOADS__BURST: "1000",
    SIGNET_SERVER__URL: "https://api.example.com",
    SIGNET_IMAGES__URL: "https://images.example.com",
    SIGNET_SERVER__TLS__CERTIFICATE_FILE: certificate,
    SIGNET_SERVER__TLS__KEY_FILE: key,
    SIGNET_STATE__URL: `redis://127.0.0.1:${await freePort()}/0`, // nobody listens there
    SIGNET_LIMITS__ADDRESS__PER_MINUTE: "6000",
    SIGNET_LIMITS__ADDRESS__BURST: "1000",
    SIGNET_LIMITS__TOKEN__PER_MINUTE: "6000",
    SIGNET_LIMITS__TOKEN__BURST: "1000",
    SIGNET_LIMITS__PENALTY_ARRIVALS: "150",
  });
  forwards(0);
  shared = await serve({
    LD_PRELOAD: library(),
    FAKETIME_TIMESTAMP_FILE: `${dir}/clock`,
    FAKETIME_NO_CACHE: "1",
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
    SIGNET_EDGE__CLIENT_ADDRESS_HEADER: "x-test-address",
    SIGNET_LIMITS__TOKEN_ENDPOINT__PER_MINUTE: "6000",
    SIGNET_LIMITS__TOKEN_ENDPOINT_CLIENT__PER_MINUTE: "6000",
    SIGNET_LIMITS__TOKEN_ENDPOINT_CLIENT__BURST: "1000",
    SIGNET_LIMITS__TOKEN_ENDPOINT__BURST: "1000",
    SIGNET_LIMITS__ADDRESS__PER_MINUTE: "6000",
    SIGNET_LIMITS__ADDRESS__BURST: "1000",
    SIGNET_LIMITS__TOKEN__PER_MINUTE: "6000",
    SIGNET_LIMITS__TOKEN__BURST: "1000",
    // A provider that does not answer.
    SIGNET_PROVIDER__BASE_URL: `http://127.0.0.1:${await freePort()}/v1`,
    SIGNET_PROVIDER__ALLOW_LOOPBACK: "true",
    SIGNET_PROVIDER__MODEL: "elsewhere",
    SIGNET_PROVIDER__SIZES: '["64x64"]',
    SIGNET_PROVIDER__KEY: "sk-test",
  });
  const rules = fs.readFileSync(path.join(ROOT, "deploy/prometheus/alerts.yml"), "utf8");
  assert.match(rules, /^ {8}for: /m);
  fs.writeFileSync(`${dir}/alerts.yml`, rules.replace(/^ {8}for: .*$/gm, "        for: 0s"));
  const config = fs.readFileSync(path.join(ROOT, "deploy/prometheus/prometheus.yml"), "utf8")
    .replace(/_interval: \d+s/g, "_interval: 1s")
    .replace("/etc/prometheus/signet/alerts.yml", `${dir}/alerts.yml`)
    .replace('"127.0.0.1:9090"', JSON.stringify([service, shared].map(({ bound }) => bound.operator)).slice(1, -1));
  fs.writeFileSync(`${dir}/prometheus.yml`, config);
  const port = await freePort();
  api = `http://127.0.0.1:${port}/api/v1`;
  prometheus = spawn("prometheus", [`--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/data`, `--web.listen-address=127.0.0.1:${port}`, "--log.level=error"], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  prometheus.stderr.on("data", (part) => (said += part));
  const up = () => query('up{job="signet"}').then((found) => found.length === 2 && found.every(({ value }) => value[1] === "1"), () => false);
  await until(up, () => `Prometheus does not scrape: ${said}`);
});
after(async () => {
  prometheus?.kill("SIGKILL");
  await service?.stop();
  await shared?.stop();
  if (dir) fs.rmSync(dir, { recursive: true, force: true });
});

const query = async (text) => (await request(`${api}/query?query=${encodeURIComponent(text)}`)).json().data.result;
const firing = async () => {
  const { alerts } = (await request(`${api}/alerts`)).json().data;
  return new Set(alerts.filter(({ state }) => state === "firing").map(({ labels }) => labels.alertname));
};
/** What `act` does falls between two scrapes. */
async function unseen(act) {
  prometheus.kill("SIGSTOP");
  await act();
  prometheus.kill("SIGCONT");
}
const fires = (name) => until(async () => (await firing()).has(name), () => `${name} does not fire`, 90);

test("every_rule_is_loaded_without_a_complaint", async () => {
  const { groups } = (await request(`${api}/rules`)).json().data;
  const rules = groups.flatMap((group) => group.rules);
  const written = fs.readFileSync(path.join(ROOT, "deploy/prometheus/alerts.yml"), "utf8").match(/^ {6}- alert: /gm);
  assert.equal(rules.length, written.length);
  await until(async () => (await request(`${api}/rules`)).json().data.groups.every((group) => group.rules.every(({ health }) => health === "ok")), "a rule is not evaluated");
});

test("a_redis_that_is_away_and_a_certificate_that_ends_soon_are_told", async () => {
  await fires("SignetRedisAway");
  await fires("SignetCertificateEndsSoon");
});

test("a_link_key_that_signs_for_over_90_days_is_told", () => fires("SignetKeyOld"));

const ABUSE = [
  "SignetRefusalShareHigh", "SignetPenaltyBoxFilling", "SignetPromptRepeatedByOneUser", "SignetPromptRepeatedByManyUsers",
  "SignetLinksRefused", "SignetHostileUploads", "SignetGenerationsFail", "SignetSessionSeenFromManyAddresses",
  "SignetUserGenerationsHigh", "SignetOldLinkKeyInUse", "SignetCertificateNotRead", "SignetCertificateOld",
  "SignetPromptHashKeyOld", "SignetDown",
];
test("nothing_about_abuse_fires_on_a_quiet_service", async () => {
  const found = await firing();
  for (const name of ABUSE) assert.ok(!found.has(name), name);
});

const made = async (token, wish) => {
  const answer = await service.generate(token, wish, tls());
  assert.equal(answer.status, 200, String(answer.body));
  return answer.json().images[0];
};
test("one_prompt_again_and_again_is_told_of_one_user_and_of_many", async () => {
  const token = await service.token(tls());
  for (let n = 0; n < 31; n++) await made(token, { prompt: "the same again" });
  await fires("SignetPromptRepeatedByOneUser");
  assert.ok(!(await firing()).has("SignetPromptRepeatedByManyUsers"));
  for (let user = 0; user < 2; user++) {
    const other = await service.token(tls());
    for (let n = 0; n < 15; n++) await made(other, { prompt: "the same again" });
  }
  await fires("SignetPromptRepeatedByManyUsers");
});

test("links_under_an_old_key_are_told", async () => {
  const { key, url } = await made(await service.token(tls()), { prompt: "an old link" });
  const env = { ...service.env, SIGNET_IMAGES__KEYS_FILE: "", SIGNET_IMAGES__KEYS: OLD_KEY };
  delete env.SIGNET_IMAGES__KEYS_FILE;
  const old = execFileSync(program(), ["link", "sign", key], { cwd: service.folder, env, encoding: "utf8" }).trim();
  const open = async (link) => {
    const { pathname, search } = new URL(link);
    const answer = await request(`${service.imagesUrl}${pathname}${search}`, { ca, servername: "images.example.com", headers: { host: "images.example.com" } });
    assert.equal(answer.status, 200, String(answer.body));
  };
  await open(url);
  assert.ok(!(await firing()).has("SignetOldLinkKeyInUse"));
  assert.match(old, /kid=old/);
  await open(old);
  await fires("SignetOldLinkKeyInUse");
});

test("hostile_uploads_are_told", async () => {
  const token = await service.token(tls());
  const headers = { authorization: `Bearer ${token}`, "content-type": "image/png" };
  const upload = () => request(`${service.url}/api/upload`, { ...tls(), method: "POST", headers, body: "<svg onload='alert(1)'/>" });
  await unseen(async () => {
    for (let n = 0; n < 40; n++) {
      const answers = await Promise.all(Array.from({ length: 10 }, upload));
      for (const { status } of answers) assert.equal(status, 415);
    }
  });
  await fires("SignetHostileUploads");
});

test("generations_that_fail_are_told", async () => {
  const token = await shared.token({ headers: { "x-test-address": "192.0.2.1" } });
  const headers = { "x-test-address": "192.0.2.1" };
  await unseen(async () => {
    const fail = (_, n) => shared.generate(token, { prompt: `elsewhere ${n}`, model: "elsewhere", steps: 20 }, { headers });
    for (const { status, body } of await Promise.all(Array.from({ length: 8 }, fail))) assert.ok(status >= 500, `${status} ${body}`);
  });
  await fires("SignetGenerationsFail");
});

test("tokens_that_are_shared_and_users_at_their_limit_are_told_when_their_hour_is_over", async () => {
  const headers = { "x-test-address": "192.0.2.2" };
  const { client_id, client_secret } = JSON.parse(shared.run("client", "add", "--json"));
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id, client_secret }).toString();
  const form = { ...headers, "content-type": "application/x-www-form-urlencoded" };
  for (let session = 0; session < 22; session++) {
    const answer = await request(`${shared.url}/oauth/token`, { method: "POST", headers: form, body });
    assert.equal(answer.status, 200, String(answer.body));
    const authorization = `Bearer ${answer.json().access_token}`;
    for (let n = 0; n < (session < 2 ? 6 : 1); n++) {
      const seen = await request(`${shared.url}/api/usage`, { headers: { authorization, "x-test-address": `198.51.100.${n + 1}` } });
      assert.equal(seen.status, 200, String(seen.body));
    }
  }
  const token = await shared.token({ headers });
  for (let n = 0; n < 26; n++) {
    const answer = await shared.generate(token, { prompt: `one of many ${n}` }, { headers });
    assert.equal(answer.status, 200, String(answer.body));
  }
  const quiet = await firing();
  for (const name of ["SignetSessionSeenFromManyAddresses", "SignetUserGenerationsHigh"]) assert.ok(!quiet.has(name), name);
  forwards(HOUR + 60);
  await fires("SignetSessionSeenFromManyAddresses");
  await fires("SignetUserGenerationsHigh");
});

test("a_flood_of_generations_is_told", async () => {
  await unseen(async () => {
    for (let n = 0; n < 60; n++) {
      await Promise.all(Array.from({ length: 10 }, () => service.generate("nobody", { prompt: "flood" }, tls())));
    }
  });
  await fires("SignetRefusalShareHigh");
  await fires("SignetPenaltyBoxFilling");
});

test("probing_for_links_is_told", async () => {
  const probe = (n) => request(`${service.imagesUrl}/generated/u/${n}.png`, { ...tls(), servername: "images.example.com" });
  for (let n = 0; n < 170; n++) await Promise.all(Array.from({ length: 10 }, (_, m) => probe(n * 10 + m)));
  await fires("SignetLinksRefused");
});

test("a_certificate_that_cannot_be_read_is_told", async () => {
  fs.writeFileSync(service.env.SIGNET_SERVER__TLS__CERTIFICATE_FILE, "no certificate");
  await fires("SignetCertificateNotRead");
});

test("a_certificate_of_200_days_is_told", async () => {
  const { SIGNET_SERVER__TLS__CERTIFICATE_FILE: certificate, SIGNET_SERVER__TLS__KEY_FILE: key } = service.env;
  const fresh = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=old"];
  execFileSync("faketime", ["-f", "-200d", "openssl", "req", "-x509", ...fresh, "-days", "300", "-keyout", key, "-out", certificate], { stdio: "ignore" });
  await fires("SignetCertificateOld");
});

test("a_service_that_is_gone_is_told", async () => {
  await service.stop();
  await fires("SignetDown");
});
