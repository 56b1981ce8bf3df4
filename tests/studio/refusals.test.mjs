// What the studio says when something is refused, expires or breaks. The real service provokes what it can; what would
// need a broken one is answered in its place.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { generate, launch, NO_LIMITS, open, serve, signIn } from "./harness.mjs";

let service, browser, page;
before(async () => {
  browser = await launch();
  service = await serve({ ...NO_LIMITS, SIGNET_IMAGES__LINK_SECONDS: "4", SIGNET_IMAGES__GRAIN_SECONDS: "0" });
  page = await open(browser, service);
  await signIn(page);
});
after(async () => {
  await browser?.close();
  await service?.stop();
});
afterEach(async () => {
  assert.deepEqual(page.wrong.splice(0), []);
  await page.unrouteAll();
});

const problem = (status, code, headers = {}, more = {}) => (route) =>
  route.fulfill({ status, headers: { "content-type": "application/problem+json", ...headers }, body: JSON.stringify({ type: "about:blank", title: "A title.", status, code, ...more }) });

/** The alert's words after pressing Generate with this answer. */
async function alertFor(answer) {
  await page.unrouteAll();
  await page.route("**/api/generate", answer);
  await page.locator("#prompt").fill("a robot");
  await page.locator("#generate").click();
  await page.locator("#alert").waitFor();
  const text = await page.locator("#alert").innerText();
  await page.locator("#alert").getByRole("button", { name: "Dismiss" }).click();
  return text;
}

test("an_expired_link_says_so_and_is_renewed_on_demand", async () => {
  const card = await generate(page, "an owl");
  const old = await card.locator("img").getAttribute("src");
  await page.locator('.card[data-life="over"]').waitFor();
  assert.equal(await card.locator(".life .left").innerText(), "Expired");
  assert.match(await card.locator(".life .sr").innerText(), /^Link expired/);
  await card.locator(".life").click();
  await page.waitForFunction((before) => document.querySelector(".card img").src !== before, old);
  await page.waitForFunction(() => document.querySelector(".card img").naturalWidth > 0);
  assert.notEqual(await card.locator(".life .left").innerText(), "Expired");
});

test("every_refusal_has_words_of_its_own", async () => {
  for (const [status, code, words] of [
    [400, "invalid_request", "width must be a multiple of 8"],
    [403, "suspended", "suspended"],
    [403, "insufficient_scope", "may not do that"],
    [413, "body_too_large", "Shorten the prompt"],
    [429, "storage_quota", "storage is full"],
    [500, "internal", "Something broke"],
    [503, "store_unavailable", "cannot be stored"],
    [507, "store_full", "no room left"],
  ]) {
    const text = await alertFor(problem(status, code, {}, { detail: status === 400 ? words : undefined }));
    assert.ok(text.includes(words), `${code}: ${text}`);
  }
});

test("an_answer_that_is_no_problem_document_is_still_explained", async () => {
  assert.match(await alertFor((route) => route.fulfill({ status: 502, body: "<b>bad gateway</b>" })), /Something broke on the server/);
});

test("what_the_server_says_is_shown_as_text_and_never_as_markup", async () => {
  const detail = '<img src=x onerror="document.title=1">';
  const text = await alertFor(problem(400, "invalid_request", {}, { detail }));
  assert.ok(text.includes(detail));
  assert.equal(await page.title(), "Signet Studio");
});

test("a_dead_connection_is_told_and_can_be_tried_again", async () => {
  await page.route("**/api/generate", (route) => route.abort("connectionrefused"));
  await page.locator("#generate").click();
  await page.locator("#alert").waitFor();
  assert.match(await page.locator("#alert").innerText(), /cannot reach the server/);
  await page.unrouteAll();
  const before = await page.locator(".card").count();
  await page.locator("#alert").getByRole("button", { name: "Try again" }).click();
  await page.waitForFunction((count) => document.querySelectorAll(".card").length > count, before);
  assert.ok(await page.locator("#alert").isHidden());
});

test("a_size_the_model_does_not_make_is_refused_in_the_form", async () => {
  let asked = 0;
  await page.route("**/api/generate", (route) => (asked++, route.abort()));
  await page.locator('input[name="size"][value="custom"]').check({ force: true });
  await page.locator("#width").fill("13");
  await page.locator("#generate").click();
  assert.match(await page.locator("#size-wrong").innerText(), /in steps of/);
  assert.equal(await page.evaluate(() => document.activeElement.id), "width");
  assert.equal(asked, 0);
  await page.locator('input[name="size"]').first().check({ force: true });
});

test("an_empty_prompt_is_not_sent", async () => {
  let asked = 0;
  await page.route("**/api/generate", (route) => (asked++, route.abort()));
  await page.locator("#prompt").fill("   ");
  await page.locator("#generate").click();
  assert.equal(await page.locator("#prompt").getAttribute("aria-invalid"), "true");
  assert.equal(asked, 0);
});

test("a_job_is_followed_step_by_step_and_its_cancel_reaches_the_server", async () => {
  const id = "0199f2a4-0000-7000-8000-000000000000";
  const job = { id, status: "running", step: 7, steps: 20, status_url: `/api/jobs/${id}`, events_url: `/api/jobs/${id}/events`, cancel_url: `/api/jobs/${id}` };
  const methods = [];
  await page.route("**/api/generate", (route) => route.fulfill({ status: 202, json: { job } }));
  await page.route("**/api/jobs/**", (route) => {
    methods.push(route.request().method());
    if (!route.request().url().endsWith("/events")) return route.fulfill({ status: 204 });
    // Reconnects find the same state again: the job stays at step 7 until it is cancelled.
    return route.fulfill({ headers: { "content-type": "text/event-stream" }, body: 'retry: 100\n\nevent: queued\ndata: {"queue_position":2}\n\nevent: step\ndata: {"step":7,"steps":20}\n\n' });
  });
  await page.locator("#prompt").fill("a robot");
  await page.locator("#generate").click();
  await page.waitForFunction(() => document.getElementById("running-detail").textContent === "Step 7 of 20");
  assert.equal(await page.locator("#progress").evaluate((bar) => bar.value / bar.max), 7 / 20);
  const deletion = page.waitForRequest((sent) => sent.method() === "DELETE");
  await page.locator("#cancel").click();
  assert.equal((await deletion).headers()["signet-studio"], "1");
  await page.locator("#running").waitFor({ state: "hidden" });
  assert.ok(await page.locator("#alert").isHidden());
});

test("a_job_s_pictures_appear_when_its_events_say_done", async () => {
  const id = "0199f2a4-0000-7000-8000-000000000001";
  const list = await page.evaluate(() => fetch("/api/images?limit=1").then((answer) => answer.json()));
  // A seed that JSON.parse alone would round.
  const image = JSON.stringify({ ...list.images[0], id }).replace(/"seed":\d+/, '"seed":9007199254740993');
  await page.route("**/api/generate", (route) => route.fulfill({ status: 202, json: { job: { id, status: "queued", status_url: `/api/jobs/${id}`, events_url: `/api/jobs/${id}/events` } } }));
  await page.route("**/api/jobs/**", (route) =>
    route.request().url().endsWith("/events")
      ? route.fulfill({ headers: { "content-type": "text/event-stream" }, body: "event: done\ndata: {}\n\n" })
      : route.fulfill({ headers: { "content-type": "application/json" }, body: `{"job":{"id":"${id}","status":"done"},"images":[${image}]}` }));
  await page.locator("#generate").click();
  await page.locator(`[data-id="${id}"] .picture`).click();
  assert.equal(await page.locator("#viewer-facts dd").nth(1).innerText(), "9007199254740993");
  await page.keyboard.press("Escape");
});

test("a_session_that_ended_leads_back_to_the_sign_in", async () => {
  await page.context().clearCookies();
  await page.locator("#generate").click();
  await page.locator("#welcome").waitFor();
  assert.match(await page.locator("#welcome-note").innerText(), /session has ended/);
  await signIn(page);
});

test("a_limit_counts_down_until_it_lets_the_next_one_pass", async () => {
  const limited = await serve({ SIGNET_LIMITS__ADDRESS__PER_MINUTE: "12", SIGNET_LIMITS__ADDRESS__BURST: "0" });
  try {
    const strict = await open(browser, limited);
    await signIn(strict);
    await generate(strict, "a red apple");
    await strict.locator("#generate").click();
    await strict.locator("#alert").waitFor();
    const text = await strict.locator("#alert").innerText();
    assert.match(text, /too fast/);
    assert.match(text, /this address/);
    assert.match(text, /Try again in \d+ s/);
    assert.equal(await strict.locator("#generate").getAttribute("aria-disabled"), "true");
    assert.match(await strict.locator("#generate").innerText(), /^Wait \d+ s$/);
    await strict.locator("#alert").waitFor({ state: "hidden" });
    await strict.locator("#generate").click();
    await strict.waitForFunction(() => document.querySelectorAll(".card").length === 2);
    assert.deepEqual(strict.wrong, []);
    await strict.context().close();
  } finally {
    await limited.stop();
  }
});
