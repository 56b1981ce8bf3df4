// Everyone can use it: by keyboard alone, on a small screen, in light and dark, with a screen reader.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, afterEach, before, test } from "node:test";
import fs from "node:fs";
import path from "node:path";
import { generate, launch, NO_LIMITS, open, ROOT, serve, signIn } from "./harness.mjs";

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
// For people to look at; nothing compares them.
const SHOTS = path.join(ROOT, ".run/studio");

let service, browser, page;
before(async () => {
  fs.mkdirSync(SHOTS, { recursive: true });
  browser = await launch();
  service = await serve({ ...NO_LIMITS, SIGNET_IMAGES__GRAIN_SECONDS: "0" });
  page = await open(browser, service);
});
after(async () => {
  await browser?.close();
  await service?.stop();
});
afterEach(() => assert.deepEqual(page.wrong.splice(0), []));

const focused = () =>
  page.evaluate(() => {
    const element = document.activeElement;
    return element.id || element.className || element.getAttribute("aria-label") || element.tagName;
  });

/** Presses Tab until `wanted` has the focus; each stop on the way must show where it is. */
async function tabTo(wanted) {
  for (let presses = 0; presses < 60; presses++) {
    if ((await focused()) === wanted) return;
    await page.keyboard.press("Tab");
    const seen = await page.evaluate(() => {
      const element = document.activeElement;
      const marked = element.matches('.chip input, .segments input') ? element.nextElementSibling : element;
      const style = getComputedStyle(marked);
      return element === document.body || style.outlineStyle !== "none" || element.matches(".skip");
    });
    assert.ok(seen, `the focus on ${await focused()} is not visible`);
  }
  assert.fail(`${wanted} is not reached by keyboard`);
}

test("the_whole_way_goes_without_a_mouse", async () => {
  await page.locator("#welcome").waitFor();
  await tabTo("sign-in");
  await page.keyboard.press("Enter");
  await page.locator("#studio").waitFor();
  await page.waitForFunction(() => document.activeElement.id === "prompt");
  await page.keyboard.type("a red apple");
  await tabTo("steps");
  await page.keyboard.press("Home");
  await tabTo("generate");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector(".card")?.dataset.image === "shown");
  assert.equal(await page.locator("#live").innerText(), "Your picture is ready.");
  await tabTo("picture");
  await page.keyboard.press("Enter");
  await page.locator("#viewer[open]").waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "picture", "the focus comes back to where it was");
  await tabTo("life");
  const old = await page.locator(".card img").getAttribute("src");
  await page.waitForTimeout(1100); // links end at whole seconds: one later it is another link
  await page.keyboard.press("Enter");
  await page.waitForFunction((before) => document.querySelector(".card img").src !== before, old);
  for (let presses = 0; presses < 4; presses++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator("#ask[open]").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.value), "no", "the harmless answer comes first");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator(".card").waitFor({ state: "detached" });
  assert.equal(await focused(), "pictures");
});

test("enter_generates_and_shift_enter_starts_a_line", async () => {
  await page.locator("#prompt").fill("");
  await page.locator("#prompt").focus();
  await page.keyboard.type("an");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("owl");
  assert.equal(await page.locator("#prompt").inputValue(), "an\nowl");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector(".card")?.dataset.image === "shown");
});

for (const scheme of ["light", "dark"]) {
  test(`nothing_serious_is_wrong_for_assistive_technology_in_${scheme}`, async () => {
    const other = await open(browser, service, { colorScheme: scheme, reducedMotion: "reduce" });
    const check = async (name) => {
      await other.screenshot({ path: path.join(SHOTS, `${name}-${scheme}.png`) });
      await other.evaluate(AXE);
      const { violations } = await other.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
      assert.deepEqual(serious.map(({ id, nodes }) => `${name}: ${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("\n")}`), []);
    };
    await other.locator("#welcome").waitFor();
    await check("welcome");
    await signIn(other);
    await generate(other, "a purple heart", { n: 2 });
    await check("studio");
    await other.locator("#usage-open").click();
    await other.locator("#limits li").first().waitFor();
    await check("limits");
    await other.keyboard.press("Escape");
    await other.locator(".picture").first().click();
    await check("viewer");
    await other.keyboard.press("Escape");
    await other.getByRole("button", { name: /^Delete/ }).first().click();
    await check("question");
    await other.keyboard.press("Escape");
    await other.route("**/api/generate", (route) => route.fulfill({ status: 429, headers: { "retry-after": "40" }, json: { code: "rate_limited", policy: "address" } }));
    await other.locator("#generate").click();
    await other.locator("#alert").waitFor();
    await check("alert");
    assert.deepEqual(other.wrong, []);
    await other.context().close();
  });
}

test("it_fits_a_phone_of_360_pixels", async () => {
  const phone = await open(browser, service, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
  const fits = async (what) => {
    const [wide, view] = await phone.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= view, `${what} is ${wide} px wide on ${view}`);
    // WCAG 2.2, target size: at least 24 pixels each way.
    const small = await phone.evaluate(() =>
      [...document.querySelectorAll("button, a, select, textarea, input:not(.chip input, .segments input), summary, .chip span, .segments span")]
        .filter((element) => element.checkVisibility() && !element.matches(".sr, .shape, .skip"))
        .map((element) => [element.id || element.className || element.textContent, element.getBoundingClientRect()])
        .filter(([, box]) => box.width < 24 || box.height < 24)
        .map(([name]) => name));
    assert.deepEqual(small, [], what);
  };
  await phone.locator("#welcome").waitFor();
  await fits("the sign-in");
  await signIn(phone);
  await generate(phone, "a red apple");
  await fits("the studio");
  await phone.screenshot({ path: path.join(SHOTS, "phone.png"), fullPage: true });
  await phone.locator(".picture").first().click();
  await fits("the viewer");
  await phone.screenshot({ path: path.join(SHOTS, "phone-viewer.png") });
  assert.deepEqual(phone.wrong, []);
  await phone.context().close();
});
