// Calls to the origin. The session is a cookie that scripts cannot read; an unsafe request carries the one header
// that foreign pages cannot send. Seeds use up to 64 bits, which JSON.parse would round: they stay text.

/** What went wrong, as the page needs it. `code` is the API's, or `network`. */
export class ApiError extends Error {
  constructor({ status = 0, code = "network", title = "", detail = "", policy = "", retryAfter = 0, requestId = "" }) {
    super(detail || title || code);
    Object.assign(this, { status, code, title, detail, policy, retryAfter, requestId });
  }
}

let skew = 0;
/** The server's time in seconds: this machine's clock may be wrong, and links die by the server's. */
export const now = () => Date.now() / 1000 + skew;

const keepSeed = (name, value, context) => (name === "seed" && context?.source ? context.source : value);
const rawSeed = (name, value) =>
  name === "seed" && typeof value === "string" ? (JSON.rawJSON ? JSON.rawJSON(value) : Number(value)) : value;

async function body(answer) {
  const type = answer.headers.get("content-type") ?? "";
  if (!type.includes("json")) return null;
  try {
    return JSON.parse(await answer.text(), keepSeed);
  } catch {
    return null;
  }
}

/** `Retry-After` in seconds, given as seconds or a date. */
function retryAfter(headers) {
  const text = headers.get("retry-after");
  if (!text) return 0;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(1, Math.ceil(seconds)), 86_400) : 0;
}

/** The policy's name in `RateLimit: "name";r=0;t=5`, the first one that has nothing left. */
function policyOf(headers) {
  const items = (headers.get("ratelimit") ?? "").split(",").map((item) => item.trim());
  const empty = items.find((item) => /;\s*r=0(;|$)/.test(item)) ?? (items.length === 1 ? items[0] : "");
  return /^"([^"]{1,64})"/.exec(empty)?.[1] ?? "";
}

/** One call; its answer's JSON (null without one). Throws [`ApiError`]. */
export async function call(method, path, { json, headers = {}, signal } = {}) {
  const unsafe = method !== "GET";
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      headers: {
        accept: "application/json",
        ...(unsafe && { "signet-studio": "1" }),
        ...(json !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      body: json === undefined ? undefined : JSON.stringify(json, rawSeed),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ code: navigator.onLine === false ? "offline" : "network" });
  }
  const date = Date.parse(answer.headers.get("date") ?? "");
  // A `Date` header has whole seconds: smaller differences mean nothing.
  if (Number.isFinite(date)) skew = Math.abs(date - Date.now()) > 2000 ? (date - Date.now()) / 1000 : 0;
  const content = await body(answer);
  if (answer.ok) return content;
  throw new ApiError({
    status: answer.status,
    code: content?.code ?? `http_${answer.status}`,
    title: content?.title ?? "",
    detail: content?.detail ?? "",
    policy: content?.policy ?? policyOf(answer.headers),
    retryAfter: retryAfter(answer.headers),
    requestId: content?.request_id ?? answer.headers.get("x-request-id") ?? "",
  });
}

const one = (id) => `/api/images/${encodeURIComponent(id)}`;
export const usage = () => call("GET", "/api/usage");
export const list = (cursor) =>
  call("GET", `/api/images?${new URLSearchParams({ limit: "24", ...(cursor && { cursor }) })}`);
export const generate = (spec, idempotencyKey, signal) =>
  call("POST", "/api/generate", {
    json: spec,
    signal,
    headers: { prefer: "respond-async", "idempotency-key": idempotencyKey },
  });
export const sign = (id, options = {}) => call("POST", `${one(id)}/link`, { json: options });
export const keep = (id, kept) => call(kept ? "POST" : "DELETE", `${one(id)}/keep`);
export const remove = (id) => call("DELETE", one(id));
export const signOut = () => call("POST", "/auth/logout");
