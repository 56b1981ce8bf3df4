// Two origins of one state behind a balancer that sends every request to the other one: a person notices nothing.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { launch, NO_LIMITS, open, request, serve } from "../studio/harness.mjs";
import { asPerson, CLIENT, startProvider } from "./provider.mjs";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "signet-balanced-"));
let provider, redis, balancer, browser, site;
const origins = [];
/** Answers of each origin. */
const answered = [0, 0];

/** Every request goes to the next origin. */
async function startBalancer() {
  let turn = 0;
  const server = http.createServer((incoming, outgoing) => {
    const at = turn++ % origins.length;
    const { method, headers, url } = incoming;
    const passed = http.request(`${origins[at].url}${url}`, { method, headers, agent: false }, (answer) => {
      answered[at]++;
      outgoing.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(outgoing);
    });
    passed.on("error", () => outgoing.destroy());
    incoming.pipe(passed);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return server;
}

before(async () => {
  const socket = path.join(folder, "redis");
  redis = spawn("redis-server", ["--port", "0", "--save", "", "--unixsocket", socket, "--dir", folder], { stdio: "ignore" });
  for (let tries = 0; !fs.existsSync(socket); tries++) {
    assert.ok(tries < 200, "redis-server does not start");
    await sleep(50);
  }
  provider = await startProvider();
  browser = await launch();
  balancer = await startBalancer();
  site = { url: `http://127.0.0.1:${balancer.address().port}` };
  provider.register(`${site.url}/auth/callback`);
  for (let at = 0; at < 2; at++) {
    origins.push(
      await serve({
        ...NO_LIMITS,
        SIGNET_SERVER__URL: site.url,
        SIGNET_STATE__URL: `unix://${socket}`,
        SIGNET_STATE__TIMEOUT_MS: "2000",
        SIGNET_STORAGE__FOLDER: path.join(folder, "objects"),
        SIGNET_IMAGES__KEYS: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
        SIGNET_AUTH__PROVIDER__ISSUER: provider.issuer,
        SIGNET_AUTH__PROVIDER__CLIENT_ID: CLIENT.id,
        SIGNET_AUTH__PROVIDER__CLIENT_SECRET: CLIENT.secret,
      }),
    );
  }
});
after(async () => {
  await browser?.close();
  balancer?.closeAllConnections();
  balancer?.close();
  for (const origin of origins) await origin.stop();
  await provider?.stop();
  redis?.kill("SIGKILL");
  fs.rmSync(folder, { recursive: true, force: true });
});

test("a_person_signs_in_stays_in_and_signs_out_though_every_request_goes_elsewhere", async () => {
  const page = await open(browser, site);
  await page.locator("#sign-in").click();
  await asPerson(page, "alice");
  await page.locator("#studio").waitFor();
  const lists = () =>
    page.evaluate(async () => {
      const seen = [];
      for (let n = 0; n < 6; n++) seen.push((await fetch("/api/images")).status);
      return seen;
    });
  assert.deepEqual(await lists(), Array(6).fill(200));
  const signedOut = await page.evaluate(async () => (await fetch("/auth/logout", { method: "POST", headers: { "Signet-Studio": "1" } })).status);
  assert.equal(signedOut, 204);
  assert.deepEqual(await lists(), Array(6).fill(401));
  assert.ok(answered[0] > 5 && answered[1] > 5, `${answered}`);
  await page.context().close();
});

test("a_sign_in_counts_once_wherever_it_comes_back", async () => {
  const away = await request(`${origins[0].url}/auth/login`);
  const [cookie] = away.headers["set-cookie"];
  const state = new URL(away.headers.location).searchParams.get("state");
  const back = async (origin) => {
    const query = `state=${state}&code=invented&iss=${encodeURIComponent(provider.issuer)}`;
    const answer = await request(`${origin.url}/auth/callback?${query}`, { cookie: cookie.split(";")[0] });
    return [answer.status, JSON.parse(answer.body).code];
  };
  const asked = () => origins.map((origin) => origin.log().split("a sign-in failed").length - 1);
  assert.deepEqual(await back(origins[1]), [400, "sign_in_failed"]);
  assert.deepEqual(asked(), [0, 1], "the provider was asked about the invented code");
  for (const origin of origins) assert.deepEqual(await back(origin), [400, "sign_in_failed"]);
  assert.deepEqual(asked(), [0, 1], "and nobody asked again");
});
