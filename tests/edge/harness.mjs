// Starts the Worker's build in plain workerd, beside a bucket and an origin that are servers of this process: the
// runtime is the real one, no development proxy tidies requests up, and bucket and origin can be made to fail.
import { spawn } from "node:child_process";
import { createHash, createHmac, randomBytes } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
export const newKey = () => randomBytes(32).toString("base64");
const ARCH = process.arch === "arm64" ? "arm64" : "64";
export const WORKERD = path.join(ROOT, `node_modules/@cloudflare/workerd-linux-${ARCH}/bin/workerd`);

/** Listens on a free port of loopback; `close()` also ends open connections. */
export async function listen(server) {
  await new Promise((done, failed) => server.once("error", failed).listen(0, "127.0.0.1", done));
  const { port } = server.address();
  return {
    port,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections?.();
      }),
  };
}

/** An R2 bucket over the protocol that workerd speaks to its backing service. */
export async function startBucket() {
  const objects = new Map();
  const seen = []; // "get key", "head key"
  const bucket = { objects, seen, failing: null };
  const server = http.createServer((request, answer) => {
    if (bucket.failing === "drop") return request.socket.destroy();
    if (bucket.failing === "500") {
      const error = { version: 1, v4code: 10001, message: "We encountered an internal error." };
      return answer.writeHead(500, { "cf-r2-error": JSON.stringify(error) }).end();
    }
    const ask = JSON.parse(request.headers["cf-r2-request"]);
    seen.push(`${ask.method} ${ask.object}`);
    const found = objects.get(ask.object);
    if (!found) {
      const error = { version: 1, v4code: 10007, message: "The specified key does not exist." };
      return answer.writeHead(404, { "cf-r2-error": JSON.stringify(error) }).end();
    }
    let { bytes } = found;
    let range;
    if (ask.method === "get" && ask.range) {
      const offset = Number(ask.range.offset ?? 0);
      const length = Number(ask.range.length ?? bytes.length - offset);
      range = { offset, length };
      bytes = bytes.subarray(offset, offset + length);
    }
    const metadata = JSON.stringify({
      name: ask.object, version: "v", size: found.bytes.length, etag: found.etag, uploaded: 1_700_000_000_000,
      httpFields: { contentType: "text/html" }, customFields: [], range, checksums: {},
    });
    const size = Buffer.byteLength(metadata);
    const body = ask.method === "get" ? bytes : Buffer.alloc(0);
    answer.writeHead(200, { "cf-r2-metadata-size": size, "content-length": size + body.length });
    answer.write(metadata);
    if (bucket.failing === "cut") return answer.write(body.subarray(0, body.length >> 1), () => request.socket.destroy());
    answer.end(body);
  });
  const { port, close } = await listen(server);
  bucket.put = (key, bytes) => {
    objects.set(key, { bytes, etag: createHash("md5").update(bytes).digest("hex") });
    return bytes;
  };
  return Object.assign(bucket, { port, close });
}

/**
 * The Cache API's other side, as workerd speaks to it: GET looks up, PUT brings a serialised answer. It keeps what
 * `max-age` allows, by a clock that a test can put forward (`cache.skip` in seconds).
 */
export async function startCache() {
  const cache = { entries: new Map(), hits: 0, puts: 0, skip: 0, failing: false };
  const now = () => Date.now() / 1000 + cache.skip;
  const server = http.createServer((request, answer) => {
    if (cache.failing) return request.socket.destroy();
    const name = `${request.headers["cf-cache-namespace"] ?? ""} ${request.headers.host}${request.url}`;
    if (request.method === "GET") {
      const found = cache.entries.get(name);
      if (!found || found.end <= now()) return answer.writeHead(504, { "cf-cache-status": "MISS" }).end();
      cache.hits += 1;
      return answer.writeHead(200, { ...found.headers, "cf-cache-status": "HIT" }).end(found.body);
    }
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const whole = Buffer.concat(parts);
      const at = whole.indexOf("\r\n\r\n");
      const [, ...lines] = whole.subarray(0, at).toString("latin1").split("\r\n");
      const headers = Object.fromEntries(lines.map((line) => line.split(/: (.*)/s).slice(0, 2)).map(([key, value]) => [key.toLowerCase(), value]));
      const life = Number(/max-age=(\d+)/.exec(headers["cache-control"])?.[1] ?? 0);
      delete headers["transfer-encoding"];
      cache.puts += 1;
      cache.entries.set(name, { headers, body: whole.subarray(at + 4), end: now() + life, life });
      answer.writeHead(204).end();
    });
  });
  const { port, close } = await listen(server);
  return Object.assign(cache, { port, close });
}

/** A stand-in origin that keeps what it was sent, and hands its `jwks` to the edge where it has one; `reply(request, answer, body)` answers. */
export async function startOrigin(reply = (_request, answer) => answer.end("ok")) {
  const origin = { requests: [], reports: [], reply, aborted: 0, jwks: null, keyRequests: [] };
  const server = http.createServer((request, answer) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("error", () => {});
    request.on("aborted", () => (origin.aborted += 1));
    request.on("end", () => {
      const body = Buffer.concat(parts);
      if (request.url === "/.signet/counts") {
        origin.reports.push({ method: request.method, url: request.url, headers: request.headers, raw: request.rawHeaders, body });
        return answer.writeHead(204).end();
      }
      if (request.url === "/.well-known/jwks.json" && request.headers["signet-client-ip"] === "0.0.0.0") {
        origin.keyRequests.push({ method: request.method, url: request.url, headers: request.headers });
        return origin.jwks ? answer.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(origin.jwks)) : answer.writeHead(503).end();
      }
      origin.requests.push({ method: request.method, url: request.url, headers: request.headers, raw: request.rawHeaders, body });
      origin.reply(request, answer, body);
    });
  });
  const { port, close } = await listen(server);
  return Object.assign(origin, { port, close, last: () => origin.requests.at(-1) });
}

const text = (value) => JSON.stringify(String(value)); // a capnp string literal is close enough to JSON's

function modules(folder) {
  const list = [];
  const walk = (inner) => {
    for (const entry of fs.readdirSync(path.join(folder, inner), { withFileTypes: true })) {
      const name = path.posix.join(inner, entry.name);
      if (entry.isDirectory()) walk(name);
      else if (name.endsWith(".js")) list.push([name, "esModule"]);
      else if (name.endsWith(".wasm")) list.push([name, "wasm"]);
    }
  };
  walk("");
  list.sort(([a], [b]) => (a === "index.js" ? -1 : b === "index.js" ? 1 : 0)); // the first is the entry
  return list.map(([name, kind]) => `(name = ${text(name)}, ${kind} = embed ${text(`build/${name}`)})`).join(",\n      ");
}

const QUOTAS = { LINKS: 600, LINKS_WIDE: 6000, FLOOD: 1200, FLOOD_WIDE: 12000, FLOOD_TOKEN: 1200 };
const LIMITER = `
const counts = new Map();
export default (env) => ({
  limit({ key }) {
    if (env.fails) throw new Error("the limiter is away");
    const count = (counts.get(env.name + key) ?? 0) + 1;
    counts.set(env.name + key, count);
    return Promise.resolve({ success: count <= Number(env.quota) });
  },
});`;

/** A namespace before the real one: says in the log that it is asked, and can be away, at once or from the second question on, or hang. */
const COUNTED = `
let asked = 0;
export default (env) => ({
  idFromName: (name) => env.objects.idFromName(name),
  get: (id) => ({
    fetch(url, options) {
      console.log("object asked: " + env.name);
      if (env.mode === "later" && options.method === "POST" && (asked += 1) > 1) throw new Error("the object is away");
      if (env.mode === "failing") throw new Error("the object is away");
      if (env.mode === "broken") return new Response("nonsense");
      if (env.mode === "hanging") return new Promise((_, failed) => options.signal.addEventListener("abort", () => failed(options.signal.reason)));
      return env.objects.get(id).fetch(url, options);
    },
  }),
});`;

/** The Durable Objects that count: binding and class. */
const OBJECTS = { PENALTY_BOX: "PenaltyBox", TOKEN_LIMIT: "TokenLimit" };

/**
 * Starts the edge. `vars` change the defaults (undefined removes one, null takes it from an
 * environment that lacks it), `quotas` the shields, `build` is `worker` or
 * `worker-test`; `objects` says per binding whether it is `counted`, `failing`, `broken` or `hanging`. Answers with `port`, `keys`, `logs()`, `stop()`.
 */
export async function startEdge({ bucket, origin, vars = {}, quotas = {}, build = "worker", failingLimiter = false, revocations = false, port: wanted, cache, objects = {} } = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-edge-"));
  const probe = await listen(net.createServer());
  await probe.close();
  const port = wanted ?? probe.port;
  const all = {
    IMAGES_HOST: `localhost:${port}`,
    API_HOST: `127.0.0.1:${port}`,
    ORIGIN_URL: `http://127.0.0.1:${origin?.port ?? 9}`,
    CLIENT_IP_HEADER: "cf-connecting-ip",
    REFERER_HOSTS: `127.0.0.1:${port},example.com,*.example.org`,
    LINK_KEYS: `k1:${newKey()}`,
    EDGE_KEYS: `e1:${newKey()}`,
    ...(!revocations && { REVOCATION: "off" }),
    ...vars,
  };
  const bindings = Object.entries(all)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => (value === null ? `(name = "${name}", fromEnvironment = "SIGNET_TESTS_UNSET")` : `(name = "${name}", text = ${text(value)})`));
  for (const [name, quota] of Object.entries({ ...QUOTAS, ...quotas })) {
    bindings.push(`(name = "${name}", wrapped = (moduleName = "signet-tests:limiter", innerBindings = [
        (name = "name", text = "${name}"), (name = "quota", text = "${quota}")${failingLimiter ? ', (name = "fails", text = "1")' : ""}]))`);
  }
  if (revocations === "failing") bindings.push(`(name = "REVOCATIONS", wrapped = (moduleName = "signet-tests:counted", innerBindings = [
        (name = "objects", durableObjectNamespace = "Revocations"), (name = "name", text = "REVOCATIONS"), (name = "mode", text = "later")]))`);
  else if (revocations) bindings.push(`(name = "REVOCATIONS", durableObjectNamespace = "Revocations")`);
  const classes = build.startsWith("worker") ? OBJECTS : {}; // another Worker has none of ours
  for (const [name, className] of Object.entries(classes)) {
    const objectsOf = (binding) => `(name = "${binding}", durableObjectNamespace = "${className}")`;
    bindings.push(objects[name]
      ? `(name = "${name}", wrapped = (moduleName = "signet-tests:counted", innerBindings = [
        ${objectsOf("objects")}, (name = "name", text = "${name}"), (name = "mode", text = "${objects[name]}")]))`
      : objectsOf(name));
  }
  if (bucket) bindings.push(`(name = "IMAGES", r2Bucket = "bucket")`);
  const config = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "internet", network = (allow = ["public", "private"])),
    (name = "state", disk = (path = ${text(path.join(folder, "state"))}, writable = true)),
    ${cache ? `(name = "cache", external = (address = "127.0.0.1:${cache.port}", http = ())),` : ""}
    ${bucket ? `(name = "bucket", external = (address = "127.0.0.1:${bucket.port}", http = ())),` : ""}
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "edge")],
  extensions = [(modules = [
    (name = "signet-tests:limiter", internal = true, esModule = embed "limiter.js"),
    (name = "signet-tests:counted", internal = true, esModule = embed "counted.js"),
  ])],
);
const edge :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  ${cache ? 'cacheApiOutbound = "cache",' : ""}
  modules = [
      ${modules(path.join(ROOT, "edge/build", build))}
  ],
  bindings = [
    ${bindings.join(",\n    ")}
  ],
  durableObjectNamespaces = [
    ${["Revocations", ...Object.values(classes)].map((name) => `(className = "${name}", uniqueKey = "${name}", enableSql = true)`).join(",\n    ")}
  ],
  durableObjectStorage = (localDisk = "state"),
);
`;
  fs.mkdirSync(path.join(folder, "state"));
  fs.cpSync(path.join(ROOT, "edge/build", build), path.join(folder, "build"), { recursive: true });
  fs.writeFileSync(path.join(folder, "limiter.js"), LIMITER);
  fs.writeFileSync(path.join(folder, "counted.js"), COUNTED);
  fs.writeFileSync(path.join(folder, "config.capnp"), config);
  const child = spawn(WORKERD, ["serve", path.join(folder, "config.capnp")], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (output += part));
  const exited = new Promise((done) => child.once("exit", done));
  const stop = async () => {
    child.kill("SIGKILL");
    await exited;
    fs.rmSync(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + 30_000;
  for (;;) {
    const open = await new Promise((done) => {
      const socket = net.connect(port, "127.0.0.1", () => done(true)).on("error", () => done(false));
      socket.on("connect", () => socket.destroy());
    });
    if (open) break;
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`workerd did not start:\n${output}`);
    }
    await sleep(30);
  }
  return { port, vars: all, logs: () => output, stop, child };
}

/** One request as it stands: no header is added but Host. `host` is `images`, `api` or a name. */
export function request(edge, target, { host = "images", method = "GET", headers = {}, body, agent = false, from = "192.0.2.1" } = {}) {
  const name = host === "images" ? edge.vars.IMAGES_HOST : host === "api" ? edge.vars.API_HOST : host;
  return new Promise((done, failed) => {
    const outgoing = http.request(
      { host: "127.0.0.1", port: edge.port, path: target, method, agent, setHost: false,
        headers: { host: name, ...(from && { "cf-connecting-ip": from }), ...headers } },
      (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("error", failed);
        answer.on("end", () => {
          const bytes = Buffer.concat(parts);
          done({ status: answer.statusCode, headers: answer.headers, body: bytes, json: () => JSON.parse(bytes.toString("utf8")) });
        });
      },
    );
    outgoing.setTimeout(60_000, () => outgoing.destroy(new Error("no answer within 60 s")));
    outgoing.on("error", failed);
    if (typeof body === "function") body(outgoing);
    else outgoing.end(body);
  });
}

/** Bytes over a socket and what comes back until the other side closes or `enough(text)`. */
export function raw(port, bytes, enough = () => false) {
  return new Promise((done, failed) => {
    const socket = net.connect(port, "127.0.0.1", () => socket.write(bytes));
    let answer = "";
    socket.on("data", (part) => {
      answer += part.toString("latin1");
      if (enough(answer)) socket.destroy();
    });
    socket.on("close", () => done(answer));
    socket.on("error", failed);
    socket.setTimeout(10_000, () => socket.destroy());
  });
}

/** Signs a link as the contract's section 1 says, independently of the Rust code. */
export function sign(edge, key, { exp = Math.floor(Date.now() / 1000) + 600, ...params } = {}) {
  const [kid, secret] = edge.vars.LINK_KEYS.split(",")[0].split(/:(.*)/s);
  const all = Object.entries({ ...params, exp, kid }).sort(([a], [b]) => (a < b ? -1 : 1));
  const input = `signet-link-v1\n/${key}\n${all.map(([name, value]) => `${name}=${value}\n`).join("")}`;
  const sig = createHmac("sha256", Buffer.from(secret, "base64")).update(input).digest("base64url");
  return `/${key}?${[...all, ["sig", sig]].map(([name, value]) => `${name}=${value}`).join("&")}`;
}
