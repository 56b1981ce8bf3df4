// The studio: who is signed in, one generation at a time, and the wiring of the parts.
import * as actions from "./actions.js";
import { clearAlert, showError, waitLeft, whileWaiting } from "./alert.js";
import * as api from "./api.js";
import { $, announce, el, show } from "./dom.js";
import * as form from "./form.js";
import * as gallery from "./gallery.js";
import * as job from "./job.js";
import { draw } from "./preview.js";
import * as usage from "./usage.js";
import * as viewer from "./viewer.js";

const IDEAS = ["a purple heart", "a red apple", "an owl", "a slice of pizza", "a blue fish", "a robot"];
let running = null;

function signedOut(note = "") {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  gallery.clear();
  for (const id of ["studio", "account", "booting"]) show($(id), false);
  $("welcome-note").textContent = note;
  show($("welcome"));
  if (note) $("welcome-title").focus();
}

/** The one handler of failures: a session that ended leads to the sign-in, all else to the alert. */
function fail(error, retry) {
  if (error.name === "AbortError" || error.code === "cancelled") return;
  if (!(error instanceof api.ApiError)) throw error;
  if (error.status === 401) {
    running?.abort();
    signedOut("Your session has ended. Sign in to go on; your pictures are safe.");
  } else {
    showError(error, retry);
  }
}

function buttons() {
  const left = waitLeft();
  $("generate").setAttribute("aria-disabled", String(Boolean(running) || left > 0));
  $("generate-text").textContent = running ? "Generating…" : left > 0 ? `Wait ${left} s` : "Generate";
}

function tell(prompt, news) {
  const bar = $("progress");
  if (news.preview) return void draw(news.preview);
  if (news.step !== undefined && news.steps) {
    [bar.max, bar.value] = [news.steps, news.step];
    $("running-detail").textContent = `Step ${news.step} of ${news.steps}`;
  } else {
    bar.removeAttribute("value");
    $("running-detail").textContent = news.queued ? `Place ${news.queued} in the line` : "Working on it…";
  }
}

async function submit(event) {
  event?.preventDefault();
  if (running || waitLeft() > 0) return;
  const spec = form.read();
  if (!spec) return;
  clearAlert();
  const controller = (running = new AbortController());
  buttons();
  $("running-title").textContent = spec.prompt;
  tell(spec.prompt, {});
  show($("preview"), false);
  show($("running"));
  show($("empty"), false);
  $("running").scrollIntoView({ block: "nearest" });
  announce(`Generating ${spec.prompt}`);
  try {
    const images = await job.run(spec, (news) => tell(spec.prompt, news), controller.signal);
    gallery.add(images, spec.prompt);
    announce(images.length === 1 ? "Your picture is ready." : `Your ${images.length} pictures are ready.`);
    const newest = document.querySelector(".card");
    if (matchMedia("(max-width: 899px)").matches) newest?.scrollIntoView({ block: "center" });
  } catch (error) {
    announce(error.code === "cancelled" || error.name === "AbortError" ? "Cancelled." : "");
    fail(error, submit);
  } finally {
    running = null;
    show($("running"), false);
    show($("empty"), $("gallery").childElementCount === 0 && !$("studio").hidden);
    buttons();
    usage.refresh().catch(fail);
  }
}

async function loadMore() {
  try {
    await gallery.more();
  } catch (error) {
    fail(error, loadMore);
  }
}

/** Shows the studio when there is a session, else the sign-in. */
async function start() {
  try {
    const [about] = await Promise.all([api.call("GET", new URL("about.json", import.meta.url).pathname), gallery.more()]);
    form.setUp(about, buttons);
  } catch (error) {
    show($("booting"), false);
    if (error.status === 401) return signedOut();
    // Nothing works without these two: the alert stands in the studio, which is shown without its form.
    show($("studio"));
    show($("composer"), false);
    return fail(error, () => location.reload());
  }
  show($("booting"), false);
  for (const id of ["studio", "account"]) show($(id));
  buttons();
  $("prompt").focus({ preventScroll: true });
  usage.refresh().catch(fail);
}

actions.onFailure(fail);
whileWaiting(buttons);
gallery.onOpen(viewer.open);
viewer.setUp();
$("composer").addEventListener("submit", submit);
$("cancel").addEventListener("click", () => running?.abort());
$("more").addEventListener("click", loadMore);
$("usage").addEventListener("toggle", (event) => event.newState === "open" && usage.refresh().catch(fail));
$("sign-out").addEventListener("click", () =>
  actions.busy($("sign-out"), async () => {
    running?.abort();
    await api.signOut();
    signedOut("You are signed out.");
  }));
$("ideas").replaceChildren(...IDEAS.map((idea) =>
  el("button", { type: "button", class: "chip plain", onclick: () => { $("prompt").value = idea; submit(); } }, idea)));
start();
