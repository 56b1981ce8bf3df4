// Starts `scripts/lib/demo.mjs` (everything is built by then) and gives each test what a client has: the addresses
// of .run/env, tokens, requests without a runtime's own headers, an independent signer.
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Starts the demo and waits for its `.run/env`. `stop()` sends SIGTERM and returns the seconds it took. */
export async function startDemo(args = []) {
  const envFile = path.join(ROOT, ".run/env");
  fs.rmSync(envFile, { force: true });
  const child = spawn(process.execPath, [path.join(ROOT, "scripts/lib/demo.mjs"), ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (part) => (output += part));
  child.stderr.on("data", (part) => (output += part));
  const exited = new Promise((done) => child.once("exit", (code, signal) => done(code ?? signal)));
  let ended = false;
  exited.then(() => (ended = true));
  const deadline = Date.now() + 120_000;
  while (!fs.existsSync(envFile)) {
    if (ended || Date.now() > deadline) {
      child.kill("SIGTERM");
      throw new Error(`the demo did not start:\n${output}`);
    }
    await sleep(100);
  }
  const mode = fs.statSync(envFile).mode & 0o777;
  const env = Object.fromEntries(
    fs.readFileSync(envFile, "utf8").trim().split("\n").map((line) => {
      const [, name, value] = /^([A-Z_]+)='([^']*)'$/.exec(line) ?? [];
      return [name, value];
    }),
  );
  return {
    env, mode, output: () => output, envFile,
    async stop(signal = "SIGTERM") {
      const from = Date.now();
      if (!ended) child.kill(signal);
      await exited;
      return (Date.now() - from) / 1000;
    },
  };
}

/** One request; the body of the answer as a Buffer, `json()` when it is JSON. Header names lower case. */
export function request(url, { method = "GET", headers = {}, body, setHost = true } = {}) {
  return new Promise((done, failed) => {
    const outgoing = http.request(url, { method, headers, agent: false, setHost }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("error", failed);
      answer.on("end", () => {
        const bytes = Buffer.concat(parts);
        done({ status: answer.statusCode, headers: answer.headers, body: bytes, json: () => JSON.parse(bytes.toString("utf8")) });
      });
    });
    outgoing.setTimeout(90_000, () => outgoing.destroy(new Error("no answer within 90 s")));
    outgoing.on("error", failed);
    outgoing.end(body);
  });
}

let lastAddress = 0;
/** A client address nobody used before in this run, so that one test's limits are not another's. */
export const freshAddress = () => `198.51.100.${(lastAddress = (lastAddress % 254) + 1)}`;

/** A client of the public API as an outside program would write it. */
export class Client {
  constructor(env, { id = env.CLIENT_ID, secret = env.CLIENT_SECRET, address = freshAddress() } = {}) {
    Object.assign(this, { env, id, secret, address });
  }
  from() {
    return { "cf-connecting-ip": this.address };
  }
  async token(scope) {
    const answer = await request(`${this.env.EDGE_URL}/oauth/token`, {
      method: "POST",
      headers: {
        ...this.from(),
        authorization: `Basic ${Buffer.from(`${this.id}:${this.secret}`).toString("base64")}`,
        "content-type": "application/x-www-form-urlencoded",
      },
      body: new URLSearchParams({ grant_type: "client_credentials", ...(scope && { scope }) }).toString(),
    });
    if (answer.status !== 200) throw new Error(`token: ${answer.status} ${answer.body}`);
    return answer.json().access_token;
  }
  async api(method, route, { token, body, headers = {} } = {}) {
    return request(`${this.env.EDGE_URL}${route}`, {
      method,
      headers: {
        ...this.from(),
        ...(token && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
    });
  }
  fetch(link, headers = {}) {
    return request(link, { headers: { ...this.from(), ...headers } });
  }
}

/** Signs a link as the contract's section 1 says, independently of the Rust code. */
export function signLink(env, key, params) {
  const [kid, secret] = env.LINK_KEYS.split(",")[0].split(/:(.*)/s);
  const all = Object.entries({ ...params, kid }).sort(([a], [b]) => (a < b ? -1 : 1));
  const input = `signet-link-v1\n/${key}\n${all.map(([name, value]) => `${name}=${value}\n`).join("")}`;
  const sig = createHmac("sha256", Buffer.from(secret, "base64")).update(input).digest("base64url");
  const query = [...all, ["sig", sig]].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => `${name}=${value}`).join("&");
  return `${env.IMAGES_URL}/${key}?${query}`;
}
