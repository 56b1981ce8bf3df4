// Numbers as people read them.

const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const count = (n) => (n < 10_000 ? String(n) : short.format(n));

/** A rate; small ones keep a digit. */
export const rate = (n) => (n === 0 ? "0" : n < 0.1 ? "< 0.1" : n < 10 ? n.toFixed(1) : count(Math.round(n)));

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; n >= 1000 && at < units.length - 1; at++) n /= 1000;
  return `${at === 0 || n >= 10 ? Math.round(n) : n.toFixed(1)} ${units[at]}`;
}

export function millis(n) {
  if (n < 1000) return `${Math.round(n)} ms`;
  return n < 100_000 ? `${(n / 1000).toFixed(1)} s` : `${Math.round(n / 60_000)} min`;
}

/** `now` and `then` in seconds. */
export function ago(now, then) {
  const s = Math.max(0, now - then);
  if (s < 5) return "now";
  if (s < 60) return `${Math.floor(s)} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  return s < 86_400 ? `${Math.floor(s / 3600)} h ago` : `${Math.floor(s / 86_400)} d ago`;
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

/** `hmac-sha256:kid:mac` by its key id and the first digits. */
export const hash = (text) => {
  const [, kid = "", mac = ""] = text.split(":");
  return `${kid}:${mac.slice(0, 12)}…`;
};
