// How long a signed link still opens, told each second without touching anything else.
import { now } from "./api.js";

/** Seconds since the epoch of an `expires_at`, given as a date or a number. */
export const seconds = (expiresAt) => (typeof expiresAt === "number" ? expiresAt : Date.parse(expiresAt) / 1000);

/** `4:05`, `2 h 10 min`, `6 d 4 h`. */
export function short(left) {
  const whole = Math.max(0, Math.floor(left));
  if (whole < 3600) return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/** For screen readers, who need no seconds. */
export function spoken(left) {
  if (left <= 0) return "Link expired";
  if (left < 60) return "Link expires in less than a minute";
  const minutes = Math.floor(left / 60);
  if (minutes < 60) return `Link expires in ${minutes} minute${minutes === 1 ? "" : "s"}`;
  return `Link expires in ${short(left)}`;
}

/** `over`, `soon` (under five minutes) or `fine`. */
export const state = (left) => (left <= 0 ? "over" : left < 300 ? "soon" : "fine");

const watchers = new Set();
/** Calls `tell(secondsLeft)` now and each second until the returned function is called. */
export function watch(expiry, tell) {
  const entry = () => tell(expiry() - now());
  watchers.add(entry);
  entry();
  return () => watchers.delete(entry);
}
/** Tells all at once: after a new link, or when the page is looked at again. */
export const refresh = () => watchers.forEach((entry) => entry());
setInterval(refresh, 1000);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
