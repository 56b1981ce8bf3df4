// Entry of the Worker: hands requests over to the wasm module.
import * as glue from "./edge_bg.js";
import { start } from "./instance.js";

export { PenaltyBox, Revocations, TokenLimit } from "./objects.js";

/** Nothing in the Worker panics on outside input; should it happen all the same, the next request gets a fresh instance. */
function failed(error, url) {
  console.error("edge: internal error:", error);
  if (error instanceof WebAssembly.RuntimeError) start();
  const [code, title] = ["internal", "Something went wrong here."];
  const { pathname } = new URL(url);
  const [openai, oauth] = [pathname.startsWith("/v1/"), pathname.startsWith("/oauth/")];
  const body = openai
    ? { error: { message: title, type: "server_error", param: null, code } }
    : oauth
      ? { error: "server_error", error_description: title, code }
      : { type: "about:blank", title, status: 500, code };
  return new Response(JSON.stringify(body), {
    status: 500,
    headers: {
      "content-type": openai || oauth ? "application/json" : "application/problem+json",
      "cache-control": "no-store",
      "x-request-id": crypto.randomUUID().replaceAll("-", ""),
    },
  });
}

/** Milliseconds between an isolate's reports of what it counted. */
const REPORT_EVERY = 10_000;
let nextReport = 0;

/** Sends a report when the time is up, whether or not requests come until then. */
function schedule(env, context, now) {
  if (now < nextReport) return;
  nextReport = now + REPORT_EVERY;
  const later = new Promise((done) => setTimeout(done, REPORT_EVERY));
  context.waitUntil(later.then(() => glue.report(env)).catch((error) => console.error("edge: no report:", error)));
}

/** What JavaScript asks back that opens a picture. */
const judge = { opened: glue.link_opened, refused: glue.link_refused, counterpart: glue.link_counterpart };

export default {
  fetch(request, env, context) {
    const [now, { url }] = [Date.now(), request];
    schedule(env, context, now);
    try {
      const answer = glue.fetch(request, url, request.method, env, { env, context, judge, request }, now);
      return answer instanceof Promise ? answer.catch((error) => failed(error, url)) : answer;
    } catch (error) {
      return failed(error, url);
    }
  },
};
