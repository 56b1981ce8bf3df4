// A real `signet serve` on free ports with a folder of its own, and real Chromium in front of it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** The program: `SIGNET_BIN`, else the newest build. */
function program() {
  if (process.env.SIGNET_BIN) return process.env.SIGNET_BIN;
  const built = ["release", "debug"].map((profile) => path.join(ROOT, "target", profile, "signet")).filter((file) => fs.existsSync(file));
  assert.ok(built.length, "build the program first: cargo build --bin signet");
  return built.sort((a, b) => fs.statSync(b).mtimeMs - fs.statSync(a).mtimeMs)[0];
}

/** The small random model of the goldens: the studio's behaviour needs no beauty. */
const MODEL = path.join(ROOT, "tests/goldens/engine/model");

/** Starts the service; `settings` are variables over the defaults. `stop()` ends it and removes its folder. */
export async function serve(settings = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-studio-"));
  const ready = path.join(folder, "ready.json");
  const { PATH, HOME, SIGNET_CACHE, XDG_CACHE_HOME, ORT_DYLIB_PATH, SIGNET_INFER__LIBRARY } = process.env;
  const inherited = Object.fromEntries(
    Object.entries({ PATH, HOME, SIGNET_CACHE, XDG_CACHE_HOME, ORT_DYLIB_PATH, SIGNET_INFER__LIBRARY }).filter(([, value]) => value),
  );
  const child = spawn(program(), ["serve"], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...inherited,
      SIGNET_SERVER__BIND: "127.0.0.1:0",
      SIGNET_SERVER__OPERATOR_BIND: "127.0.0.1:0",
      SIGNET_IMAGES__BIND: "127.0.0.1:0",
      SIGNET_SERVER__READY_FILE: ready,
      SIGNET_STATE__FILE: path.join(folder, "signet.sqlite"),
      SIGNET_STORAGE__FOLDER: path.join(folder, "objects"),
      SIGNET_INFER__MODELS: JSON.stringify([MODEL]),
      ...settings,
    },
  });
  let log = "";
  child.stdout.on("data", (part) => (log += part));
  child.stderr.on("data", (part) => (log += part));
  const exited = new Promise((done) => child.once("exit", (code, signal) => done(code ?? signal)));
  let ended = false;
  exited.then(() => (ended = true));
  const deadline = Date.now() + 60_000;
  while (!fs.existsSync(ready)) {
    if (ended || Date.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(`signet serve did not start:\n${log}`);
    }
    await sleep(50);
  }
  const bound = JSON.parse(fs.readFileSync(ready, "utf8"));
  const port = bound.images.split(":").pop();
  return {
    url: `http://${bound.public}`,
    imagesUrl: `http://localhost:${port}`,
    operatorUrl: `http://${bound.operator}`,
    log: () => log,
    /** A new client of a user of its own. */
    client: (run) =>
      JSON.parse(
        run(program(), ["client", "add", "--json"], { env: { ...inherited, SIGNET_STATE__FILE: path.join(folder, "signet.sqlite") }, encoding: "utf8" }),
      ),
    async stop() {
      if (!ended) child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await exited;
      clearTimeout(timer);
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Settings whose limits no test reaches, for tests of other things. */
export const NO_LIMITS = {
  ...Object.fromEntries(
    ["ADDRESS", "TOKEN", "READS", "LINKS", "TOKEN_ENDPOINT"].flatMap((name) => [
      [`SIGNET_LIMITS__${name}__PER_MINUTE`, "6000"],
      [`SIGNET_LIMITS__${name}__BURST`, "1000"],
    ]),
  ),
  SIGNET_LIMITS__USER_HOUR: "1000",
  SIGNET_LIMITS__PENALTY_ARRIVALS: "1000",
};

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });

/** A page of a fresh browser profile that notes what must never happen: script errors, and breaches of its policy. */
export async function open(browser, service, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  context.setDefaultTimeout(30_000);
  const page = await context.newPage();
  page.wrong = [];
  page.on("pageerror", (error) => page.wrong.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (/Content.Security.Policy|Refused to|TrustedScript|violates/i.test(message.text())) page.wrong.push(message.text());
  });
  await page.goto(service.url);
  return page;
}

/** Through the sign-in to the studio. */
export async function signIn(page) {
  await page.locator("#sign-in").click();
  await page.locator("#studio").waitFor();
}

/** Asks for pictures with few steps and waits until the first one is on the screen. Returns its card. */
export async function generate(page, prompt, { n = 1 } = {}) {
  const before = await page.locator(".card").count();
  await page.locator("#steps").fill("2");
  await page.locator(`input[name="n"][value="${n}"]`).check({ force: true });
  await page.locator("#prompt").fill(prompt);
  await page.locator("#generate").click();
  await page.waitForFunction((count) => document.querySelectorAll(".card").length >= count, before + n);
  await page.waitForFunction(() => document.querySelector(".card").dataset.image === "shown");
  return page.locator(".card").first();
}

/** The link that a card shows. */
export const linkOf = (card) => card.locator("img").getAttribute("src");

/** One request of a program: no cookies, no browser headers. */
export function request(url, headers = {}) {
  return new Promise((done, failed) => {
    const outgoing = http.get(url, { headers, agent: false }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => done({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
    });
    outgoing.on("error", failed);
  });
}

/** A foreign web site on its own address that shows `html()` at every path. */
export async function foreignSite(address, host, html) {
  const server = http.createServer((_, answer) => answer.writeHead(200, { "content-type": "text/html" }).end(html()));
  await new Promise((done, failed) => server.once("error", failed).listen(0, address, done));
  server.unref(); // a failed test must not keep the run alive
  return { url: `http://${host}:${server.address().port}`, stop: () => new Promise((done) => (server.closeAllConnections(), server.close(done))) };
}
