// One table of requests, as bytes, to the Worker in real workerd and to `signet serve` alone: who opens a picture must not
// matter. Both hold the same picture under the same keys and policy; what each answers is compared whole, but for ids,
// tags and the second in which it was asked.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { ROOT, newKey, sign, sleep, startBucket, startEdge } from "./harness.mjs";

const SIGNET = process.env.SIGNET_BIN ?? path.join(ROOT, "target/debug/signet"); // cargo test --workspace --no-run
const KEY = "generated/u1/0190a5d0-ac96-774b-bcce-b302099a8057.png";
const PICTURE = randomBytes(5_000);
const BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
const now = () => Math.floor(Date.now() / 1000);
let bucket, edge, alone;

/** The service without an edge, with the picture in its folder. */
async function startAlone(vars) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-alone-"));
  const file = path.join(folder, "objects", KEY);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, PICTURE);
  const { PATH, HOME, SIGNET_CACHE, XDG_CACHE_HOME, ORT_DYLIB_PATH } = process.env;
  const inherited = Object.fromEntries(Object.entries({ PATH, HOME, SIGNET_CACHE, XDG_CACHE_HOME, ORT_DYLIB_PATH }).filter(([, value]) => value));
  const ready = path.join(folder, "ready");
  const child = spawn(SIGNET, ["serve"], {
    cwd: folder,
    env: {
      ...inherited,
      SIGNET_SERVER__BIND: "127.0.0.1:0", SIGNET_SERVER__OPERATOR_BIND: "127.0.0.1:0", SIGNET_SERVER__READY_FILE: ready, SIGNET_IMAGES__BIND: "127.0.0.1:0",
      SIGNET_STATE__FILE: path.join(folder, "state.sqlite"), SIGNET_STORAGE__FOLDER: path.join(folder, "objects"),
      SIGNET_INFER__MODELS: JSON.stringify([path.join(ROOT, "tests/goldens/engine/model")]), SIGNET_INFER__DEVICE: "cpu",
      SIGNET_IMAGES__KEYS: vars.LINK_KEYS, SIGNET_IMAGES__ALLOWED_HOSTS: JSON.stringify(["example.com", "*.example.org"]),
      SIGNET_EDGE__CLIENT_ADDRESS_HEADER: "cf-connecting-ip", SIGNET_LIMITS__LINKS__PER_MINUTE: "6000", SIGNET_LIMITS__LINKS__BURST: "1000",
    },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (output += part));
  const exited = new Promise((done) => child.once("exit", done));
  const stop = async () => {
    child.kill("SIGKILL");
    await exited;
    fs.rmSync(folder, { recursive: true, force: true });
  };
  for (const end = Date.now() + 60_000; !fs.existsSync(ready); await sleep(50)) {
    if (child.exitCode !== null || Date.now() > end) {
      await stop();
      throw new Error(`signet serve did not start:\n${output}`);
    }
  }
  const port = Number(JSON.parse(fs.readFileSync(ready, "utf8")).images.split(":").pop());
  return { port, vars: { ...vars, IMAGES_HOST: `localhost:${port}` }, stop };
}

before(async () => {
  bucket = await startBucket();
  bucket.put(KEY, PICTURE);
  edge = await startEdge({ bucket, vars: { LINK_KEYS: `k1:${newKey()}`, REFERER_HOSTS: "example.com,*.example.org", LIMITS: "off" } });
  alone = await startAlone({ LINK_KEYS: edge.vars.LINK_KEYS });
});
after(async () => {
  await alone?.stop();
  await edge?.stop();
  await bucket?.close();
});

/** Sends `head` (text as Latin-1, so that each letter is a byte) and reads the answer apart. */
function ask({ port }, head) {
  return new Promise((done, failed) => {
    const parts = [];
    const socket = net.connect(port, "127.0.0.1", () => socket.write(Buffer.from(head, "latin1")));
    socket.on("data", (part) => parts.push(part));
    socket.on("error", (error) => (parts.length ? undefined : failed(error)));
    socket.setTimeout(10_000, () => socket.destroy());
    socket.on("close", () => {
      const bytes = Buffer.concat(parts);
      const at = bytes.indexOf("\r\n\r\n");
      const [line = "", ...lines] = bytes.subarray(0, Math.max(at, 0)).toString("latin1").split("\r\n");
      const headers = Object.fromEntries(lines.map((line) => line.split(/: ?(.*)/s).slice(0, 2)).map(([name, value]) => [name.toLowerCase(), value]));
      let body = bytes.subarray(at + 4);
      if (headers["transfer-encoding"] === "chunked") body = unchunked(body);
      done({ status: Number(line.split(" ")[1]), headers, body });
    });
  });
}

function unchunked(bytes) {
  const parts = [];
  for (let at = 0; ; ) {
    const end = bytes.indexOf("\r\n", at);
    const size = Number.parseInt(bytes.subarray(at, end).toString("latin1"), 16);
    if (!(size > 0)) return Buffer.concat(parts);
    parts.push(bytes.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

const COMPARED = [
  "accept-ranges", "access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods", "access-control-allow-origin",
  "access-control-expose-headers", "access-control-max-age", "allow", "cache-control", "content-disposition", "content-range", "content-security-policy",
  "content-type", "cross-origin-resource-policy", "etag", "location", "referrer-policy", "set-cookie", "vary", "www-authenticate", "x-content-type-options",
  "x-robots-tag", "x-request-id",
];

/** What must be the same of an answer. */
function seen({ status, headers, body }, it) {
  const kept = Object.fromEntries(COMPARED.filter((name) => name in headers).map((name) => [name, headers[name]]));
  if (kept.etag) kept.etag = "a tag";
  if (kept["x-request-id"]) kept["x-request-id"] = "an id";
  if (kept["cache-control"]) kept["cache-control"] = kept["cache-control"].replace(/max-age=(59\d|600)$/, "max-age=600");
  const json = /json/.test(headers["content-type"] ?? "") && body.length > 0;
  return { status, ...kept, body: json ? JSON.parse(body).code : body.length ? `${body.length} ${createHash("sha256").update(body).digest("hex")}` : "" };
}

/** Rows: a name, and what is sent: `method`, `target`, `host` (null: none), `lines` of further headers. */
function rows(it, etag, fixed) {
  const link = (more = {}) => sign(it, KEY, { exp: fixed + 600, ...more });
  const good = link();
  const [base, query] = good.split("?");
  const list = [["as it is", {}]];
  const add = (name, row) => list.push([name, row]);
  for (const method of ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]) add(method, { method });
  for (const target of [
    base, `${base}?`, `${base}?v=1`, `/${good}`, `${good}.`, `${good})`, `${good}&`, `${good}&x=1`, `${good}=`, `${good}%20`, `${good}&amp;fbclid=1`,
    base.replace("u1", "%751") + `?${query}`, `${base}/?${query}`, good.replace("u1", "u2"), `${base}?${query.split("&").reverse().join("&")}`,
    "/", "/a//b", "/a/../b", "/temp/a.png", `/temp/a.png?${query}`, sign(it, "generated/u1/gone.png", { exp: fixed + 600 }),
    link({ exp: fixed - 1 }), link({ exp: fixed + 8 * 86400 }), link({ ip: "203.0.113.9" }), link({ ip: "192.0.2.0-24" }), link({ ip: "192.0.2.1-24" }),
    link({ dl: "heart.png" }), link({ dl: "heart.jpg" }), link({ dn: Buffer.from("größe.png").toString("base64url") }), link({ dn: "Z3LDtsOfZS5wbmd" }),
    sign(it, KEY.replace("generated", "kept"), { exp: fixed + 600 }), `${good}&fbclid=a`, `${base}?utm_source=b%20c&${query}`, `${good}&fbclid=a&v=1`,
    `${good.replace("u1", "u2")}&fbclid=a`, `${link({ exp: fixed - 1 })}&gclid=`, `${base}?fbclid=a`,
    "/robots.txt", "/favicon.ico", "/apple-touch-icon.png", "/apple-touch-icon-120x120.png", "/robots.txt?a", "/favicon.ico/",
  ]) {
    add(`target ${target}`, { target });
    add(`target ${target} by a browser`, { target, lines: [`Accept: ${BROWSER}`] });
    add(`HEAD ${target}`, { target, method: "HEAD" });
  }
  const cors = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: image"];
  const navigation = (dest) => ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", `Sec-Fetch-Dest: ${dest}`];
  for (const lines of [
    ["Referer: http://example.com/a"], ["Referer: https://a.example.org/"], ["Referer: https://evil.test/"], ["Referer:"], ["Referer: example.com"],
    ["Referer: http://example.com/gr\xc3\xb6\xc3\x9fe"], ["Referer: http://example.com/gr\xf6\xdfe"], ["Referer: http://ex\xe4mple.com/"], ["Referer: http://ex\xc3\xa4mple.com/"],
    ["Referer: \xff"], ["Referer: http://example.com\xa0/"], ["Referer: http://example.com/\xa0"], ["Referer: \thttp://example.com/ "],
    ["Referer: http://example.com/", "Referer: http://example.com/"], ["Referer: http://example.com/", "Referer: https://evil.test/"],
    ["Referer: https://evil.test/", "Referer: http://example.com/"], ["Referer: http://example.com/a b"], ["Referer: http://example.com/,http://evil.test/"],
    ["Referer: android-app://com.example.mail/"], ["Referer: android-app://com.example.mail/", ...navigation("document")],
    ["Referer: https://blog.test/", ...navigation("document")], ["Referer: https://blog.test/", ...navigation("empty")], ["Referer: https://evil.test/", ...navigation("iframe")],
    ["Referer: \xe9", ...navigation("document")], navigation("document"), navigation("empty"), navigation("image"),
    ["Sec-Fetch-Site: none"], ["Sec-Fetch-Site: same-site"], ["Sec-Fetch-Site: same-origin"], ["Sec-Fetch-Site: cross-site"], ["Sec-Fetch-Site: \xe9"],
    ["Sec-Fetch-Site: none", "Sec-Fetch-Site: none"], ["Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"], ["Sec-Fetch-Mode: no-cors"], ["Sec-Fetch-Dest: image"],
    ["Origin: http://example.com"], ["Origin: http://example.com", ...cors], ["Origin: https://example.com", ...cors], ["Origin: http://evil.test", ...cors], ["Origin: null", ...cors],
    ["Origin: http://example.com", "Origin: http://example.com", ...cors], ["Origin: http://example.com/", ...cors], ["Origin: http://ex\xe4mple.com", ...cors], ["Origin:", ...cors],
    ["Origin: http://example.com", "Referer: https://evil.test/", ...cors], ["Origin: http://a.example.org:81", ...cors], ["Origin: http://example.com:80", ...cors],
  ]) {
    add(lines.join(" | "), { lines });
    add(`${lines.join(" | ")} by a browser`, { lines: [...lines, `Accept: ${BROWSER}`] });
    add(`${lines.join(" | ")} with a tracker`, { target: `${good}&fbclid=a`, lines });
    add(`OPTIONS, ${lines.join(" | ")}`, { method: "OPTIONS", target: "/", lines: [...lines, "Access-Control-Request-Method: GET"] });
  }
  for (const lines of [
    ["Range: bytes=0-0"], ["Range: bytes=10-"], ["Range: bytes=-3"], ["Range: bytes=0-99999"], ["Range: bytes=5000-"], ["Range: bytes=-0"], ["Range: bytes=5-1"], ["Range: bytes=0-1,3-4"],
    ["Range: lines=0-1"], ["Range: bytes=0-1", "Range: bytes=3-4"], ["Range: BYTES=0-1"], ["Range: bytes = 0-1"], ["Range: bytes=0-1\xa0"], ["Range: bytes=\xb9-2"], ["Range:"],
    ["If-None-Match: $"], ["If-None-Match: W/$"], ["If-None-Match: W/W/$"], ['If-None-Match: "other"'], ["If-None-Match: *"], ['If-None-Match: "other", $'], ['If-None-Match: "other"', "If-None-Match: $"],
    ["If-None-Match: \xa0$"], ["If-None-Match:"], ["If-Match: $"], ["If-Match: W/$"], ['If-Match: "other"'], ["If-Match: *"], ['If-Match: "other", $'], ['If-Match: "other"', "If-Match: $"], ["If-Match:"],
    ["If-Match: $", "If-None-Match: $"], ['If-Match: "other"', "If-None-Match: $"], ["If-Match: \xe9"], ["If-Range: $", "Range: bytes=0-1"], ['If-Range: "other"', "Range: bytes=0-1"], ["If-Range: W/$", "Range: bytes=0-1"],
    ["If-Range: Wed, 21 Oct 2015 07:28:00 GMT", "Range: bytes=0-1"], ["If-Range: $", "If-Range: $", "Range: bytes=0-1"], ["If-Range: $"], ["If-Modified-Since: Wed, 21 Oct 2099 07:28:00 GMT"],
    ["If-Unmodified-Since: Wed, 21 Oct 2015 07:28:00 GMT"], ['If-Match: "other"', "Range: bytes=0-1"], ["If-None-Match: $", "Range: bytes=9999-"], ["If-Match: $", "Range: bytes=9999-"],
  ]) {
    const given = lines.map((line) => line.replaceAll("$", etag));
    add(lines.join(" | "), { lines: given });
    add(`HEAD, ${lines.join(" | ")}`, { method: "HEAD", lines: given });
    add(`${lines.join(" | ")} by a script`, { lines: [...given, "Origin: http://example.com", `Accept: ${BROWSER}`] });
  }
  for (const accept of ["text/html", "TEXT/HTML", "text/html;q=0", "text/*", "application/json, text/html", "text/html, application/json;q=0.9", "*/*", "\xe9", "text/html;q=0.5, */*;q=0.4", ""]) {
    add(`Accept: ${accept}`, { target: `${good}.`, lines: [`Accept: ${accept}`] });
  }
  add("two Accepts", { target: `${good}.`, lines: ["Accept: image/png", "Accept: text/html"] });
  for (const address of ["192.0.2.7", "::ffff:192.0.2.7", "203.0.113.1", "2001:db8::1"]) add(`from ${address}`, { target: link({ ip: "192.0.2.0-24" }), from: address });
  for (const from of [" 192.0.2.7 ", "x", "192.0.2.7, 192.0.2.8", ""]) add(`from ${JSON.stringify(from)}`, { from });
  const [, port] = it.vars.IMAGES_HOST.split(":");
  for (const host of [`LocalHost:${port}`, "evil.test", `evil.test:${port}`, `localhost:${port}.`, `localhost.:${port}`, `localhost:${Number(port) + 1}`, `a.localhost:${port}`, ""]) add(`Host: ${host.replaceAll(port, "PORT").replace(String(Number(port) + 1), "PORT+1")}`, { host });
  return list.map(([name, row]) => [name.replaceAll(/sig=[\w-]{43}/g, "sig=…"), { target: good, method: "GET", from: "192.0.2.1", host: it.vars.IMAGES_HOST, lines: [], ...row }]);
}

const bytes = ({ method, target, host, from, lines }) =>
  [`${method} ${target} HTTP/1.1`, `Host: ${host}`, `CF-Connecting-IP: ${from}`, "Connection: close", ...lines, "", ""].join("\r\n");

/** What the two runtimes answer before we see a request. */
const THEIRS = new Map([["Host: ", "workerd answers an empty Host 400 by itself, as RFC 9112 section 3.2 allows"]]);

test("every request of the table gets the same answer from the edge and from the service alone", { timeout: 300_000 }, async () => {
  const fixed = now();
  const tag = async (it) => (await ask(it, bytes({ method: "HEAD", target: sign(it, KEY), host: it.vars.IMAGES_HOST, from: "192.0.2.1", lines: [] }))).headers.etag;
  const [atEdge, atOrigin] = [rows(edge, await tag(edge), fixed), rows(alone, await tag(alone), fixed)];
  assert.ok(atEdge.length > 400, `${atEdge.length} requests`);
  const wrong = [];
  let opened = 0;
  for (const [at, [name, row]] of atEdge.entries()) {
    const [one, two] = await Promise.all([ask(edge, bytes(row)), ask(alone, bytes(atOrigin[at][1]))]);
    const [a, b] = [seen(one, edge), seen(two, alone)];
    opened += a.status < 300 ? 1 : 0;
    if (THEIRS.has(name)) continue;
    const differing = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => a[key] !== b[key]);
    if (differing.length) wrong.push(`${name}: ${differing.map((key) => `${key} ${a[key]} at the edge, ${b[key]} alone`).join("; ")}`);
  }
  assert.deepEqual(wrong, []);
  assert.ok(opened > 100, `only ${opened} of ${atEdge.length} opened: the table proves little`);
});
