// The one place where errors are shown, with a countdown when the server said when to come back.
import { $, el, icon, show } from "./dom.js";
import { explain } from "./messages.js";

let timer;
let until = 0;
let onFree = () => {};

/** Whether the server asked to wait, in whole seconds left. */
export const waitLeft = () => Math.max(0, Math.ceil((until - performance.now()) / 1000));

/** Calls `free` each second while a wait runs, and once when it has ended. */
export const whileWaiting = (free) => (onFree = free);

export function clearAlert() {
  if (waitLeft() > 0) return;
  clearInterval(timer);
  show($("alert"), false);
  $("alert").replaceChildren();
}

/** Shows an error; `retry` adds a button. */
export function showError(error, retry) {
  clearInterval(timer);
  const [title, advice] = explain(error);
  const wait = el("span", { class: "alert-wait", "aria-hidden": "true" });
  const text = el("div", { class: "alert-text" }, el("strong", {}, title), " ", advice, " ", wait);
  if (error.requestId && error.status >= 500) text.append(el("span", { class: "fine" }, `Request ${error.requestId}`));
  const parts = [icon("warn"), text];
  if (retry && !error.retryAfter) parts.push(el("button", { type: "button", class: "quiet", onclick: () => (clearAlert(), retry()) }, "Try again"));
  parts.push(el("button", { type: "button", class: "icon", "aria-label": "Dismiss", onclick: () => show($("alert"), false) }, icon("close")));
  $("alert").replaceChildren(...parts);
  $("alert").dataset.code = error.code;
  show($("alert"));
  if (!error.retryAfter) return;
  until = performance.now() + error.retryAfter * 1000;
  text.append(el("span", { class: "sr" }, `You can try again in ${error.retryAfter} seconds.`));
  const tick = () => {
    const left = waitLeft();
    wait.textContent = left > 0 ? `Try again in ${left < 120 ? `${left} s` : `${Math.ceil(left / 60)} min`}.` : "";
    if (left === 0) {
      clearInterval(timer);
      clearAlert();
    }
    onFree();
  };
  timer = setInterval(tick, 250);
  tick();
}
