// The studio through the demo's edge: page and calls over one host, pictures from real workerd and its bucket.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startDemo } from "../e2e/harness.mjs";
import { foreignSite, generate, launch, linkOf, open, signIn } from "./harness.mjs";

let demo, service, browser, page;
before(async () => {
  browser = await launch();
  demo = await startDemo();
  service = { url: demo.env.EDGE_URL, imagesUrl: demo.env.IMAGES_URL };
  page = await open(browser, service);
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

test("a_picture_made_through_the_edge_is_shown_from_the_bucket", async () => {
  await signIn(page);
  const card = await generate(page, "a purple heart");
  assert.ok((await linkOf(card)).startsWith(`${service.imagesUrl}/generated/`));
  assert.ok(await card.locator("img").evaluate((img) => img.naturalWidth > 0));
  assert.deepEqual(page.wrong, []);
});

test("the_edge_passes_the_page_s_policy_on_unchanged", async () => {
  const answer = await page.reload();
  const policy = answer.headers()["content-security-policy"];
  assert.match(policy, /^default-src 'none'; script-src 'self';/);
  assert.ok(policy.includes(`img-src 'self' ${service.imagesUrl};`), policy);
  assert.equal(answer.headers()["referrer-policy"], "strict-origin-when-cross-origin");
  await page.locator('.card[data-image="shown"]').first().waitFor();
});

test("a_foreign_page_gets_no_picture_from_the_edge_with_or_without_a_referer", async () => {
  const link = await linkOf(page.locator(".card").first());
  const html = ["", 'referrerpolicy="no-referrer"'].map((policy) => `<img ${policy} src="${link.replaceAll("&", "&amp;")}">`);
  const evil = await foreignSite("127.0.0.2", "127.0.0.2", () => `<!doctype html>${html.join("")}`);
  const foreign = await (await browser.newContext()).newPage();
  let asked = 0;
  foreign.on("request", (sent) => sent.url() === link && asked++);
  await foreign.goto(evil.url);
  await foreign.waitForFunction(() => [...document.images].every((img) => img.complete));
  assert.deepEqual(await foreign.evaluate(() => [...document.images].map((img) => img.naturalWidth)), [0, 0]);
  assert.ok(asked > 0, "the browser did ask");
  await evil.stop();
});

test("a_deletion_in_the_studio_reaches_the_bucket", async () => {
  const card = page.locator(".card").first();
  const [id, link] = [await card.getAttribute("data-id"), await linkOf(card)];
  await card.getByRole("button", { name: /^Delete/ }).click();
  await page.locator("#ask-yes").click();
  await page.locator(`[data-id="${id}"]`).waitFor({ state: "detached" });
  const answer = await page.context().request.get(link);
  assert.equal(answer.status(), 404);
});

test("signing_out_works_through_the_edge", async () => {
  await page.locator("#sign-out").click();
  await page.locator("#welcome").waitFor();
  await page.reload();
  await page.locator("#welcome").waitFor();
});
