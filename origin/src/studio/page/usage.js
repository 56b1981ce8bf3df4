// The meter in the bar and the list of limits behind it.
import * as api from "./api.js";
import { $, el } from "./dom.js";
import { policyName } from "./messages.js";
import { short } from "./life.js";

const bytes = (policy) => policy === "storage";

/** `12 KB`, `3.4 MB`. */
export function size(count) {
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${Math.round(count / 1000)} KB`;
  return `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
}

const share = (limit) => (limit.limit > 0 ? Math.min(1, limit.used / limit.limit) : 0);
const amount = (limit, value) => (bytes(limit.policy) ? size(value) : String(Math.round(value * 100) / 100));

function row(limit) {
  const part = share(limit);
  const fill = el("span", { class: "meter-fill" });
  fill.style.setProperty("--part", String(part));
  const reset = limit.reset_seconds > 0 && limit.used > 0 ? ` · resets in ${short(limit.reset_seconds)}` : "";
  return el("li", { class: part >= 1 ? "full" : "" },
    el("div", { class: "row" },
      el("span", {}, policyName(limit.policy)),
      el("span", { class: "fine" }, `${amount(limit, limit.used)} of ${amount(limit, limit.limit)}${reset}`)),
    el("span", { class: "meter-bar", "aria-hidden": "true" }, fill));
}

/** Shows these limits: the hourly one in the bar, or the fullest when it is fuller than half. */
export function render(limits) {
  $("limits").replaceChildren(...limits.map(row));
  const fullest = limits.reduce((a, b) => (a && share(a) >= share(b) ? a : b), undefined);
  const shown = fullest && share(fullest) > 0.5 ? fullest : limits.find((limit) => limit.policy === "user-hour") ?? fullest;
  if (!shown) {
    $("limits").replaceChildren(el("li", {}, "No limits apply to you here."));
    $("usage-text").textContent = "No limits";
    $("usage-open").setAttribute("aria-label", "No limits");
    return;
  }
  const text = bytes(shown.policy) ? `${size(shown.remaining)} left` : `${amount(shown, shown.remaining)} left${shown.policy === "user-hour" ? " this hour" : ""}`;
  $("usage-text").textContent = text;
  $("usage-fill").style.setProperty("--part", String(share(shown)));
  $("usage-open").classList.toggle("full", share(shown) >= 1);
  $("usage-open").setAttribute("aria-label", `Your limits. ${policyName(shown.policy)}: ${text}`);
}

/** Asks and shows. A failure here is told elsewhere: the meter just keeps its last state. */
export async function refresh() {
  try {
    render((await api.usage())?.limits ?? []);
  } catch (error) {
    if (error.status === 401) throw error;
  }
}
