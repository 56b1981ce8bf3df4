// What an operator sees and does, on a live service under a small attack, in real Chromium.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { ROOT } from "../studio/harness.mjs";
import { ask, BEHIND_PROXY, client, generate, launch, openOperator, serve, signIn, token } from "./harness.mjs";

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SCOPES = "images:generate images:read images:write billing:read";
const from = (address) => ({ "x-test-address": address });
let service, browser, page, admin, alice, bob;

before(async () => {
  browser = await launch();
  service = await serve({ ...BEHIND_PROXY, SIGNET_LIMITS__USER_HOUR: "6" });
  admin = client(service, "admin");
  [alice, bob] = ["alice", "bob"].map((user) => client(service, SCOPES, user));
  const headers = from("192.0.2.1");
  for (const made of [alice, bob]) {
    const body = new URLSearchParams({ grant_type: "client_credentials", client_id: made.client_id, client_secret: made.client_secret }).toString();
    const answer = await ask("POST", `${service.url}/oauth/token`, { headers: { ...headers, "content-type": "application/x-www-form-urlencoded" }, body });
    made.token = JSON.parse(answer.text).access_token;
  }
  page = await openOperator(browser, service);
});
after(async () => {
  await browser?.close();
  await service?.stop();
});
afterEach(() => assert.deepEqual(page.wrong.splice(0), []));

const row = (list, text) => page.locator(`#${list} tr`, { hasText: text });

test("nobody_sees_anything_before_the_sign_in_and_a_wrong_secret_is_told", async () => {
  await page.locator("#welcome").waitFor();
  assert.ok(await page.locator("#main").isHidden());
  assert.equal(await page.evaluate(() => document.activeElement.id), "client-id");
  await page.locator("#client-id").fill(admin.client_id);
  await page.locator("#client-secret").fill("wrong");
  await page.locator("#sign-in button").click();
  await page.locator("#sign-wrong", { hasText: "Unknown client or wrong secret." }).waitFor();
  await page.locator("#client-id").fill(alice.client_id);
  await page.locator("#client-secret").fill(alice.client_secret);
  await page.locator("#sign-in button").click();
  await page.locator("#sign-wrong", { hasText: "lacks the scope admin" }).waitFor();
  assert.ok(await page.locator("#main").isHidden());
});

test("a_fresh_service_shows_empty_states_and_no_error", async () => {
  await signIn(page, admin);
  for (const [list, text] of [
    ["limited", "Nobody was limited"],
    ["prompts", "No prompt was repeated."],
    ["sessions", "Every session is used from one address."],
    ["jobs", "No job is under way."],
    ["decided", "Nobody is suspended"],
    ["hours", "No pictures were made"],
    ["chart-latency", "No picture was made"],
    ["chart-stored", "Nothing is stored."],
  ]) {
    assert.match(await page.locator(`#${list} .empty`).innerText(), new RegExp(text), list);
  }
  assert.equal(await page.locator(".tile").count(), 8);
  const signedIn = row("audit", "sign-in");
  assert.match(await signedIn.innerText(), new RegExp(admin.client_id), "the sign-in itself was written down");
});

test("what_happens_is_on_the_screen_within_seconds", async () => {
  for (const [n, address] of ["192.0.2.1", "192.0.2.2", "198.51.100.7"].entries()) {
    const answer = await generate(service, alice.token, { prompt: "The same prompt", seed: n }, from(address));
    assert.equal(answer.status, 200, answer.text);
  }
  assert.equal((await generate(service, bob.token, { prompt: " the SAME prompt " }, from("203.0.113.5"))).status, 200);
  const refused = [];
  for (let n = 0; n < 8; n++) refused.push((await generate(service, bob.token, { prompt: `p${n}` }, from("203.0.113.5"))).status);
  assert.deepEqual(refused.slice(5), [429, 429, 429]);
  await ask("GET", `${service.url}/api/images`, { headers: from("203.0.113.9") });
  await row("limited", "user-hour").waitFor();
  assert.match(await row("limited", "user-hour").innerText(), /bob[\s\S]*user-hour[\s\S]*3/);
  const repeated = await row("prompts", "p-").innerText();
  assert.match(repeated, /4\s+2\s/, "four times by two users");
  assert.doesNotMatch(await page.content(), /same prompt/i);
  assert.match(await row("sessions", "alice").innerText(), /alice\s+3\s/);
  assert.match(await row("hours", "bob").innerText(), /bob[\s\S]*6/);
  assert.match(await page.locator("#reasons").innerText(), /user-hour[\s\S]*3/);
  assert.match(await row("refusals", "unauthorized").first().innerText(), /401[\s\S]*\/api\/images[\s\S]*203\.0\.113\.9/);
  // A chart's first stretch ends a few seconds later.
  await page.waitForFunction(() => document.querySelectorAll("#chart-answers path.area").length === 4);
  await page.waitForFunction(() => document.querySelectorAll("#chart-latency path.line, #chart-latency circle").length >= 3);
  assert.match(await page.locator(".tile", { hasText: "Stored" }).innerText(), /[kM]?B/);
});

test("a_chart_is_read_with_the_keyboard", async () => {
  await page.locator("#chart-answers svg").focus();
  await page.keyboard.press("End");
  await page.locator("#chart-answers .tip", { hasText: "answered" }).waitFor();
  await page.keyboard.press("ArrowLeft");
  assert.ok(await page.locator("#chart-answers .tip").isVisible());
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#chart-answers .tip").isHidden());
});

test("suspending_asks_first_takes_effect_at_once_and_is_written_down", async () => {
  const suspend = page.locator("#limited").getByRole("button", { name: "Suspend: bob" });
  await suspend.click();
  await page.locator("#confirm").getByRole("button", { name: "Cancel" }).click();
  assert.equal((await ask("GET", `${service.url}/api/images`, { headers: { ...from("192.0.2.1"), authorization: `Bearer ${bob.token}` } })).status, 200);
  await suspend.click();
  await page.locator("#confirm-yes").click();
  await row("decided", "bob").waitFor();
  const answer = await generate(service, bob.token, { prompt: "x" }, from("192.0.2.1"));
  assert.equal(JSON.parse(answer.text).code, "suspended");
  await row("audit", "suspend").waitFor();
  const line = service.log().split("\n").find((text) => text.includes("operator_action") && text.includes("suspend"));
  const told = JSON.parse(line);
  assert.deepEqual([told.actor, told.action, told.subject, told.outcome, told.ip], [admin.client_id, "suspend", "bob", "done", "127.0.0.1"]);
  assert.match(told.request_id, /^[0-9a-f]{32}$/);
  await page.locator("#decided").getByRole("button", { name: "Resume: bob" }).click();
  await page.locator("#decided .empty").waitFor();
  await row("audit", "resume").waitFor();
});

test("a_user_who_is_not_there_is_told_and_not_made", async () => {
  await page.locator("#act-user").fill("nobody-at-all");
  await page.locator('#act button[value="suspend"]').click();
  await page.locator("#confirm-yes").click();
  await page.getByText("There is no such user.").first().waitFor();
  const seen = await page.evaluate(() => fetch("/admin/overview").then((answer) => answer.json()));
  assert.ok(!seen.decided.some((one) => one.user === "nobody-at-all"));
});

test("revoked_links_open_no_more", async () => {
  const made = await generate(service, alice.token, { prompt: "a link" }, from("192.0.2.1"));
  const { url } = JSON.parse(made.text).images[0];
  assert.equal((await ask("GET", url, { headers: from("203.0.113.5") })).status, 200);
  await page.locator("#act-user").fill("alice");
  await page.locator('#act button[value="revoke-links"]').click();
  await page.locator("#confirm-yes").click();
  await row("decided", "alice").waitFor();
  assert.equal(JSON.parse((await ask("GET", url, { headers: from("203.0.113.5") })).text).code, "link_revoked");
  assert.match(await row("decided", "alice").innerText(), /links revoked 1×/);
});

test("a_job_is_cancelled_from_the_page", async () => {
  const answer = await generate(service, alice.token, { prompt: "long", steps: 100, n: 1 }, { ...from("192.0.2.1"), prefer: "respond-async" });
  // With the small model a job may be over before anybody can cancel it; a few of them are not.
  assert.equal(answer.status, 202, answer.text);
  const { id } = JSON.parse(answer.text).job;
  const [status] = await page.evaluate(async (job) => {
    const cancelled = await fetch(`/admin/jobs/${job}/cancel`, { method: "POST", headers: { "signet-studio": "1" } });
    return [cancelled.status];
  }, id);
  assert.ok([204, 404].includes(status), String(status));
  if (status === 204) await row("audit", "cancel").waitFor();
});

test("the_page_is_good_in_light_and_dark_and_on_a_small_screen", async () => {
  const shots = path.join(ROOT, ".run/operator");
  fs.mkdirSync(shots, { recursive: true });
  for (const [name, scheme, size] of [
    ["light", "light", { width: 1440, height: 1000 }],
    ["dark", "dark", { width: 1440, height: 1000 }],
    ["small", "light", { width: 390, height: 844 }],
  ]) {
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme: scheme });
    await page.evaluate(() => (document.activeElement.blur(), scrollTo(0, 0)));
    await page.waitForTimeout(300);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `${name} scrolls sideways`);
    await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true });
  }
  await page.setViewportSize({ width: 1440, height: 1000 });
  await page.emulateMedia({ colorScheme: "light" });
});

test("what_is_shown_has_no_accessibility_faults_that_can_be_found_by_machine", async () => {
  for (const scheme of ["light", "dark"]) {
    const other = await openOperator(browser, service, { bypassCSP: true, colorScheme: scheme, viewport: { width: 1280, height: 900 } });
    await signIn(other, admin);
    await row("hours", "bob").waitFor();
    await other.evaluate(AXE);
    const faults = await other.evaluate(async () => (await axe.run()).violations.map((fault) => `${fault.id}: ${fault.nodes.map((node) => node.target).join(" ")}`));
    assert.deepEqual(faults, [], scheme);
    await other.context().close();
  }
});

test("signing_out_ends_the_session_here_and_at_the_service", async () => {
  const [cookie] = (await page.context().cookies(service.operatorUrl)).filter((one) => one.name === "signet-operator");
  assert.ok(cookie.httpOnly);
  assert.equal(cookie.sameSite, "Strict");
  await page.locator("#sign-out").click();
  await page.locator("#welcome").waitFor();
  const again = await ask("GET", `${service.operatorUrl}/admin/overview`, { headers: { cookie: `signet-operator=${cookie.value}` } });
  assert.equal(again.status, 401);
});
