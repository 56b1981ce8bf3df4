// What refusals mean to a person: one sentence on what happened, one on what to do.

const POLICIES = {
  address: "Generations a minute from your address",
  token: "Generations a minute in this session",
  "user-hour": "Generations in an hour",
  "penalty-box": "Too many tries in a row",
  storage: "Storage",
  jobs: "Jobs at once",
  queue: "Waiting line",
  reads: "Look-ups a minute",
  links: "Link openings a minute",
  upload: "Uploads a minute",
  "token-endpoint": "Sign-ins a minute",
};

/** A limit's name for people. */
export const policyName = (policy) =>
  POLICIES[policy] ?? (policy ? policy.replace(/[-_]+/g, " ").replace(/^./, (c) => c.toUpperCase()) : "");

const BY_CODE = {
  network: ["The studio cannot reach the server.", "Check your connection, then try again."],
  offline: ["You are offline.", "The studio goes on when the connection is back."],
  queue_full: ["The line is full right now.", "Nothing was charged."],
  insufficient_scope: ["This account may not do that.", "Ask whoever runs this service."],
  user_suspended: ["This account is suspended.", "Ask whoever runs this service."],
  link_revoked: ["Links to this picture were revoked.", ""],
  not_found: ["That picture is not there any more.", ""],
  body_too_large: ["That is more than the server takes.", "Shorten the prompt."],
  store_unavailable: ["Pictures cannot be stored right now.", "Nothing was charged; try again in a moment."],
  origin_unreachable: ["The image service does not answer right now.", "Try again in a moment."],
  misconfigured: ["The service is not set up correctly.", "Whoever runs it has to look at its log."],
  idempotency_mismatch: ["The server took this for another request.", "Press Generate again."],
};

/** A title and a sentence for an error. */
export function explain(error) {
  if (error.code === "rate_limited" || error.status === 429) {
    const name = policyName(error.policy);
    if (error.policy === "storage") return ["Your storage is full.", "Delete pictures you no longer need."];
    if (error.policy === "queue") return ["The line is full right now.", "Nothing was charged."];
    return ["That was a little too fast.", name ? `Limit reached: ${name.toLowerCase()}. Nothing was charged.` : "Nothing was charged."];
  }
  const known = BY_CODE[error.code];
  if (known) return known;
  if (error.status === 400 || error.status === 422) return ["The server did not accept this.", error.detail || error.title];
  if (error.status >= 500) return ["Something broke on the server.", error.detail || "Nothing was charged; try again in a moment."];
  return [error.title || "That did not work.", error.detail || ""];
}
