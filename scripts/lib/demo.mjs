// Supervises the demo: starts origin and edge, makes one picture, tells where it is, stops everything.
// Called by scripts/demo when tools and binaries are in place. Progress → stderr, result → stdout.
import { spawn, execFileSync } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { edgeCommand } from "./edge.mjs";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const RUN = path.join(ROOT, ".run");
const BIN = process.env.SIGNET_BIN ?? path.join(ROOT, "target/release/signet");
const ALL_SCOPES = "images:generate images:read images:write uploads:write billing:read";
const started = Date.now();
const options = new Map(); // each has a value
for (let at = 2; at < process.argv.length; at += 2) options.set(process.argv[at], process.argv[at + 1]);
const once = options.get("--once") ?? null;
const limitsOff = options.has("--limits");
const prompt = once ?? "a purple heart";

const say = (text) => process.stderr.write(`==> ${text}\n`);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const children = new Map();
let stopping = null;

/** Starts a process in a group of its own, so that what it starts ends with it. */
function start(name, command, argv, env) {
  const log = fs.openSync(path.join(RUN, `${name}.log`), "w", 0o600);
  const child = spawn(command, argv, { cwd: ROOT, env, stdio: ["ignore", log, log], detached: true });
  fs.closeSync(log);
  children.set(name, child);
  const ended = (why) => {
    children.delete(name);
    if (!stopping) fail(`${name} ended (${why}); its log is .run/${name}.log`, tail(name));
  };
  child.on("error", (error) => ended(error.message));
  child.on("exit", (code, signal) => ended(signal ?? `exit code ${code}`));
}

function tail(name) {
  try {
    return fs.readFileSync(path.join(RUN, `${name}.log`), "utf8").split("\n").slice(-15).join("\n");
  } catch {
    return "";
  }
}

function signalGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
    return true;
  } catch {
    return false; // the group is gone
  }
}

const envFile = path.join(RUN, "env");
// For `signet doctor`: where the store and the logs are, beside what every client may know.
const doctorFile = path.join(RUN, "doctor.env");
let envWritten = null;
/** What another demo, still up in this checkout, had put there. */
let envBefore = null;
let doctorBefore = null;
let stateDir = null;

const textOf = (file) => (fs.existsSync(file) ? fs.readFileSync(file, "utf8") : null);

/** Whether the demo that wrote this `.run/env` answers. */
async function isUp(text) {
  const url = /^OPERATOR_URL='(http:[^']+)'$/m.exec(text)?.[1];
  if (!url) return false;
  const answer = await Promise.race([request(`${url}/healthz`).catch(() => null), sleep(1000)]);
  return answer?.status === 200;
}

/** Ends every process within 10 s, then removes what only a running demo may leave behind. */
async function stop(code) {
  if (stopping) return stopping;
  stopping = (async () => {
    // Another demo in the same checkout may have put its own file there, or want the one back that stood there before.
    if (envWritten && textOf(envFile) === envWritten) {
      if (envBefore && (await isUp(envBefore))) {
        if (doctorBefore) writeWhole(doctorFile, doctorBefore);
        writeWhole(envFile, envBefore);
      } else {
        fs.rmSync(envFile, { force: true });
        fs.rmSync(doctorFile, { force: true });
      }
    }
    const left = [...children.values()];
    for (const child of left) signalGroup(child, "SIGTERM");
    const deadline = Date.now() + 6000;
    while (left.some((child) => signalGroup(child, 0)) && Date.now() < deadline) await sleep(50);
    for (const child of left) signalGroup(child, "SIGKILL");
    if (stateDir) fs.rmSync(stateDir, { recursive: true, force: true, maxRetries: 5 });
    process.exit(code);
  })();
  return stopping;
}

function fail(why, detail = "") {
  if (stopping) return;
  if (detail) process.stderr.write(`${detail}\n`);
  process.stderr.write(`error: ${why}\n`);
  stop(1);
}

process.on("SIGINT", () => stop(130));
process.on("SIGTERM", () => stop(143));
process.on("SIGHUP", () => stop(129));
process.on("uncaughtException", (error) => fail(error.stack ?? String(error)));
process.on("unhandledRejection", (error) => fail(error?.stack ?? String(error)));

/** The usual port when it is free, another one otherwise. Held open until `release` is called. */
async function reservePort(usual) {
  const listen = (port) =>
    new Promise((done, failed) => {
      const server = net.createServer();
      server.once("error", failed);
      server.listen(port, "127.0.0.1", () => done(server));
    });
  const server = await listen(usual).catch(() => listen(0));
  const { port } = server.address();
  return { port, release: () => new Promise((done) => server.close(done)) };
}

/** One request without any header of the runtime's own; a redirect is an answer like any other. */
function request(url, { method = "GET", headers = {}, body } = {}) {
  return new Promise((done, failed) => {
    const outgoing = http.request(url, { method, headers, agent: false }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("error", failed);
      answer.on("end", () => done({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
    });
    outgoing.setTimeout(90_000, () => outgoing.destroy(new Error(`no answer from ${url.split("?")[0]}`)));
    outgoing.on("error", failed);
    outgoing.end(body);
  });
}

async function untilAnswers(name, url, headers, seconds) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await request(url, { headers }).catch(() => null);
    if (answer && answer.status === 200) return;
    if (stopping) await new Promise(() => {});
    if (Date.now() > deadline) {
      throw new Error(`${name} did not answer within ${seconds} s; its log is .run/${name}.log\n${tail(name)}`);
    }
    await sleep(100);
  }
}

/** Adds a client through the operators' own command and returns its id and secret. */
function addClient(env, name, scopes) {
  const out = execFileSync(BIN, ["client", "add", "--name", name, "--user", `demo-${randomUUID()}`, "--scopes", scopes, "--json"], {
    env,
    cwd: ROOT,
    stdio: ["ignore", "pipe", "inherit"],
  });
  return JSON.parse(out);
}

/** Removes what a demo left that was killed: whoever waits for `.run/env` must not read of a service that is gone. */
async function forgetTheDead() {
  const text = textOf(envFile);
  if (text === null || (await isUp(text))) return;
  fs.rmSync(envFile, { force: true });
  fs.rmSync(doctorFile, { force: true });
}

async function main() {
  await forgetTheDead();
  const [edge, origin, operator] = [await reservePort(8787), await reservePort(8080), await reservePort(9090)];
  const edgeUrl = `http://127.0.0.1:${edge.port}`;
  const imagesUrl = `http://localhost:${edge.port}`;
  const originUrl = `http://127.0.0.1:${origin.port}`;
  const operatorUrl = `http://127.0.0.1:${operator.port}`;
  stateDir = fs.mkdtempSync(path.join(RUN, "state-"));

  const key = () => randomBytes(32).toString("base64");
  const linkKeys = `demo-link:${key()}`;
  const edgeKeys = `demo-edge:${key()}`;
  const s3 = { id: "signet-demo", secret: randomBytes(24).toString("hex") };
  const originEnv = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    ...(process.env.SIGNET_CACHE && { SIGNET_CACHE: process.env.SIGNET_CACHE }),
    ...(process.env.XDG_CACHE_HOME && { XDG_CACHE_HOME: process.env.XDG_CACHE_HOME }),
    ...originSettings({ edgeUrl, imagesUrl, edge, origin, operator, linkKeys, edgeKeys, s3 }),
  };
  const firstClient = addClient(originEnv, "demo first picture", ALL_SCOPES);
  const client = addClient(originEnv, "demo client", ALL_SCOPES);
  const admin = addClient(originEnv, "demo operator", `${ALL_SCOPES} admin`);

  await Promise.all([edge.release(), origin.release(), operator.release()]);
  const vars = {
    IMAGES_HOST: `localhost:${edge.port}`, API_HOST: `127.0.0.1:${edge.port}`, ORIGIN_URL: originUrl, LINK_KEYS: linkKeys,
    EDGE_KEYS: edgeKeys, CLIENT_IP_HEADER: "cf-connecting-ip", REFERER_HOSTS: `127.0.0.1:${edge.port}`, LIMITS: limitsOff ? "off" : "on",
  };
  start("edge", ...edgeCommand({ dir: path.join(stateDir, "edge"), port: edge.port, vars, s3 }));
  start("origin", BIN, ["serve"], originEnv);
  await untilAnswers("origin", `${operatorUrl}/readyz`, {}, 60);
  await untilAnswers("edge", `${edgeUrl}/.well-known/jwks.json`, { "cf-connecting-ip": "192.0.2.1" }, 60);
  say(`origin and edge answer after ${seconds()} s`);

  const result = await firstPicture({ edgeUrl, client: firstClient });
  const assignments = {
    EDGE_URL: edgeUrl, IMAGES_URL: imagesUrl, ORIGIN_URL: originUrl, OPERATOR_URL: operatorUrl,
    CLIENT_ID: client.client_id, CLIENT_SECRET: client.client_secret,
    ADMIN_CLIENT_ID: admin.client_id, ADMIN_CLIENT_SECRET: admin.client_secret, LINK_KEYS: linkKeys,
  };
  envWritten = Object.entries(assignments).map(([name, value]) => `${name}='${value}'\n`).join("");
  const storage = Object.entries(originEnv).filter(([name]) => name.startsWith("SIGNET_STORAGE__"));
  const beside = [...storage, ["SERVICE_LOG", path.join(RUN, "origin.log")], ["SOURCE_TREE", ROOT]];
  const shell = (value) => `'${value.replaceAll("'", "'\\''")}'`;
  [envBefore, doctorBefore] = [textOf(envFile), textOf(doctorFile)];
  writeWhole(doctorFile, beside.map(([name, value]) => `${name}=${shell(value)}\n`).join(""));
  writeWhole(envFile, envWritten);

  if (once !== null) {
    process.stdout.write(`${JSON.stringify({ ...result, seconds: Number(seconds()) })}\n`);
    await stop(0);
  }
  say(`the picture of "${prompt}": ${result.file}`);
  say(`its link (valid one hour): ${result.link}`);
  say(`without its signature: ${result.unsigned_status}; with a changed one: ${result.tampered_status}`);
  say(`studio: ${edgeUrl}/   (Ctrl-C stops everything; .run/env has the client and the keys)`);
}

/** Puts a file of mode 600 in place, complete. */
function writeWhole(file, text) {
  const partial = `${file}.${process.pid}`;
  fs.writeFileSync(partial, text, { mode: 0o600 });
  fs.renameSync(partial, file);
}

/** The origin's configuration, as variables; secrets never stand on a command line. */
function originSettings({ edgeUrl, imagesUrl, edge, origin, operator, linkKeys, edgeKeys, s3 }) {
  return {
    SIGNET_SERVER__BIND: `127.0.0.1:${origin.port}`,
    SIGNET_SERVER__OPERATOR_BIND: `127.0.0.1:${operator.port}`,
    SIGNET_SERVER__URL: edgeUrl,
    SIGNET_IMAGES__URL: imagesUrl,
    SIGNET_IMAGES__DELIVER: "false",
    SIGNET_IMAGES__KEYS: linkKeys,
    SIGNET_EDGE__REQUIRE: "true",
    SIGNET_EDGE__KEYS: edgeKeys,
    SIGNET_STATE__FILE: path.join(stateDir, "signet.sqlite"),
    SIGNET_STORAGE__KIND: "s3",
    SIGNET_STORAGE__S3__ENDPOINT: `http://127.0.0.1:${edge.port}/cdn-cgi/local/r2/s3`,
    SIGNET_STORAGE__S3__BUCKET: "signet-images",
    SIGNET_STORAGE__S3__ACCESS_KEY_ID: s3.id,
    SIGNET_STORAGE__S3__SECRET_ACCESS_KEY: s3.secret,
    SIGNET_LIMITS__ENABLED: limitsOff ? "false" : "true",
    SIGNET_INFER__MODELS: JSON.stringify([path.join(ROOT, "models/demo")]),
  };
}

const seconds = () => ((Date.now() - started) / 1000).toFixed(1);

/** token → generate → fetch the signed link, the link without its query, the link with another MAC. */
async function firstPicture({ edgeUrl, client }) {
  const from = { "cf-connecting-ip": "192.0.2.1" };
  const basic = Buffer.from(`${encodeURIComponent(client.client_id)}:${encodeURIComponent(client.client_secret)}`).toString("base64");
  const token = await request(`${edgeUrl}/oauth/token`, {
    method: "POST",
    headers: { ...from, authorization: `Basic ${basic}`, "content-type": "application/x-www-form-urlencoded" },
    body: "grant_type=client_credentials",
  });
  if (token.status !== 200) throw new Error(`no token: ${token.status} ${token.body}`);
  const generated = await request(`${edgeUrl}/api/generate`, {
    method: "POST",
    headers: { ...from, authorization: `Bearer ${JSON.parse(token.body).access_token}`, "content-type": "application/json" },
    body: JSON.stringify({ prompt }),
  });
  if (generated.status !== 200) throw new Error(`no picture: ${generated.status} ${generated.body}`);
  const [image] = JSON.parse(generated.body).images;
  const fetch = () => request(image.url, { headers: from });
  let fetched = await fetch();
  // An edge that has just started opens nothing until the origin has told it what is revoked.
  for (let tries = 0; tries < 100 && fetched.status === 403 && fetched.body.includes('"link_revoked"'); tries++) {
    await sleep(100);
    fetched = await fetch();
  }
  if (fetched.status !== 200) throw new Error(`the link was not served: ${fetched.status} ${fetched.body}`);
  const unsigned = await request(image.url.split("?")[0], { headers: from });
  const tampered = await request(image.url.replace(/([?&]sig=)(.)/, (_, name, first) => name + (first === "A" ? "B" : "A")), { headers: from });
  const folder = path.join(RUN, "pictures");
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `${image.id}.${image.format}`);
  fs.writeFileSync(file, fetched.body);
  return {
    prompt, link: image.url, status: fetched.status, content_type: fetched.headers["content-type"], bytes: fetched.body.length,
    file, unsigned_status: unsigned.status, tampered_status: tampered.status,
  };
}

main().catch((error) => fail(error.message));
