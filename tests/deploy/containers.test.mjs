// Container and unit files, as far as they can be judged without an engine: they parse, name what exists, and stay
// hardened.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const read = (file) => fs.readFileSync(path.join(ROOT, file), "utf8");
let compose, dir;

before(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-units-"));
  // PyYAML resolves anchors and merges; it comes with the secret scanner.
  const venv = execFileSync("bash", ["-c", '. "$1/scripts/lib/common.sh"; . "$1/scripts/lib/secrets.sh"; secret_scanner; dirname "$DETECT_SECRETS"', "bash", ROOT], { encoding: "utf8" }).trim();
  compose = JSON.parse(execFileSync(`${venv}/python`, ["-c", "import json,sys,yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))", path.join(ROOT, "deploy/containers/compose.yml")], { encoding: "utf8" }));
});
after(() => fs.rmSync(dir, { recursive: true, force: true }));

test("the_services_of_the_compose_file_are_hardened_and_only_the_front_is_published", () => {
  assert.deepEqual(Object.keys(compose.services).sort(), ["grafana", "nginx", "origin", "prometheus", "redis"]);
  for (const [name, service] of Object.entries(compose.services)) {
    assert.equal(service.read_only, true, name);
    assert.deepEqual(service.cap_drop, ["ALL"], name);
    assert.deepEqual(service.security_opt, ["no-new-privileges:true"], name);
    for (const port of service.ports ?? []) assert.ok(["80:80", "443:443"].includes(port) || port.startsWith("127.0.0.1:"), `${name} publishes ${port}`);
    for (const network of service.networks ?? []) assert.ok(network in compose.networks, network);
    for (const secret of service.secrets ?? []) assert.ok(secret in compose.secrets, secret);
    for (const other of service.depends_on ?? []) assert.ok(other in compose.services, other);
    for (const volume of service.volumes ?? []) {
      const [from] = volume.split(":");
      if (!from.startsWith(".")) assert.ok(from in compose.volumes, volume);
      else if (from !== "./tls") assert.ok(fs.existsSync(path.join(ROOT, "deploy/containers", from)), `${from} is not there`);
    }
    if (service.build) assert.ok(fs.existsSync(path.join(ROOT, service.build.dockerfile)));
  }
  for (const name of ["limits", "metrics", "dashboards"]) assert.equal(compose.networks[name].internal, true, name);
});

test("redis_asks_for_a_password_and_only_the_origin_reaches_it", () => {
  const { redis, origin } = compose.services;
  const neighbours = Object.entries(compose.services).filter(([name, service]) => name !== "redis" && service.networks?.some((one) => redis.networks.includes(one)));
  assert.deepEqual(neighbours.map(([name]) => name), ["origin"]);
  assert.deepEqual(redis.command.slice(0, 2), ["redis-server", `/run/secrets/${redis.secrets[0]}`]);
  assert.ok(!JSON.stringify(compose).includes("requirepass"), "a password among arguments is everybody's");
  assert.equal(origin.environment.SIGNET_STATE__PASSWORD_FILE, "/run/secrets/redis_password");
  assert.ok(origin.secrets.includes("redis_password"));
});

test("all_that_the_container_files_fetch_is_pinned_by_hash", () => {
  const pinned = /@sha256:[0-9a-f]{64}$/;
  for (const [name, { image, build }] of Object.entries(compose.services)) if (!build) assert.match(image, pinned, name);
  for (const file of ["origin", "edge"]) {
    const text = read(`deploy/containers/${file}.Containerfile`).replace(/^\s*#.*\n/gm, "").replace(/\\\n/g, " ");
    const defaults = Object.fromEntries([...text.matchAll(/^ARG (\w+)=(\S+)$/gm)].map(([, name, value]) => [name, value]));
    for (const [, from] of text.matchAll(/^FROM (\S+)/gm)) assert.match(from.replace(/^\$\{(\w+)\}$/, (_, name) => defaults[name]), pinned, from);
    for (const [, run] of text.matchAll(/^RUN (.*)$/gm)) {
      assert.doesNotMatch(run, /\b(?:curl|wget|npm install|npx|git clone)\b/);
      if (/\bpip /.test(run)) assert.match(run, /--require-hashes/);
      if (/\bcargo build/.test(run)) assert.match(run, /--locked/);
    }
  }
  for (const line of read("deploy/containers/runtime.txt").split("\n").filter((line) => line && !line.startsWith("#"))) {
    assert.match(line, /^[\w-]+==[\d.]+( --hash=sha256:[0-9a-f]{64})+$/);
  }
  const lock = JSON.parse(read("package-lock.json")).packages;
  for (const [name, { integrity, link }] of Object.entries(lock)) if (name && !link) assert.match(integrity ?? "", /^sha512-/, name);
});

test("settings_of_the_compose_file_are_settings_of_the_program", () => {
  const settings = new Set([...read("docs/configuration.md").matchAll(/`(\w+(?:\.\w+)+)`/g)].map(([, name]) => name));
  let section = "";
  for (const line of read("docs/configuration.md").split("\n")) {
    section = /^\[([\w.]+)\]/.exec(line)?.[1] ?? section;
    settings.add(`${section}.${/^(\w+) = /.exec(line)?.[1]}`);
  }
  for (const name of Object.keys(compose.services.origin.environment)) {
    const setting = name.slice(7).toLowerCase().replaceAll("__", ".");
    assert.ok(settings.has(setting), setting);
  }
});

test("container_files_are_read_as_instructions_and_copy_what_is_there", () => {
  const known = new Set(["ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"]);
  for (const file of ["origin", "edge"]) {
    const text = read(`deploy/containers/${file}.Containerfile`).replace(/^\s*#.*\n/gm, "").replace(/\\\n/g, " ");
    const stages = new Set();
    let user = null;
    for (const line of text.split("\n").filter(Boolean)) {
      const [word, ...rest] = line.trim().split(/\s+/);
      assert.ok(known.has(word), line);
      if (word === "FROM") {
        user = null;
        if (rest[1] === "AS") stages.add(rest[2]);
      }
      if (word === "USER") user = rest[0];
      if (word === "COPY") {
        const from = rest.find((part) => part.startsWith("--from="))?.slice(7);
        if (from) assert.ok(stages.has(from), line);
        else for (const source of rest.slice(0, -1)) assert.ok(fs.existsSync(path.join(ROOT, source)) || source.startsWith("edge/build"), `${source} is not there`);
      }
      if (["ENTRYPOINT", "CMD", "VOLUME"].includes(word)) JSON.parse(line.slice(line.indexOf("[")));
      if (word === "RUN") assert.equal(spawnSync("bash", ["-n"], { input: line.slice(4) }).status, 0, line);
    }
    assert.equal(user, "10001:10001", `${file} runs as ${user}`);
  }
  // Every crate of the workspace is there to be built.
  for (const [, crate] of read("Cargo.toml").match(/members = \[(.*)\]/)[1].matchAll(/"(\w+)"/g)) {
    assert.ok(read("deploy/containers/origin.Containerfile").includes(`COPY ${crate} ${crate}\n`), crate);
  }
  // The runtime in the container and the one that is tested are one version.
  const version = /ORT_VERSION=([\d.]+)/.exec(read("scripts/lib/onnxruntime.sh"))[1];
  assert.ok(read("deploy/containers/runtime.txt").includes(`onnxruntime==${version} `));
  assert.match(read("deploy/containers/edge.Containerfile"), /COPY package.json package-lock.json[^]*npm ci/, "workerd is the release of the lock file");
});

test("systemd_reads_the_units_without_a_complaint", (t) => {
  if (spawnSync("systemd-analyze", ["--version"]).error) return t.skip("systemd is not installed here");
  // Programs that an installation would put there.
  for (const name of fs.readdirSync(path.join(ROOT, "deploy/systemd")).filter((name) => /\.(service|timer)$/.test(name))) {
    fs.writeFileSync(path.join(dir, name), read(`deploy/systemd/${name}`).replace(/^(ExecStart(?:Pre)?=)\/usr\/local\/(?:bin|lib\/signet)\/\w+/gm, "$1/bin/true"));
  }
  const units = fs.readdirSync(dir).map((name) => path.join(dir, name));
  const { status, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", ...units], { encoding: "utf8" });
  const ours = stderr.split("\n").filter((line) => line.includes(dir) || /signet/.test(line));
  assert.equal(status, 0, stderr);
  assert.deepEqual(ours, []);
});

test("systemd_rates_the_units_as_hardened", (t) => {
  if (spawnSync("systemd-analyze", ["--version"]).error) return t.skip("systemd is not installed here");
  for (const name of ["signet.service", "signet-backup.service"]) {
    const { stdout } = spawnSync("systemd-analyze", ["security", "--offline=true", "--no-pager", path.join(ROOT, "deploy/systemd", name)], { encoding: "utf8" });
    const level = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
    assert.ok(level < 2.5, `${name}: ${level}`);
  }
});
