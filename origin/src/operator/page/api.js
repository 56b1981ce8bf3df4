// Calls to the operator listener. The session is a cookie that scripts cannot read; an unsafe call carries the one
// header that foreign pages cannot send.

/** What went wrong, as the page needs it. */
export class CallError extends Error {
  constructor(status, problem, retryAfter) {
    super(problem?.detail || problem?.title || (status ? `The service answered ${status}.` : "The service does not answer."));
    Object.assign(this, { status, code: problem?.code ?? "network", retryAfter });
  }
}

async function call(method, path, json) {
  const headers = { accept: "application/json" };
  if (method !== "GET") headers["signet-studio"] = "1";
  if (json) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: json && JSON.stringify(json), cache: "no-store" });
  } catch {
    throw new CallError(0);
  }
  const type = answer.headers.get("content-type") ?? "";
  const content = type.includes("json") ? await answer.json().catch(() => null) : null;
  if (!answer.ok) throw new CallError(answer.status, content, Number(answer.headers.get("retry-after")) || 0);
  return content;
}

const at = (...parts) => `/admin/${parts.map(encodeURIComponent).join("/")}`;
export const overview = () => call("GET", at("overview"));
export const signIn = (client_id, client_secret) => call("POST", at("session"), { client_id, client_secret });
export const signOut = () => call("DELETE", at("session"));
export const decide = (user, act) => call("POST", at("users", user, act));
export const cancel = (job) => call("POST", at("jobs", job, "cancel"));
