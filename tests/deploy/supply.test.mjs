// The checks of what comes in and what must not go out can fail: a planted key is found, a banned crate is named.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
let dir;
before(() => (dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-supply-"))));
after(() => fs.rmSync(dir, { recursive: true, force: true }));

function scan(files) {
  const folder = fs.mkdtempSync(path.join(dir, "tree-"));
  execFileSync("git", ["init", "-q"], { cwd: folder });
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(folder, name), text);
  execFileSync("git", ["add", "."], { cwd: folder });
  return spawnSync("bash", ["-c", '. "$1/scripts/lib/common.sh"; . "$1/scripts/lib/secrets.sh"; secret_scan "$2"', "bash", ROOT, folder], { encoding: "utf8" });
}

test("planted_keys_are_found_and_not_repeated", () => {
  const key = randomBytes(32).toString("base64");
  const pem = execFileSync("openssl", ["genpkey", "-algorithm", "ed25519"], { encoding: "utf8" });
  const aws = `AKIA${"QWERTYUIOPASDFGH"}`;
  const { status, stdout } = scan({
    "settings.toml": `keys = "prod-1:${key}"\n`,
    "key.pem": pem,
    "deploy.sh": `export AWS_ACCESS_KEY_ID=${aws}\n`,
  });
  assert.equal(status, 1, stdout);
  for (const line of [/^settings\.toml:1: Signet keyring$/m, /^key\.pem:1: Private Key$/m, /^deploy\.sh:1: AWS Access Key$/m, /^3 secrets found$/m]) assert.match(stdout, line);
  assert.ok(!stdout.includes(key) && !stdout.includes(aws));
});

test("what_is_no_secret_is_let_through", () => {
  const { status, stdout } = scan({
    "readme.md": `kid:key, a:${Buffer.alloc(32, 7).toString("base64")}, sha256:${"ab".repeat(32)}\n`,
    "vector.rs": `let key = "v1:${randomBytes(32).toString("base64")}"; // pragma: allowlist secret\n`,
  });
  assert.equal(status, 0, stdout);
});

/** `cargo metadata` of a workspace with one dependency. */
function deny({ name = "good", license = "MIT", source = "registry+https://github.com/rust-lang/crates.io-index", req = "^1" }) {
  const metadata = {
    packages: [
      { id: "own", name: "app", version: "0.1.0", source: null, license: "Apache-2.0", dependencies: [{ name, req, source }] },
      { id: "dep", name, version: "1.0.0", source, license, dependencies: [] },
    ],
    workspace_members: ["own"],
    resolve: { nodes: [{ id: "own", deps: [{ pkg: "dep" }] }, { id: "dep", deps: [] }] },
  };
  return spawnSync("python3", [path.join(ROOT, "scripts/lib/deny.py"), path.join(ROOT, "deny.toml")], { input: JSON.stringify(metadata), encoding: "utf8" });
}

test("licences_are_read_as_expressions", () => {
  for (const license of ["MIT", "MIT/Apache-2.0", "(MIT OR GPL-3.0-only) AND Zlib", "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only"]) assert.equal(deny({ license }).status, 0, license);
  for (const license of ["GPL-3.0-only", "MIT AND AGPL-3.0-only", "(MIT", "MIT OR", "", null]) assert.equal(deny({ license }).status, 1, String(license));
});

test("banned_crates_foreign_sources_and_open_versions_are_named", () => {
  assert.match(deny({ name: "openssl" }).stderr, /openssl is banned \(one TLS stack: rustls\), and used by app/);
  assert.match(deny({ name: "worker" }).stderr, /worker is banned/);
  assert.match(deny({ source: "git+https://example.com/x" }).stderr, /comes from git/);
  assert.match(deny({ req: "*" }).stderr, /any version of good would do/);
});
