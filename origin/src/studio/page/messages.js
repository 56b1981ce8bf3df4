// What refusals mean to a person: one sentence on what happened, one on what to do.

const POLICIES = {
  address: "Per minute, this address",
  token: "Per minute, this session",
  "user-hour": "Per hour",
  "penalty-box": "Too many tries in a row",
  storage: "Storage",
  jobs: "Jobs at once",
  queue: "Waiting line",
  reads: "Look-ups a minute",
  writes: "Changes a minute",
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
  busy: ["Too many jobs are waiting.", "Nothing was charged."],
  cancelled: ["The server cancelled the job.", "Nothing was charged."],
  generation_failed: ["The picture could not be made.", "Nothing was charged; try again, or with other settings."],
  storage_quota: ["Your storage is full.", "Delete pictures you no longer need."],
  insufficient_scope: ["This account may not do that.", "Ask whoever runs this service."],
  suspended: ["This account is suspended.", "Ask whoever runs this service."],
  cross_site: ["The server refused a request that it did not take for the studio's own.", "Open the studio under its own address and reload."],
  unknown_host: ["The server does not answer under this name.", "Open the studio under its own address."],
  link_revoked: ["Links to this picture were revoked.", ""],
  not_found: ["That picture is not there any more.", "It may have been deleted in another window."],
  body_too_large: ["That is more than the server takes.", "Shorten the prompt."],
  store_unavailable: ["Pictures cannot be stored right now.", "Nothing was charged; try again in a moment."],
  store_full: ["The service has no room left for pictures.", "Whoever runs it has to make room."],
  state_full: ["The service has no room left.", "Whoever runs it has to make room."],
  state_unavailable: ["The service cannot record the request right now.", "Try again in a moment."],
  origin_unreachable: ["The image service does not answer right now.", "Try again in a moment."],
  misconfigured: ["The service is not set up correctly.", "Whoever runs it has to look at its log."],
  idempotency_mismatch: ["The server took this for another request.", "Press Generate again."],
};

/** A title and a sentence for an error. */
export function explain(error) {
  const known = BY_CODE[error.code];
  if (known) return known;
  if (error.status === 429) {
    if (error.policy === "jobs") return ["You have as many jobs running as one account may.", "Nothing was charged."];
    if (error.policy === "penalty-box") return ["Too many tries in a row.", "This address is blocked for a while."];
    const name = policyName(error.policy);
    return ["That was a little too fast.", name ? `Limit reached: ${name.toLowerCase()}. Nothing was charged.` : "Nothing was charged."];
  }
  if (error.status === 400 || error.status === 422) return ["The server did not accept this.", error.detail || error.title];
  if (error.status >= 500) return ["Something broke on the server.", error.detail || "Nothing was charged; try again in a moment."];
  return [error.title || "That did not work.", error.detail || ""];
}
