// Who gets to the operator's page, and what does not get in or out.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fs from "node:fs";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { foreignSite } from "../studio/harness.mjs";
import { ask, client, launch, NO_LIMITS, openOperator, serve, signIn, token } from "./harness.mjs";

const DATA = ["/admin/overview"];
const ACTS = ["/admin/users/someone/suspend", "/admin/users/someone/resume", "/admin/users/someone/revoke-links", "/admin/jobs/01900000-0000-7000-8000-000000000000/cancel"];
let service, browser, page, admin;

before(async () => {
  browser = await launch();
  service = await serve(NO_LIMITS);
  admin = client(service, "admin");
  page = await openOperator(browser, service);
});
after(async () => {
  await browser?.close();
  await service?.stop();
});

test("the_scope_admin_is_needed_on_loopback_too", async () => {
  const user = await token(service, client(service, "images:read"));
  const root = await token(service, admin);
  const at = (method, target, bearer) => ask(method, service.operatorUrl + target, { headers: bearer ? { authorization: `Bearer ${bearer}` } : {} });
  for (const target of ["/", "/admin", ...DATA]) {
    const statuses = [(await at("GET", target)).status, (await at("GET", target, user)).status, (await at("GET", target, root)).status];
    assert.deepEqual(statuses, [401, 403, 200], target);
  }
  for (const target of ACTS) {
    const statuses = [(await at("POST", target)).status, (await at("POST", target, user)).status];
    assert.deepEqual(statuses, [401, 403], target);
    assert.ok([204, 404].includes((await at("POST", target, root)).status), target);
  }
  for (const target of [...DATA, "/admin/session"]) {
    assert.equal((await ask("GET", service.url + target)).status, 404, "not on the public listener");
  }
});

test("a_studio_session_opens_nothing_here", async () => {
  const answer = await ask("GET", `${service.url}/auth/login`);
  const cookie = answer.headers["set-cookie"][0].split(";")[0];
  for (const target of ["/", ...DATA]) {
    assert.equal((await ask("GET", service.operatorUrl + target, { headers: { cookie } })).status, 401, target);
  }
});

test("only_the_page_itself_can_act_with_its_session", async () => {
  client(service, "images:read", "victim");
  await signIn(page, admin);
  const [cookie] = (await page.context().cookies(service.operatorUrl)).filter((one) => one.name === "signet-operator");
  const act = (headers) => ask("POST", `${service.operatorUrl}/admin/users/victim/suspend`, { headers: { cookie: `signet-operator=${cookie.value}`, ...headers } });
  for (const headers of [
    {},
    { origin: service.operatorUrl },
    { "signet-studio": "1" },
    { origin: service.url, "signet-studio": "1" },
    { origin: "null", "signet-studio": "1" },
    { origin: service.operatorUrl.replace("http:", "https:"), "signet-studio": "1" },
  ]) {
    const answer = await act(headers);
    assert.equal(JSON.parse(answer.text).code, "cross_site", JSON.stringify(headers));
  }
  const evil = await foreignSite("127.0.0.1", "127.0.0.1", () => "<p>evil");
  const foreign = await page.context().newPage();
  await foreign.goto(evil.url);
  await foreign.evaluate(async (url) => {
    const post = (options) => fetch(`${url}/admin/users/victim/suspend`, { method: "POST", credentials: "include", ...options }).catch(() => {});
    await post({ mode: "no-cors" });
    await post({ headers: { "signet-studio": "1" } });
  }, service.operatorUrl);
  await foreign.setContent(`<form method="post" action="${service.operatorUrl}/admin/users/victim/suspend"><button id="go">go</button></form>`);
  await foreign.locator("#go").click();
  await foreign.waitForLoadState();
  await foreign.close();
  await evil.stop();
  const seen = await page.evaluate(() => fetch("/admin/overview").then((answer) => answer.json()));
  assert.deepEqual(seen.decided.filter((one) => one.user === "victim"), []);
  assert.equal((await act({ origin: service.operatorUrl, "signet-studio": "1" })).status, 204, "and the page itself can");
});

test("a_disabled_client_is_out_at_once", async () => {
  const other = client(service, "admin");
  const second = await openOperator(browser, service);
  await signIn(second, other);
  service.client((program, _, options) => {
    execFileSync(program, ["client", "disable", other.client_id], options);
    return "{}";
  });
  await second.locator("#welcome").waitFor();
  await second.context().close();
});

test("every_answer_of_the_page_carries_the_policy_and_shares_nothing", async () => {
  const other = await page.context().newPage();
  const answers = [];
  other.on("response", (answer) => answers.push(answer));
  await other.goto(service.operatorUrl);
  await other.locator("#main").waitFor();
  assert.ok(answers.length >= 9);
  let bytes = 0;
  for (const answer of answers) {
    const headers = answer.headers();
    assert.ok(answer.url().startsWith(`${service.operatorUrl}/`), answer.url());
    assert.ok(!Object.keys(headers).some((name) => name.startsWith("access-control-")), answer.url());
    bytes += (await answer.body()).length + JSON.stringify(headers).length;
    if (new URL(answer.url()).pathname.startsWith("/admin/")) {
      assert.equal(headers["cache-control"], "no-store");
      continue;
    }
    assert.match(headers["content-security-policy"], /^default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';/);
    assert.match(headers["content-security-policy"], /frame-ancestors 'none'/);
    assert.equal(headers["x-frame-options"], "DENY");
    assert.equal(headers["cross-origin-resource-policy"], "same-origin");
  }
  assert.ok(bytes < 100_000, `the first load is ${bytes} bytes`);
  await other.close();
});

test("no_page_can_frame_it", async () => {
  const evil = await foreignSite("127.0.0.1", "127.0.0.1", () => `<iframe src="${service.operatorUrl}/"></iframe>`);
  const foreign = await page.context().newPage();
  await foreign.goto(evil.url);
  await foreign.waitForFunction(() => document.readyState === "complete");
  for (const frame of foreign.frames().filter((frame) => frame !== foreign.mainFrame())) {
    assert.equal(await frame.locator("#main, #welcome").count(), 0, frame.url());
  }
  await foreign.close();
  await evil.stop();
});

test("the_page_has_no_accessibility_faults_that_can_be_found_by_machine", async () => {
  const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  for (const scheme of ["light", "dark"]) {
    const checked = await browser.newContext({ bypassCSP: true, colorScheme: scheme, viewport: { width: 1280, height: 900 } });
    const other = await checked.newPage();
    await other.goto(service.operatorUrl);
    await other.locator("#welcome").waitFor();
    const faults = async () => {
      await other.evaluate(axe);
      return other.evaluate(async () => (await axe.run()).violations.map((fault) => `${fault.id}: ${fault.nodes.map((node) => node.target).join(" ")}`));
    };
    assert.deepEqual(await faults(), [], `${scheme}, signed out`);
    await signIn(other, admin);
    assert.deepEqual(await faults(), [], `${scheme}, signed in`);
    await checked.close();
  }
});
