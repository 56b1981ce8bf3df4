// The rules under real Prometheus: it scrapes a live service under a small attack, and the alerts fire. Only `for` is
// changed, to nothing, and the scrape interval, to a second.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { authority, freePort, request, ROOT, serve, until } from "../deploy/harness.mjs";

let dir, service, prometheus, api, ca;
const tls = () => ({ ca, servername: "api.example.com" });

before(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-alerts-"));
  const own = authority(dir);
  ca = own.ca;
  const { certificate, key } = own.issue("server", ["api.example.com", "images.example.com", "127.0.0.1"], 2);
  service = await serve({
    SIGNET_SERVER__URL: "https://api.example.com",
    SIGNET_IMAGES__URL: "https://images.example.com",
    SIGNET_SERVER__TLS__CERTIFICATE_FILE: certificate,
    SIGNET_SERVER__TLS__KEY_FILE: key,
    SIGNET_STATE__URL: `redis://127.0.0.1:${await freePort()}/0`, // nobody listens there
    SIGNET_LIMITS__ADDRESS__PER_MINUTE: "6000",
    SIGNET_LIMITS__ADDRESS__BURST: "1000",
    SIGNET_LIMITS__TOKEN__PER_MINUTE: "6000",
    SIGNET_LIMITS__TOKEN__BURST: "1000",
    SIGNET_LIMITS__PENALTY_ARRIVALS: "60",
  });
  const rules = fs.readFileSync(path.join(ROOT, "deploy/prometheus/alerts.yml"), "utf8");
  assert.match(rules, /^ {8}for: /m);
  fs.writeFileSync(`${dir}/alerts.yml`, rules.replace(/^ {8}for: .*$/gm, "        for: 0s"));
  const config = fs.readFileSync(path.join(ROOT, "deploy/prometheus/prometheus.yml"), "utf8")
    .replace(/_interval: \d+s/g, "_interval: 1s")
    .replace("/etc/prometheus/signet/alerts.yml", `${dir}/alerts.yml`)
    .replace("127.0.0.1:9090", service.bound.operator);
  fs.writeFileSync(`${dir}/prometheus.yml`, config);
  const port = await freePort();
  api = `http://127.0.0.1:${port}/api/v1`;
  prometheus = spawn("prometheus", [`--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/data`, `--web.listen-address=127.0.0.1:${port}`, "--log.level=error"], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  prometheus.stderr.on("data", (part) => (said += part));
  const up = () => query('up{job="signet"}').then((found) => found[0]?.value[1] === "1", () => false);
  await until(up, () => `Prometheus does not scrape: ${said}`);
});
after(async () => {
  prometheus?.kill("SIGKILL");
  await service?.stop();
  if (dir) fs.rmSync(dir, { recursive: true, force: true });
});

const query = async (text) => (await request(`${api}/query?query=${encodeURIComponent(text)}`)).json().data.result;
const firing = async () => {
  const { alerts } = (await request(`${api}/alerts`)).json().data;
  return new Set(alerts.filter(({ state }) => state === "firing").map(({ labels }) => labels.alertname));
};
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

test("nothing_about_abuse_fires_on_a_quiet_service", async () => {
  const found = await firing();
  for (const name of ["SignetRefusalShareHigh", "SignetPenaltyBoxFilling", "SignetPromptRepeatedByOneUser", "SignetLinksRefused", "SignetDown"]) assert.ok(!found.has(name), name);
});

test("one_prompt_again_and_again_is_told", async () => {
  const token = await service.token(tls());
  for (let n = 0; n < 31; n++) {
    const answer = await service.generate(token, { prompt: "the same again" }, tls());
    assert.equal(answer.status, 200, String(answer.body));
  }
  await fires("SignetPromptRepeatedByOneUser");
});

test("a_flood_of_generations_is_told", async () => {
  prometheus.kill("SIGSTOP"); // all of it falls between two scrapes
  for (let n = 0; n < 60; n++) {
    await Promise.all(Array.from({ length: 10 }, () => service.generate("nobody", { prompt: "flood" }, tls())));
  }
  prometheus.kill("SIGCONT");
  await fires("SignetRefusalShareHigh");
  await fires("SignetPenaltyBoxFilling");
});

test("probing_for_links_is_told", async () => {
  const probe = (n) => request(`${service.imagesUrl}/generated/u/${n}.png`, { ...tls(), servername: "images.example.com" });
  for (let n = 0; n < 170; n++) await Promise.all(Array.from({ length: 10 }, (_, m) => probe(n * 10 + m)));
  await fires("SignetLinksRefused");
});

test("a_service_that_is_gone_is_told", async () => {
  await service.stop();
  await fires("SignetDown");
});
