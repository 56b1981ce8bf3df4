// Entry of the Worker: hands requests over to the wasm module.
import * as glue from "./edge_bg.js";
import { start } from "./instance.js";

export { PenaltyBox, Revocations, TokenLimit } from "./objects.js";

/** Nothing in the Worker panics on outside input; should it happen all the same, the next request gets a fresh instance. */
function failed(error) {
  console.error("edge: internal error:", error);
  if (error instanceof WebAssembly.RuntimeError) start();
  const body = JSON.stringify({ type: "about:blank", title: "Something went wrong here.", status: 500, code: "internal" });
  return new Response(body, {
    status: 500,
    headers: { "content-type": "application/problem+json", "cache-control": "no-store" },
  });
}

/** Milliseconds between an isolate's reports of what it counted. */
const REPORT_EVERY = 10_000;
let nextReport = 0;

/** Sends a report when the time is up, whether or not requests come until then. */
function schedule(env, context) {
  const now = Date.now();
  if (now < nextReport) return;
  nextReport = now + REPORT_EVERY;
  const later = new Promise((done) => setTimeout(done, REPORT_EVERY));
  context.waitUntil(later.then(() => glue.report(env)).catch((error) => console.error("edge: no report:", error)));
}

export default {
  fetch(request, env, context) {
    schedule(env, context);
    try {
      const answer = glue.fetch(request, env, context);
      return answer instanceof Promise ? answer.catch(failed) : answer;
    } catch (error) {
      return failed(error);
    }
  },
};
