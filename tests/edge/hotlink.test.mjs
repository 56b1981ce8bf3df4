// Real Chromium, two sites: a good link shows on the operator's own pages and nowhere else, whatever a foreign page does
// to hide where it is. `*.localhost` counts as secure, so that Chromium sends the Sec-Fetch headers, as it does over TLS.
import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { test } from "node:test";
import { chromium } from "playwright-core";
import { listen, sign, sleep, startBucket, startEdge, startOrigin } from "./harness.mjs";

const PNG = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");
const KEY = "generated/u/a.png";

test("hot-linking is refused in a real browser even under no-referrer", { timeout: 120_000 }, async () => {
  const bucket = await startBucket();
  bucket.put(KEY, PNG);
  const origin = await startOrigin(); // hears what the edge counts
  let page = "";
  const pages = await listen(http.createServer((_request, answer) => answer.setHeader("content-type", "text/html").end(page)));
  const probe = await listen(net.createServer());
  await probe.close();
  const own = `www.good.localhost:${pages.port}`;
  const edge = await startEdge({ bucket, origin, port: probe.port, vars: { IMAGES_HOST: `images.good.localhost:${probe.port}`, REFERER_HOSTS: own, LIMITS: "off" } });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  try {
    const context = await browser.newContext();
    const link = () => `http://${edge.vars.IMAGES_HOST}${sign(edge, KEY, { dl: `n${(counter += 1)}.png` })}`;
    let counter = 0; // each link is another one: no browser cache answers for the edge
    /** Opens a page on `site`: how often it asked for the picture, how often the edge read it, which images show. */
    const see = async (site, html) => {
      page = `<!doctype html><title>t</title>${html}`;
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
      const foreign = await see(`www.evil.localhost:${pages.port}`, html(link()));
      assert.deepEqual([foreign.asked, foreign.read], [1, 0], `a foreign page, ${name}`);
      assert.ok(foreign.shown.every((shown) => !shown), `a foreign page, ${name}`);
    }
    for (const name of ["plainly", "under no-referrer", "under a page's no-referrer", "as a background"]) {
      const ours = await see(own, ways[name](link()));
      assert.deepEqual([ours.asked, ours.read], [1, 1], `our page, ${name}`);
      assert.ok(ours.shown.every(Boolean), `our page, ${name}`);
    }
    // A link that somebody follows is no hot link.
    page = `<a href="${link()}">picture</a>`;
    const tab = await context.newPage();
    await tab.goto(`http://www.evil.localhost:${pages.port}/`);
    const [download] = await Promise.all([tab.waitForEvent("download"), tab.click("a")]);
    assert.match(download.suggestedFilename(), /^n\d+\.png$/);
    for (const end = Date.now() + 20_000; Date.now() < end && origin.reports.length === 0; ) await sleep(100);
    assert.match(origin.reports.map(({ body }) => body).join(""), /^link referer_denied k1 7$/m);
  } finally {
    await browser.close();
    await edge.stop();
    await pages.close();
    await origin.close();
    await bucket.close();
  }
});
