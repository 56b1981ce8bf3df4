// Real Chromium, two sites: a good link shows on the operator's own pages and nowhere else, whatever a foreign page does
// to hide where it is, and scripts of those pages alone read what it opens. `*.localhost` counts as secure, so that Chromium sends the Sec-Fetch headers, as it does over TLS.
import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { test } from "node:test";
import { chromium } from "playwright-core";
import { listen, sign, sleep, startBucket, startEdge, startOrigin } from "./harness.mjs";

const PNG = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");
const KEY = "generated/u/a.png";

const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });

/** A bucket with the picture, two sites that show `pages.html`, and an edge that allows the first. */
async function sites() {
  const bucket = await startBucket();
  bucket.put(KEY, PNG);
  const origin = await startOrigin(); // hears what the edge counts
  const pages = { html: "" };
  const server = await listen(http.createServer((_request, answer) => answer.setHeader("content-type", "text/html").end(pages.html)));
  const probe = await listen(net.createServer());
  await probe.close();
  const [own, foreign] = [`www.good.localhost:${server.port}`, `www.evil.localhost:${server.port}`];
  const edge = await startEdge({ bucket, origin, port: probe.port, vars: { IMAGES_HOST: `images.good.localhost:${probe.port}`, REFERER_HOSTS: own, LIMITS: "off" } });
  const browser = await launch();
  let counter = 0; // each link is another one: no browser cache answers for the edge
  const link = (more = { dl: `n${(counter += 1)}.png` }) => `http://${edge.vars.IMAGES_HOST}${sign(edge, KEY, more)}`;
  const stop = async () => {
    await browser.close();
    await edge.stop();
    await server.close();
    await origin.close();
    await bucket.close();
  };
  return { bucket, origin, pages, own, foreign, edge, browser, link, stop };
}

test("scripts of an allowed page read pictures, and those of other pages do not", { timeout: 120_000 }, async () => {
  const { pages, own, foreign, browser, link, stop } = await sites();
  try {
    const context = await browser.newContext();
    const attempts = async (site, policy) => {
      pages.html = `<!doctype html><meta name="referrer" content="${policy}"><title>t</title>`;
      const tab = await context.newPage();
      await tab.goto(`http://${site}/`);
      const links = Array.from({ length: 5 }, () => link());
      const results = await tab.evaluate(async ([plain, drawn, blob, ranged, conditional]) => {
        const load = (url, crossOrigin) =>
          new Promise((done) => {
            const image = new Image();
            if (crossOrigin) image.crossOrigin = crossOrigin;
            image.onload = () => done(image);
            image.onerror = () => done(null);
            image.src = url;
          });
        const said = (attempt) => attempt().catch((error) => error.name);
        const first = await load(plain);
        const again = await load(plain, "anonymous"); // the copy that the first left must not be in the way
        return {
          shown: first?.naturalWidth ?? 0,
          again: again?.naturalWidth ?? 0,
          drawn: await said(async () => {
            const image = await load(drawn, "anonymous");
            if (!image) return "refused";
            const canvas = document.createElement("canvas");
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL().slice(0, 15);
          }),
          blob: await said(async () => (await (await fetch(blob)).blob()).size),
          ranged: await said(async () => {
            const answer = await fetch(ranged, { headers: { range: "bytes=0-3" } });
            return `${answer.status} ${answer.headers.get("content-range")}`;
          }),
          conditional: await said(async () => (await fetch(conditional, { headers: { "if-none-match": '"other"' } })).status),
          refused: await said(async () => (await (await fetch(`${blob}x`)).json()).code),
        };
      }, links);
      await tab.close();
      return results;
    };
    for (const policy of ["strict-origin-when-cross-origin", "no-referrer"]) {
      assert.deepEqual(await attempts(own, policy), {
        shown: 1, again: 1, drawn: "data:image/png;", blob: PNG.length, ranged: `206 bytes 0-3/${PNG.length}`, conditional: 200, refused: "malformed_link",
      }, policy);
      assert.deepEqual(await attempts(foreign, policy), {
        shown: 0, again: 0, drawn: "refused", blob: "TypeError", ranged: "TypeError", conditional: "TypeError", refused: "TypeError",
      }, policy);
    }
    // A sandboxed frame has no origin that can be named.
    pages.html = `<!doctype html><iframe sandbox="allow-scripts" srcdoc="<script>fetch('${link().replaceAll("&", "&amp;")}').then(() => 'read', () => 'refused').then((said) => parent.postMessage(said, '*'))</script>"></iframe>`;
    const tab = await context.newPage();
    await tab.addInitScript(() => addEventListener("message", ({ data }) => (window.said = data)));
    await tab.goto(`http://${own}/`);
    assert.equal(await (await tab.waitForFunction(() => window.said)).jsonValue(), "refused");
  } finally {
    await stop();
  }
});

test("a person who follows a link with trackers, or a broken one, gets there or is told why", { timeout: 120_000 }, async () => {
  const { pages, foreign, browser, link, stop } = await sites();
  try {
    const tab = await (await browser.newContext()).newPage();
    const follow = async (url) => {
      pages.html = `<!doctype html><a href="${url.replaceAll("&", "&amp;")}">picture</a>`;
      await tab.goto(`http://${foreign}/`);
      const [answer] = await Promise.all([tab.waitForResponse((answer) => answer.request().isNavigationRequest() && answer.status() !== 302), tab.click("a")]);
      await tab.waitForLoadState();
      return answer;
    };
    const clean = link({ ep: 1 });
    assert.equal((await follow(`${clean}&fbclid=IwAR0&utm_source=mail`)).status(), 200);
    assert.equal(tab.url(), clean);
    const wrong = [];
    tab.on("console", (message) => wrong.push(message.text()));
    assert.equal((await follow(`${clean}.`)).status(), 400);
    assert.equal(await tab.locator("h1").innerText(), "This link is not complete");
    assert.match(await tab.locator("footer").innerText(), /^400 malformed_link$/);
    assert.ok(await tab.locator("main").evaluate((main) => getComputedStyle(main).maxWidth !== "none"), "its own style holds under its policy");
    // That the answer was a 400 is all the browser has to say.
    assert.deepEqual(wrong.filter((text) => !/status of 400/.test(text)), []);
  } finally {
    await stop();
  }
});

test("hot-linking is refused in a real browser even under no-referrer", { timeout: 120_000 }, async () => {
  const { bucket, origin, pages, own, foreign: evil, browser, link, stop } = await sites();
  try {
    const context = await browser.newContext();
    /** Opens a page on `site`: how often it asked for the picture, how often the edge read it, which images show. */
    const see = async (site, html) => {
      pages.html = `<!doctype html><title>t</title>${html}`;
      const tab = await context.newPage();
      let asked = 0;
      tab.on("request", (request) => (asked += request.url().includes(KEY) ? 1 : 0));
      bucket.seen.length = 0;
      await tab.goto(`http://${site}/`, { waitUntil: "networkidle" });
      const shown = await tab.evaluate(() => [...document.images].map((image) => image.naturalWidth > 0));
      await tab.close();
      return { asked, read: bucket.seen.length, shown };
    };
    const ways = {
      plainly: (url) => `<img src="${url}">`,
      "under no-referrer": (url) => `<img referrerpolicy="no-referrer" src="${url}">`,
      "under a page's no-referrer": (url) => `<meta name="referrer" content="no-referrer"><img src="${url}">`,
      "in CORS mode": (url) => `<img crossorigin="anonymous" referrerpolicy="no-referrer" src="${url}">`,
      "as a background": (url) => `<meta name="referrer" content="no-referrer"><div style="width:9px;height:9px;background:url('${url}')"></div>`,
      "in a frame": (url) => `<iframe referrerpolicy="no-referrer" src="${url}"></iframe>`,
      "by a script": (url) => `<script>fetch("${url}", { mode: "no-cors", referrerPolicy: "no-referrer" }).catch(() => {})</script>`,
    };
    for (const [name, html] of Object.entries(ways)) {
      const foreign = await see(evil, html(link()));
      assert.deepEqual([foreign.asked, foreign.read], [1, 0], `a foreign page, ${name}`);
      assert.ok(foreign.shown.every((shown) => !shown), `a foreign page, ${name}`);
    }
    for (const name of ["plainly", "under no-referrer", "under a page's no-referrer", "as a background"]) {
      const ours = await see(own, ways[name](link()));
      assert.deepEqual([ours.asked, ours.read], [1, 1], `our page, ${name}`);
      assert.ok(ours.shown.every(Boolean), `our page, ${name}`);
    }
    // A link that somebody follows is no hot link.
    pages.html = `<a href="${link()}">picture</a>`;
    const tab = await context.newPage();
    await tab.goto(`http://${evil}/`);
    const [download] = await Promise.all([tab.waitForEvent("download"), tab.click("a")]);
    assert.match(download.suggestedFilename(), /^n\d+\.png$/);
    for (const end = Date.now() + 20_000; Date.now() < end && origin.reports.length === 0; ) await sleep(100);
    assert.match(origin.reports.map(({ body }) => body).join(""), /^link referer_denied k1 7$/m);
  } finally {
    await stop();
  }
});
