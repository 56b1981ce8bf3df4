// What an operator can do. Everything that hurts somebody is asked about once more, and says what it does.
import { $, announce, el, toast } from "./dom.js";
import * as api from "./api.js";

const WORDS = {
  suspend: {
    button: "Suspend",
    text: "Nothing of theirs opens any more and nothing is made for them, until you resume them. Takes effect at once here, at the edge within 30 seconds.",
    done: "is suspended",
  },
  resume: { button: "Resume", done: "may go on" },
  "revoke-links": {
    button: "Revoke links",
    text: "Every link to their pictures that was signed so far is refused for ever. New links open.",
    done: "has no valid links left",
  },
};

let changed = () => {};
let left = () => {};
/** What is called after an act, and when the session has ended. */
export function onChange(after, signedOut) {
  changed = after;
  left = signedOut;
}

/** Whether the operator means it. */
function ask(title, text, button) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = button;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

async function run(button, work, said) {
  button?.setAttribute("aria-busy", "true");
  try {
    await work();
    toast(said);
    announce(said);
    changed();
    return true;
  } catch (error) {
    if (error.status === 401) left();
    toast(error.message);
    announce(error.message);
    return false;
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

/** Suspends, resumes or revokes, after asking where it hurts. */
export async function decide(user, act, button) {
  const words = WORDS[act];
  if (words.text && !(await ask(`${words.button}: ${user}`, words.text, words.button))) return false;
  return run(button, () => api.decide(user, act), `${user} ${words.done}`);
}

const small = (list, user, act) =>
  el("button", {
    class: `small ${act === "resume" ? "" : "danger"}`,
    type: "button",
    "data-key": `${list} ${user} ${act}`,
    "aria-label": `${WORDS[act].button}: ${user}`,
    onclick: (event) => decide(user, act, event.currentTarget),
  }, act === "revoke-links" ? "Revoke" : WORDS[act].button);

/** The buttons beside a user. */
export const actions = (list, user, suspended = false) =>
  el("span", { class: "acts" }, small(list, user, suspended ? "resume" : "suspend"), small(list, user, "revoke-links"));

export const cancelButton = (job) =>
  el("button", {
    class: "small danger",
    type: "button",
    "data-key": `cancel ${job.id}`,
    "aria-label": `Cancel job ${job.id}`,
    onclick: (event) => run(event.currentTarget, () => api.cancel(job.id), "The job stops at its next step"),
  }, "Cancel");
