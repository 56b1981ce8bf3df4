// One generation from the button to its pictures: at once, or as a job followed through its events.
import * as api from "./api.js";
import { toast } from "./dom.js";

/** A job that ended without pictures; `code` is the service's or `cancelled`. */
const ended = (code, content = {}) => new api.ApiError({ status: 500, ...content, code });

/** A URL of a job's answer, only when it stays on this origin. */
const own = (url) => {
  const parsed = new URL(url, location.href);
  return parsed.origin === location.origin ? parsed.pathname + parsed.search : null;
};

/** Reads a job's events. Resolves with its images; `tell` hears `{queued}`, `{step, steps}` and `{preview}`. */
function listen(job, tell, signal) {
  return new Promise((done, failed) => {
    const source = new EventSource(own(job.events_url));
    const on = (name, handle) =>
      source.addEventListener(name, (event) => {
        let content = {};
        try {
          content = JSON.parse(event.data);
        } catch {
          return; // an event without JSON tells nothing
        }
        handle(content);
      });
    const end = (settle, value) => {
      source.close();
      settle(value);
    };
    on("queued", (content) => tell({ queued: content.queue_position ?? 0 }));
    on("step", (content) => tell({ step: content.step, steps: content.steps }));
    on("preview", (content) => tell({ preview: content }));
    // The events' JSON would round seeds; the job's own answer is read with care.
    on("done", () => end(done, null));
    on("failed", (content) => end(failed, ended(content.code ?? "failed", content)));
    on("cancelled", () => end(failed, ended("cancelled")));
    source.addEventListener("error", () => source.readyState === EventSource.CLOSED && end(done, null));
    signal.addEventListener("abort", () => end(failed, ended("cancelled")), { once: true });
  });
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks until the job has ended: after its events, or instead of them. */
async function settle(job, tell, signal) {
  for (;;) {
    const answer = await api.call("GET", own(job.status_url), { signal });
    const { status, step, steps, queue_position: queued } = answer.job;
    if (status === "done") return answer;
    if (status === "cancelled") throw ended("cancelled");
    if (status === "failed") throw ended(answer.job.error?.code ?? "failed", answer.job.error);
    tell(status === "queued" ? { queued: queued ?? 0 } : { step, steps });
    await sleep(1000);
  }
}

/** Says which prompt the model did not read whole. */
function tellTruncated(job) {
  const cut = job?.truncated?.[0];
  if (cut) toast(`The model read the first ${cut.used_characters} characters of the ${cut.field.replace("_", " ")}.`);
}

/** Runs a request. `signal` cancels it, at the server too. Resolves with the answer's images. */
export async function run(spec, tell, signal) {
  const answer = await api.generate(spec, crypto.randomUUID(), signal);
  tellTruncated(answer?.job);
  if (answer?.images?.length) return answer.images;
  const job = answer?.job;
  if (!job?.status_url || !own(job.status_url)) throw ended("failed", { detail: "The answer held neither pictures nor a job." });
  signal.addEventListener("abort", () => job.cancel_url && own(job.cancel_url) && api.call("DELETE", own(job.cancel_url)).catch(() => {}), { once: true });
  if (job.events_url && own(job.events_url)) await listen(job, tell, signal);
  return (await settle(job, tell, signal)).images ?? [];
}
