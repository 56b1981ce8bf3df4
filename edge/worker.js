// Entry of the Worker: instantiates the wasm module once per isolate and hands requests over.
import wasm from "./edge_bg.wasm";
import * as glue from "./edge_bg.js";
import imports from "./imports.js"; // made by scripts/build-edge

function start() {
  const instance = new WebAssembly.Instance(wasm, imports);
  glue.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
}

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

start();

/** Keeps the newest snapshot of what is revoked. An older one, sent again, changes nothing. */
export class Revocations {
  constructor(state) {
    this.storage = state.storage;
  }

  async fetch(request) {
    const kept = await this.storage.get("snapshot");
    if (request.method === "GET") return new Response(kept ?? null, { status: kept ? 200 : 404 });
    const text = await request.text();
    if (!kept || glue.taken_ms(text) > glue.taken_ms(kept)) await this.storage.put("snapshot", text);
    return new Response(null, { status: 204 });
  }
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
