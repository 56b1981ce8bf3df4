// What a person does in the studio, from the sign-in to the sign-out.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import fs from "node:fs";
import { decodePng } from "../e2e/png.mjs";
import { generate, launch, linkOf, NO_LIMITS, open, request, serve, signIn } from "./harness.mjs";

let service, browser, page;
before(async () => {
  browser = await launch();
  service = await serve({ ...NO_LIMITS, SIGNET_IMAGES__GRAIN_SECONDS: "0" });
  page = await open(browser, service, { permissions: ["clipboard-write"], acceptDownloads: true });
});
after(async () => {
  await browser?.close();
  await service?.stop();
});
afterEach(() => assert.deepEqual(page.wrong.splice(0), []));

test("a_visitor_sees_the_sign_in_and_comes_through_it_to_an_empty_studio", async () => {
  await page.locator("#welcome").waitFor();
  assert.ok(await page.locator("#studio").isHidden());
  await signIn(page);
  await page.locator("#empty").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
});

test("a_prompt_becomes_a_picture_that_is_shown_through_its_signed_link", async () => {
  const card = await generate(page, "a purple heart");
  const [width, source] = await card.locator("img").evaluate((img) => [img.naturalWidth, img.src]);
  assert.ok(width > 0);
  assert.ok(source.startsWith(`${service.imagesUrl}/generated/`), source);
  assert.equal(await card.locator("img").getAttribute("alt"), "a purple heart");
  assert.match(await card.locator(".life .left").innerText(), /^(59:\d\d|1 h 0 min)$/);
  assert.match(await card.locator(".life .sr").innerText(), /^Link expires in /);
  assert.ok(await page.locator("#empty").isHidden());
  assert.ok(await page.locator("#running").isHidden());
});

test("the_same_seed_gives_the_same_picture_again", async () => {
  await page.locator("#dice").click();
  const seed = await page.locator("#seed").inputValue();
  assert.match(seed, /^\d+$/);
  const pixels = async () => decodePng((await request(await linkOf(await generate(page, "a red apple")))).body).pixels;
  const [first, second] = [await pixels(), await pixels()];
  assert.ok(first.equals(second)); // the files differ in the time of their Content Credentials
  await page.locator("#seed").fill("");
});

test("four_pictures_of_one_request_come_in_the_order_of_their_seeds", async () => {
  await page.locator("#seed").fill("100");
  await generate(page, "an owl", { n: 4 });
  await page.locator("#seed").fill("");
  const seeds = [];
  for (const at of [0, 1, 2, 3]) {
    await page.locator(".picture").nth(at).click();
    seeds.push(await page.locator("#viewer-facts dd").nth(1).innerText());
    await page.keyboard.press("Escape");
  }
  assert.deepEqual(seeds, ["100", "101", "102", "103"]);
});

test("the_format_asked_for_is_the_format_that_comes", async () => {
  for (const [format, type] of [["webp", "image/webp"], ["jpeg", "image/jpeg"], ["png", "image/png"]]) {
    await page.locator(`input[name="format"][value="${format}"]`).check({ force: true });
    const answer = await request(await linkOf(await generate(page, `a ${format} fish`)));
    assert.equal(answer.headers["content-type"], type);
  }
});

test("a_new_link_opens_the_picture_for_as_long_as_was_asked", async () => {
  const card = page.locator(".card").first();
  const old = await linkOf(card);
  await card.locator(".picture").click();
  await page.locator("#viewer-ttl").selectOption("86400");
  await page.locator("#viewer-renew").click();
  await page.waitForFunction((before) => document.getElementById("viewer-link").value !== before, old);
  const link = await page.locator("#viewer-link").inputValue();
  assert.ok(Number(new URL(link).searchParams.get("exp")) - Date.now() / 1000 > 86_000);
  assert.equal((await request(link)).status, 200);
  await page.keyboard.press("Escape");
  assert.equal(await linkOf(card), link);
});

test("a_copied_link_opens_the_picture_for_a_program_without_any_session", async () => {
  const card = page.locator(".card").first();
  await card.getByRole("button", { name: /^Copy link/ }).click();
  // The toast of what was done before may still be there.
  await page.locator("#toast.on", { hasText: "Link copied" }).waitFor();
  // Pasted as a person would: the page's policy lets no script read the clipboard.
  await page.locator("#prompt").fill("");
  await page.locator("#prompt").focus();
  await page.keyboard.press("Control+V");
  await page.waitForFunction(() => document.getElementById("prompt").value !== "");
  const copied = await page.locator("#prompt").inputValue();
  assert.equal(copied, await linkOf(card));
  assert.equal((await request(copied)).status, 200);
});

test("a_download_is_named_after_its_prompt", async () => {
  const waiting = page.waitForEvent("download");
  await page.locator(".card").first().getByRole("button", { name: /^Download/ }).click();
  const download = await waiting;
  assert.match(download.suggestedFilename(), /^a-png-fish-\d+\.png$/);
  assert.ok(fs.statSync(await download.path()).size > 100);
});

test("a_kept_picture_says_so_after_a_reload_and_can_be_let_go", async () => {
  const card = page.locator(".card").first();
  const old = await linkOf(card);
  await card.getByRole("button", { name: /^Keep/ }).click();
  await page.locator(".card.kept").waitFor();
  assert.match(await linkOf(card), /\/kept\//);
  assert.equal((await request(old)).status, 200, "the link from before still opens it");
  await page.reload();
  await page.locator(".card.kept").waitFor();
  await page.locator(".card.kept").getByRole("button", { name: /^Keep/ }).click();
  await page.locator(".card.kept").waitFor({ state: "detached" });
});

test("a_deletion_asks_first_and_then_no_link_opens_the_picture", async () => {
  const card = page.locator(".card").first();
  const [id, link] = [await card.getAttribute("data-id"), await linkOf(card)];
  await card.getByRole("button", { name: /^Delete/ }).click();
  await page.locator("#ask").getByRole("button", { name: "Cancel" }).click();
  assert.equal((await request(link)).status, 200);
  await card.getByRole("button", { name: /^Delete/ }).click();
  await page.locator("#ask-yes").click();
  await page.locator(`[data-id="${id}"]`).waitFor({ state: "detached" });
  assert.equal((await request(link)).status, 404);
});

test("seed_and_size_of_a_picture_can_be_used_again", async () => {
  await page.locator(".picture").first().click();
  const seed = await page.locator("#viewer-facts dd").nth(1).innerText();
  await page.locator("#viewer-reuse").click();
  assert.equal(await page.locator("#seed").inputValue(), seed);
  assert.ok(await page.locator("#viewer").isHidden());
  await page.locator("#seed").fill("");
});

test("older_pictures_come_page_by_page_and_each_once", async () => {
  while ((await page.locator(".card").count()) < 26) await generate(page, "a blue fish", { n: 4 });
  const all = await page.locator(".card").count();
  await page.reload();
  await page.locator("#more").click();
  await page.waitForFunction((count) => document.querySelectorAll(".card").length === count, all);
  const ids = await page.locator(".card").evaluateAll((cards) => cards.map((card) => card.dataset.id));
  assert.equal(new Set(ids).size, all);
  assert.ok(await page.locator("#more").isHidden());
});

test("the_limits_are_shown_with_what_is_used", async () => {
  await page.locator("#usage-open").click();
  await page.locator("#limits li").first().waitFor();
  assert.match(await page.locator("#limits").innerText(), /Storage/);
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#usage").isHidden());
});

test("signing_out_ends_the_session_on_the_server_too", async () => {
  const cookies = await page.context().cookies();
  await page.locator("#sign-out").click();
  await page.locator("#welcome").waitFor();
  assert.equal(await page.locator(".card").count(), 0);
  await page.context().addCookies(cookies);
  await page.reload();
  await page.locator("#welcome").waitFor();
});
