// What must not get in or out: scripts, frames, keys, and pictures on foreign pages.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { foreignSite, generate, launch, linkOf, NO_LIMITS, open, request, serve, signIn } from "./harness.mjs";

let service, browser, page, link;
before(async () => {
  browser = await launch();
  service = await serve(NO_LIMITS);
  page = await open(browser, service);
  await signIn(page);
  link = await linkOf(await generate(page, "a purple heart"));
});
after(async () => {
  await browser?.close();
  await service?.stop();
});

test("no_script_can_read_a_session_key_or_token", async () => {
  const cookies = await page.context().cookies(service.url);
  assert.equal(cookies.length, 1);
  const [cookie] = cookies;
  assert.ok(cookie.httpOnly);
  assert.equal(cookie.sameSite, "Strict");
  const seen = await page.evaluate(() => ({
    cookie: document.cookie,
    stored: { ...localStorage, ...sessionStorage },
    databases: indexedDB.databases ? indexedDB.databases().then((all) => all.length) : 0,
    html: document.documentElement.outerHTML,
  }));
  assert.equal(seen.cookie, "");
  assert.deepEqual(seen.stored, {});
  assert.ok(!seen.html.includes(cookie.value));
  assert.doesNotMatch(seen.html, /eyJ[A-Za-z0-9_-]{8,}\./, "no JWT");
  assert.deepEqual(await page.context().cookies(service.imagesUrl), [], "the images host is given no cookie");
});

test("the_page_breaks_its_own_policy_nowhere_and_the_policy_holds", async () => {
  assert.deepEqual(page.wrong, []);
  const breaches = await page.evaluate(async () => {
    const seen = [];
    document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
    const attempt = (act) => {
      try {
        act();
      } catch {
        seen.push("thrown");
      }
    };
    const img = new Image();
    img.src = "http://192.0.2.1/pixel.png?stolen";
    const style = document.createElement("style");
    style.textContent = "body { display: none }";
    document.head.append(style);
    const script = document.createElement("script");
    attempt(() => (script.textContent = "window.broken = true"));
    attempt(() => document.body.append(script));
    attempt(() => (document.body.innerHTML = "<p>gone"));
    attempt(() => eval("1"));
    await fetch("http://192.0.2.1/").catch(() => {});
    await new Promise((done) => setTimeout(done, 200));
    return { seen, broken: window.broken ?? false };
  });
  for (const directive of ["img-src", "style-src-elem", "connect-src", "require-trusted-types-for", "thrown"]) {
    assert.ok(breaches.seen.includes(directive), `${directive} in ${breaches.seen}`);
  }
  assert.equal(breaches.broken, false);
});

test("every_file_of_the_page_carries_the_policy_and_comes_from_its_own_origin", async () => {
  const other = await page.context().newPage();
  const answers = [];
  other.on("response", (answer) => answers.push(answer));
  await other.goto(service.url);
  await other.locator(".card").first().waitFor();
  const own = answers.filter((answer) => answer.url().startsWith(`${service.url}/`));
  const pages = own.filter((answer) => !new URL(answer.url()).pathname.startsWith("/api/"));
  assert.ok(pages.length > 15);
  for (const answer of pages) {
    const headers = answer.headers();
    assert.match(headers["content-security-policy"], /^default-src 'none'; script-src 'self';/);
    assert.ok(headers["content-security-policy"].includes(`img-src 'self' ${service.imagesUrl};`));
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["x-frame-options"], "DENY");
  }
  for (const answer of answers) {
    const { origin } = new URL(answer.url());
    assert.ok(origin === service.url || origin === service.imagesUrl, answer.url());
  }
  await other.close();
});

test("no_page_can_frame_the_studio", async () => {
  const evil = await foreignSite("127.0.0.1", "127.0.0.1", () => `<iframe src="${service.url}/"></iframe>`);
  const foreign = await page.context().newPage();
  await foreign.goto(evil.url);
  await foreign.waitForFunction(() => document.readyState === "complete");
  const frames = foreign.frames().filter((frame) => frame !== foreign.mainFrame());
  for (const frame of frames) {
    assert.equal(await frame.locator("#studio, #welcome").count(), 0, frame.url());
  }
  await foreign.close();
  await evil.stop();
});

test("unsafe_requests_from_elsewhere_change_nothing", async () => {
  const before = (await page.evaluate(() => fetch("/api/images").then((answer) => answer.json()))).images.length;
  // The same host on another port is the same site: the cookie goes along, so the header and the origin must decide.
  const evil = await foreignSite("127.0.0.1", "127.0.0.1", () => "<p>evil");
  const foreign = await page.context().newPage();
  await foreign.goto(evil.url);
  const outcomes = await foreign.evaluate(async (url) => {
    const ask = (path, options) => fetch(url + path, { credentials: "include", ...options }).then((answer) => answer.status, () => "refused");
    return [
      await ask("/api/generate", { method: "POST", mode: "no-cors", body: '{"prompt":"x"}' }),
      await ask("/api/generate", { method: "POST", headers: { "signet-studio": "1", "content-type": "application/json" }, body: '{"prompt":"x"}' }),
      await ask("/auth/logout", { method: "POST", mode: "no-cors" }),
    ];
  }, service.url);
  assert.equal(outcomes[1], "refused");
  await foreign.close();
  await evil.stop();
  const after = await page.evaluate(() => fetch("/api/images").then(async (answer) => ({ status: answer.status, images: (await answer.json()).images })));
  assert.equal(after.status, 200, "still signed in");
  assert.equal(after.images.length, before);
});

test("a_foreign_page_that_embeds_a_picture_gets_none_and_the_studio_does", async () => {
  const embeds = {
    plain: `<img id="plain" src="LINK">`,
    "no-referrer": `<img id="no-referrer" referrerpolicy="no-referrer" src="LINK">`,
    origin: `<img id="origin" referrerpolicy="origin" src="LINK">`,
    unsafe: `<img id="unsafe" referrerpolicy="unsafe-url" src="LINK">`,
    cors: `<img id="cors" crossorigin="anonymous" src="LINK">`,
    video: `<video id="video" poster="LINK"></video>`,
  };
  // Another address, and a name under the images host's own: both are other sites to a browser.
  for (const [address, host] of [["127.0.0.2", "127.0.0.2"], ["127.0.0.1", "evil.localhost"]]) {
    const html = `<!doctype html>${Object.values(embeds).join("")}`.replaceAll("LINK", link.replaceAll("&", "&amp;"));
    const evil = await foreignSite(address, host, () => html);
    const foreign = await (await browser.newContext()).newPage();
    let asked = 0;
    foreign.on("request", (sent) => sent.url() === link && asked++);
    await foreign.goto(evil.url);
    await foreign.waitForFunction(() => [...document.images].every((img) => img.complete));
    const shown = await foreign.evaluate(() => [...document.images].filter((img) => img.naturalWidth > 0).map((img) => img.id));
    assert.deepEqual(shown, [], host);
    assert.ok(asked > 0, "the browser did ask");
    await foreign.context().close();
    await evil.stop();
  }
  assert.ok(await page.locator(".card img").first().evaluate((img) => img.naturalWidth > 0));
  assert.equal((await request(link)).status, 200, "and the link itself is good");
});
