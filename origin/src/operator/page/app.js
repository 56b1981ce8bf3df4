// The page: signs in, looks every few seconds, draws what it saw.
import { $, el, show } from "./dom.js";
import * as api from "./api.js";
import * as lists from "./lists.js";
import { decide, onChange } from "./actions.js";
import { draw, legend } from "./chart.js";
import { bytes, clock, count, millis, rate } from "./format.js";

const EVERY = 3000;
let timer, paused = false, looking = false;

const sum = (values) => values.reduce((all, value) => all + value, 0);

/** Without the points before anything was known, but never fewer than `least`: a young service fills its charts too. */
function young(series, least) {
  const length = series[0].values.length;
  const first = Math.min(...series.map(({ values }) => values.findIndex((value) => value)).map((at) => (at < 0 ? length : at)));
  const from = Math.max(0, Math.min(first - 1, length - least));
  return series.map((one) => ({ ...one, values: one.values.slice(from) }));
}

/** Names under a chart that ends now: its begin, two thirds, one third, now. `seconds` a point. */
function ticks(length, seconds) {
  const name = (s) => (s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`);
  return [0, 1 / 3, 2 / 3].map((part) => [part * (length - 1), `${name((1 - part) * (length - 1) * seconds)}${part ? "" : " ago"}`, part ? "middle" : "start"])
    .concat([[length - 1, "now", "end"]]);
}

/** A chart over time that ends now. */
function timed(box, series, least, seconds, now, rest) {
  const shown = young(series, least);
  const { length } = shown[0].values;
  draw(box, { series: shown, time: (n) => clock(now - (length - 1 - n) * seconds), ticks: ticks(length, seconds), ...rest });
}

function tiles(data) {
  const { slots, slot_seconds: width, latency_ms: latency, day } = data.seen;
  // The last whole minute; the newest slot is still being filled.
  const per = (name) => sum(slots[name].slice(-13, -1)) / (12 * width);
  const answers = ["ok", "refused", "limited", "failed"].reduce((all, name) => all + per(name), 0);
  const share = (name) => (answers ? `${Math.round((100 * per(name)) / answers)} %` : "–");
  const hour = day.stored.slice(-13).filter((one) => one !== null);
  const grown = hour.length ? data.stored_bytes - hour[0] : 0;
  const [p50, p95, p99] = latency.all ?? [];
  const [, wait] = latency.queue ?? [];
  const facts = [
    ["Answers", `${rate(answers)}/s`, `${share("limited")} limited, ${share("refused")} refused`, ""],
    ["Failures", `${rate(per("failed"))}/s`, per("failed") > 0 ? `${share("failed")} of all answers` : "none in the last minute", per("failed") > 0 ? "bad" : ""],
    ["Pictures", `${rate(per("made") * 60)}/min`, `${count(sum(slots.made))} in 15 minutes`, ""],
    ["Links opened", `${rate(per("opened"))}/s`, `${rate(per("denied"))}/s refused`, ""],
    ["Queue", count(data.queued), `${count(data.under_way)} under way`, ""],
    ["Time to a picture", p50 === undefined ? "–" : millis(p50), p50 === undefined ? "none in 15 minutes" : `p95 ${millis(p95)}, p99 ${millis(p99)}`, ""],
    ["Wait in the queue", wait === undefined ? "–" : millis(wait), "p95 of 15 minutes", ""],
    ["Stored", bytes(data.stored_bytes), `${grown >= 0 ? "+" : "−"}${bytes(Math.abs(grown))} in an hour`, ""],
  ];
  $("tiles").replaceChildren(
    ...facts.map(([name, value, note, kind]) => el("div", { class: `tile ${kind}` }, el("dt", {}, name), el("dd", {}, el("b", {}, value), el("span", {}, note)))),
  );
}

function charts(data) {
  const { now, slots, slot_seconds: width, day, latency_ms: latency } = data.seen;
  const answers = [["answered", "ok"], ["refused", "refused"], ["limited", "limited"], ["failed", "failed"]].map(([name, kind]) => ({
    // The newest slot is still being filled.
    name, kind, values: slots[kind].slice(0, -1).map((count) => count / width),
  }));
  timed($("chart-answers"), answers, 36, width, now, { stacked: true, format: rate, label: "Answers a second", empty: "No request came in the last 15 minutes." });
  legend($("legend-answers"), answers);
  const took = ["p50", "p95", "p99"].map((name, at) => ({ name, kind: name, values: latency.by_minute.map((one) => (one ? one[at] : null)) }));
  timed($("chart-latency"), took, 3, 60, now, { format: millis, label: "Time to a picture", empty: "No picture was made in the last 15 minutes.", least: 100 });
  legend($("legend-latency"), took);
  const queue = [{ name: "waiting", kind: "limited", values: day.queued }];
  timed($("chart-queue"), queue, 12, day.seconds, now, { format: count, label: "Jobs waiting", empty: "No job had to wait in the last 24 hours.", least: 3 });
  const stored = [{ name: "stored", kind: "ok", values: day.stored }];
  timed($("chart-stored"), stored, 12, day.seconds, now, { format: bytes, label: "Stored bytes", empty: "Nothing is stored.", least: 1000 });
}

function render(data) {
  $("who").textContent = data.operator;
  $("foot").textContent = `Signet ${data.version}. Figures of this process since it started; Prometheus has the long view.`;
  show($("banner"), data.seen === null);
  if (data.seen === null) $("banner").textContent = "telemetry.collect is off: nothing is watched.";
  else {
    const { seen } = data;
    tiles(data);
    charts(data);
    lists.limited($("limited"), seen.limited, seen.now);
    lists.reasons($("reasons"), seen.reasons);
    lists.prompts($("prompts"), seen.prompts, seen.now);
    lists.sessions($("sessions"), seen.sessions);
    lists.hours($("hours"), seen.hours, seen.now);
    lists.refusals($("refusals"), seen.refusals, seen.now);
  }
  const now = data.seen?.now ?? Date.now() / 1000;
  lists.jobs($("jobs"), data.jobs);
  $("jobs-note").textContent = data.under_way > data.jobs.length ? `${data.jobs.length} of ${data.under_way}` : "";
  lists.decided($("decided"), data.decided);
  lists.audit($("audit"), data.audit, now);
}

function pulse(kind, text) {
  $("pulse").className = `pulse ${kind}`;
  $("pulse").textContent = text;
}

function signedOut() {
  clearTimeout(timer);
  show($("main"), false);
  show($("account"), false);
  show($("welcome"));
  pulse("", "");
  $("client-id").focus();
}

async function look() {
  clearTimeout(timer);
  if (looking) return;
  looking = true;
  try {
    const data = await api.overview();
    show($("welcome"), false);
    show($("account"));
    show($("main"));
    render(data);
    if (!paused) pulse("live", "live");
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      if (error.status === 403) $("sign-wrong").textContent = error.message;
      return signedOut();
    }
    pulse("away", error.message);
  } finally {
    looking = false;
  }
  if (!paused && !document.hidden) timer = setTimeout(look, EVERY);
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.submitter;
  button?.setAttribute("aria-busy", "true");
  $("sign-wrong").textContent = "";
  try {
    await api.signIn($("client-id").value.trim(), $("client-secret").value);
    $("client-secret").value = "";
    await look();
    $("main").focus();
  } catch (error) {
    const said = { 401: "Unknown client or wrong secret.", 403: "This client may not operate: it lacks the scope admin.", 429: `Too many tries; wait ${error.retryAfter} s.` };
    $("sign-wrong").textContent = said[error.status] ?? error.message;
    $("client-secret").select();
  } finally {
    button?.removeAttribute("aria-busy");
  }
});
$("sign-out").addEventListener("click", async () => {
  await api.signOut().catch(() => {});
  signedOut();
});
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  if (paused) {
    clearTimeout(timer);
    pulse("", "paused");
  } else look();
});
$("act").addEventListener("submit", async (event) => {
  event.preventDefault();
  const act = event.submitter?.value ?? "suspend";
  if (await decide($("act-user").value, act, event.submitter)) $("act-user").value = "";
});
document.addEventListener("visibilitychange", () => !document.hidden && !paused && $("welcome").hidden && look());
onChange(look, signedOut);
look();
