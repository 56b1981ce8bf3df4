// The script for a Cloudflare account: what a dry run prints is what is sent, and a second run changes nothing.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";

const SCRIPT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../deploy/cloudflare/setup.mjs");
let server, base, dir, calls, account;

/** A stand-in that keeps what Cloudflare would keep, and answers in its envelope. */
function answer({ method, url, body, headers }) {
  if (headers.authorization !== "Bearer canary-token") return [403, null, [{ code: 10000, message: "Authentication error" }]];
  if (method === "POST" && url === "/accounts/acc/r2/buckets") {
    if (account.buckets.includes(body.name)) return [409, null, [{ code: 10004, message: "exists" }]];
    account.buckets.push(body.name);
    return [200, { name: body.name }];
  }
  if (url === "/zones/zon/rulesets/phases/http_ratelimit/entrypoint") {
    if (method === "GET") return account.rules ? [200, { rules: account.rules }] : [404, null, [{ code: 10003, message: "no entrypoint" }]];
    account.rules = body.rules.map((rule, n) => ({ id: `r${n}`, version: "1", last_updated: "today", ...rule }));
    return [200, { rules: account.rules }];
  }
  if (["PUT", "PATCH"].includes(method) && /^\/zones\/zon\/(url_normalization|settings\/\w+)$|^\/accounts\/acc\/(r2\/buckets\/signet-images\/domains\/managed|workers\/(domains|scripts\/signet-edge-production\/secrets))$/.test(url)) {
    account[url] = [...(account[url] ?? []), body];
    return [200, body];
  }
  return [404, null, [{ code: 7000, message: "No route" }]];
}

before(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "signet-cf-"));
  fs.writeFileSync(`${dir}/link`, "a:canary-link-key\n");
  fs.writeFileSync(`${dir}/edge`, "a:canary-edge-key\n");
  server = http.createServer(async (request, response) => {
    let text = "";
    for await (const part of request) text += part;
    const got = { method: request.method, url: request.url, headers: request.headers, body: text ? JSON.parse(text) : undefined };
    calls.push(got);
    const [status, result, errors = []] = answer(got);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ success: status < 400, errors, messages: [], result }));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  base = `http://127.0.0.1:${server.address().port}`;
});
beforeEach(() => {
  calls = [];
  account = { buckets: [], rules: null };
});
after(() => {
  server?.close();
  fs.rmSync(dir, { recursive: true, force: true });
});

const run = (args, env = {}) =>
  new Promise((done) =>
    execFile(process.execPath, [SCRIPT, ...args], {
      env: { PATH: process.env.PATH, CLOUDFLARE_API_BASE: base, CLOUDFLARE_API_TOKEN: "canary-token", CLOUDFLARE_ACCOUNT_ID: "acc", CLOUDFLARE_ZONE_ID: "zon", LINK_KEYS_FILE: `${dir}/link`, EDGE_KEYS_FILE: `${dir}/edge`, ...env },
    }, (error, stdout, stderr) => done({ code: error?.code ?? 0, stdout, stderr })));
const lines = (text) => text.split("\n").filter((line) => /^(GET|PUT|POST|PATCH) /.test(line)).map((line) => line.replace(base, ""));

test("a_dry_run_prints_what_a_real_run_sends_and_sends_nothing", async () => {
  for (const phase of ["before", "after"]) {
    const dry = await run([phase, "--dry-run"]);
    assert.equal(dry.code, 0, dry.stderr);
    assert.deepEqual(calls, []);
    const real = await run([phase]);
    assert.equal(real.code, 0, real.stderr);
    assert.deepEqual(calls.map(({ method, url }) => `${method} ${url}`), lines(dry.stdout));
    assert.deepEqual(lines(real.stdout), lines(dry.stdout));
    calls = [];
  }
});

test("a_dry_run_needs_neither_account_nor_token", async () => {
  const { code, stdout } = await run(["before", "--dry-run"], { CLOUDFLARE_API_TOKEN: undefined, CLOUDFLARE_ACCOUNT_ID: undefined, CLOUDFLARE_ZONE_ID: undefined, CLOUDFLARE_API_BASE: undefined });
  assert.equal(code, 0);
  assert.match(stdout, /^POST https:\/\/api\.cloudflare\.com\/client\/v4\/accounts\/\{CLOUDFLARE_ACCOUNT_ID\}\/r2\/buckets$/m);
});

test("over_30_generations_in_60_s_are_blocked_for_600_s", async () => {
  assert.equal((await run(["before"])).code, 0);
  const [rule] = account.rules;
  assert.deepEqual(rule.ratelimit, { characteristics: ["ip.src", "cf.colo.id"], period: 60, requests_per_period: 30, mitigation_timeout: 600 });
  assert.equal(rule.action, "block");
  assert.equal(rule.action_parameters.response.status_code, 429);
  assert.match(rule.expression, /http\.host eq "api\.example\.com".*"\/api\/generate" "\/v1\/images\/generations"/);
});

test("a_second_run_changes_nothing_and_the_rules_of_others_stay", async () => {
  account.rules = [{ id: "x", ref: "theirs", version: "3", last_updated: "then", expression: "true", action: "log" }];
  assert.equal((await run(["before"])).code, 0);
  const first = structuredClone(account.rules);
  assert.deepEqual(first.map(({ ref }) => ref), ["theirs", "signet_generations_per_address"]);
  assert.equal((await run(["before"])).code, 0);
  assert.deepEqual(account.rules.map(({ ref }) => ref), ["theirs", "signet_generations_per_address"]);
  assert.deepEqual(account.buckets, ["signet-images"]);
  assert.deepEqual(account["/zones/zon/url_normalization"].at(-1), { type: "cloudflare", scope: "none" });
  assert.deepEqual(account["/accounts/acc/r2/buckets/signet-images/domains/managed"].at(-1), { enabled: false });
});

test("secrets_are_sent_and_never_printed", async () => {
  const { stdout, stderr } = await run(["after"]);
  const sent = account["/accounts/acc/workers/scripts/signet-edge-production/secrets"];
  assert.deepEqual(sent, [
    { name: "LINK_KEYS", text: "a:canary-link-key", type: "secret_text" },
    { name: "EDGE_KEYS", text: "a:canary-edge-key", type: "secret_text" },
  ]);
  assert.deepEqual(account["/accounts/acc/workers/domains"].map(({ hostname }) => hostname), ["images.example.com", "api.example.com"]);
  assert.ok(!/canary/.test(stdout + stderr));
});

test("a_refusal_ends_the_run_with_cloudflares_words", async () => {
  const { code, stderr } = await run(["before"], { CLOUDFLARE_API_TOKEN: "wrong" });
  assert.equal(code, 1);
  assert.match(stderr, /answered 403: 10000 Authentication error/);
  assert.equal(calls.length, 1);
  const missing = await run(["after"], { LINK_KEYS_FILE: undefined });
  assert.match(missing.stderr, /LINK_KEYS_FILE is not set/);
  const clear = await run(["before"], { CLOUDFLARE_API_BASE: "http://example.com" });
  assert.match(clear.stderr, /travel in clear/);
});
