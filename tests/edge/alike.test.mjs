// One table of requests, as bytes, run against `signet serve` alone and behind the edge: both must give the same answer.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { ROOT, newKey, raw, sleep, startBucket, startEdge } from "./harness.mjs";

const SIGNET = process.env.SIGNET_BIN ?? path.join(ROOT, "target/debug/signet"); // cargo test --workspace --no-run
const started = [];
let alone, behind;

async function serve(settings) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-alike-"));
  const ready = path.join(folder, "ready");
  const { PATH, HOME, SIGNET_CACHE, XDG_CACHE_HOME, SIGNET_INFER__LIBRARY, ORT_DYLIB_PATH } = process.env;
  const inherited = Object.fromEntries(
    Object.entries({ PATH, HOME, SIGNET_CACHE, XDG_CACHE_HOME, SIGNET_INFER__LIBRARY, ORT_DYLIB_PATH }).filter(([, value]) => value),
  );
  const env = {
    ...inherited,
    SIGNET_SERVER__BIND: "127.0.0.1:0", SIGNET_SERVER__OPERATOR_BIND: "127.0.0.1:0", SIGNET_IMAGES__BIND: "127.0.0.1:0",
    SIGNET_SERVER__READY_FILE: ready, SIGNET_STATE__FILE: path.join(folder, "state.sqlite"), SIGNET_STORAGE__FOLDER: path.join(folder, "objects"),
    SIGNET_INFER__MODELS: JSON.stringify([path.join(ROOT, "tests/goldens/engine/model")]), SIGNET_INFER__DEVICE: "cpu",
    SIGNET_LIMITS__ENABLED: "false", ...settings,
  };
  const child = spawn(SIGNET, ["serve"], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (log += part));
  const exited = new Promise((done) => child.once("exit", done));
  started.push(async () => (child.kill("SIGKILL"), await exited, fs.rmSync(folder, { recursive: true, force: true })));
  for (const end = Date.now() + 60_000; !fs.existsSync(ready); await sleep(50)) {
    if (child.exitCode !== null || Date.now() > end) throw new Error(`did not start:\n${log}`);
  }
  const port = Number(JSON.parse(fs.readFileSync(ready, "utf8")).public.split(":").pop());
  return { port, client: () => JSON.parse(execFileSync(SIGNET, ["client", "add", "--json"], { cwd: folder, env }).toString()) };
}

/** What a caller can tell apart of an answer. */
function seen(answer) {
  const [head, body] = answer.split(/\r\n\r\n(.*)/s);
  const [first, ...lines] = head.split("\r\n");
  const headers = Object.fromEntries(lines.map((line) => line.split(/: ?(.*)/s).slice(0, 2)).map(([name, value]) => [name.toLowerCase(), value]));
  const json = /\{.*\}/s.exec(body ?? "")?.[0];
  let told;
  try { told = JSON.parse(json); } catch { told = undefined; }
  return {
    status: Number(first.split(" ")[1]),
    type: headers["content-type"]?.split(";")[0],
    allow: headers.allow,
    cache: headers["cache-control"],
    challenge: headers["www-authenticate"]?.split(" ")[0],
    code: told?.code ?? told?.error?.code ?? told?.error,
    detail: told?.detail,
    job: told?.job?.status,
    hasBody: Boolean(body),
  };
}

/** Sends one request; `token: false` sends none, `host: null` no Host. */
async function ask(it, { method = "GET", target, host, headers = [], body = "", token = true, version = "1.1" }) {
  const lines = [`${method} ${target} HTTP/${version}`];
  if (host !== null) lines.push(`host: ${host ?? `127.0.0.1:${it.port}`}`);
  lines.push("cf-connecting-ip: 192.0.2.1", ...headers);
  if (token) lines.push(`authorization: Bearer ${it.token}`);
  if (body || method === "POST") lines.push(`content-length: ${Buffer.byteLength(body)}`);
  lines.push("connection: close", "", body);
  return seen(await raw(it.port, lines.join("\r\n")));
}

before(async () => {
  const [keys, bucket] = [`e1:${newKey()}`, await startBucket()];
  started.push(() => bucket.close());
  alone = await serve({});
  const origin = await serve({ SIGNET_EDGE__REQUIRE: "true", SIGNET_EDGE__KEYS: keys });
  const edge = await startEdge({ bucket, origin, vars: { EDGE_KEYS: keys, LIMITS: "off" } });
  started.push(() => edge.stop());
  behind = { port: edge.port, client: origin.client };
  for (const it of [alone, behind]) {
    const { client_id: id, client_secret: secret } = it.client();
    const form = `grant_type=client_credentials&client_id=${id}&client_secret=${secret}`;
    const answer = await raw(it.port, [
      "POST /oauth/token HTTP/1.1", `host: 127.0.0.1:${it.port}`, "cf-connecting-ip: 192.0.2.1", "content-type: application/x-www-form-urlencoded",
      `content-length: ${form.length}`, "connection: close", "", form,
    ].join("\r\n"));
    it.token = /"access_token":"([^"]+)"/.exec(answer)?.[1];
    assert.ok(it.token, answer);
  }
});
after(async () => {
  for (const stop of started.reverse()) await stop();
});

const JSON_TYPE = "content-type: application/json";
const generate = (more) => ({ method: "POST", target: "/api/generate", headers: [JSON_TYPE], body: '{"prompt":"x","steps":1}', ...more });
const keyed = (...keys) => generate({ headers: [JSON_TYPE, ...keys.map((key) => `idempotency-key: ${key}`)] });

const TABLE = {
  "two idempotency keys": keyed("a", "b"),
  "two equal idempotency keys": keyed("a", "a"),
  "an idempotency key that reads as two": keyed("a, b"),
  "an idempotency key with a comma": keyed("a,b"),
  "an idempotency key that is too long": keyed("k".repeat(256)),
  "an empty idempotency key": keyed(""),
  "an idempotency key beyond ASCII": keyed("ä"),
  "a plain generation": generate(),
  "another host": { target: "/api/usage", host: "evil.example" },
  "another port": { target: "/api/usage", host: "127.0.0.1:1" },
  "an upper-case host": { target: "/.well-known/jwks.json", host: "EVIL.example" },
  // The runtime answers this one by itself.
  "an empty host": { target: "/api/usage", host: "", alone: [421, "unknown_host"], behind: [400, undefined] },
  "a host with credentials": { target: "/api/usage", host: "a@127.0.0.1" },
  "no token": { target: "/api/usage", token: false },
  "a bent token": { target: "/api/usage", token: false, headers: ["authorization: Bearer a.b.c"] },
  "two tokens": { target: "/api/usage", headers: ["authorization: Bearer x"] },
  "another scheme": { target: "/api/usage", token: false, headers: ["authorization: Basic YTpi"] },
  "a token in the query": { target: "/api/usage?access_token=x" },
  "an unknown query parameter": { target: "/api/usage?x=1" },
  "a list": { target: "/api/images?limit=1" },
  "a list with a limit that is none": { target: "/api/images?limit=x" },
  "ignored query": { target: "/.well-known/jwks.json?x=1", token: false },
  "no such route": { target: "/api/nothing" },
  "no such folder": { target: "/nothing", token: false },
  "the operator's route": { target: "/metrics", token: false },
  "a content type beyond ASCII": generate({ headers: ["content-type: application/jsön"] }),
  "a cookie beyond ASCII": { target: "/api/usage", headers: ["cookie: a=ä"] },
  "an encoded spelling": { target: "/api/%67enerate", method: "POST" },
  "a doubled slash": { target: "//api/usage" },
  "dots": { target: "/api/x/../usage" },
  "a trailing slash": { target: "/api/usage/" },
  "HEAD of a list": { method: "HEAD", target: "/api/images" },
  "HEAD of usage": { method: "HEAD", target: "/api/usage" },
  "HEAD of a job that is not there": { method: "HEAD", target: "/api/jobs/x" },
  "HEAD of the page": { method: "HEAD", target: "/", token: false },
  "HEAD without a token": { method: "HEAD", target: "/api/usage", token: false },
  "HEAD of a generation": { method: "HEAD", target: "/api/generate" },
  "OPTIONS": { method: "OPTIONS", target: "/api/generate", token: false },
  "OPTIONS of a list": { method: "OPTIONS", target: "/api/images" },
  "PUT": { method: "PUT", target: "/api/images" },
  "PATCH": { method: "PATCH", target: "/api/usage" },
  "GET of a generation": { target: "/api/generate" },
  "DELETE of a list": { method: "DELETE", target: "/api/images" },
  "text as body": generate({ headers: ["content-type: text/plain"] }),
  "no type": generate({ headers: [] }),
  "an upper-case type": generate({ headers: ["content-type: Application/JSON; charset=utf-8"] }),
  "two types": generate({ headers: [JSON_TYPE, JSON_TYPE] }),
  "two types that differ": generate({ headers: [JSON_TYPE, "content-type: text/plain"] }),
  "a type that is none": generate({ headers: ["content-type: ;"] }),
  "no body": generate({ body: "" }),
  "a body that is no JSON": generate({ body: "{" }),
  "a field of another type": generate({ body: '{"prompt":"x","width":"128"}' }),
  "a key twice": generate({ body: '{"prompt":"x","prompt":"y"}' }),
  "a body that is too long": generate({ body: `{"prompt":"${"x".repeat(70_000)}"}` }),
  "a body that is far too long": generate({ body: `{"prompt":"${"x".repeat(400_000)}"}` }),
  "events of a job that is not there": { target: "/api/jobs/00000000-0000-7000-8000-000000000000/events", headers: ["last-event-id: end"] },
  "a wrong grant": { method: "POST", target: "/oauth/token", token: false, headers: ["content-type: application/x-www-form-urlencoded"], body: "grant_type=x" },
  "GET of the token endpoint": { target: "/oauth/token", token: false },
  "OpenAI's shape": { target: "/v1/models", token: false },
};

test("alone and behind the edge the same request has the same answer", async (t) => {
  for (const [name, request] of Object.entries(TABLE)) {
    await t.test(name, async () => {
      const [one, other] = [await ask(alone, request), await ask(behind, request)];
      assert.ok(one.status >= 200, `${name}: no answer`);
      if (request.alone) return assert.deepEqual([one, other].map(({ status, code }) => [status, code]), [request.alone, request.behind]);
      assert.deepEqual(other, one);
    });
  }
});
