#!/usr/bin/env node
// Brings a Cloudflare account to where `wrangler deploy` and the edge need it, and back there when run again.
//
//     node deploy/cloudflare/setup.mjs before --dry-run      prints every call, sends none
//     node deploy/cloudflare/setup.mjs before                bucket, zone settings, WAF rule
//     node deploy/cloudflare/setup.mjs after                 secrets and host names, once the Worker is there
//
// Reads wrangler.toml's production section for names; from the environment CLOUDFLARE_API_TOKEN, CLOUDFLARE_ACCOUNT_ID,
// CLOUDFLARE_ZONE_ID, and for `after` LINK_KEYS_FILE and EDGE_KEYS_FILE. docs/cloudflare.md walks through it.
import fs from "node:fs";
import path from "node:path";

const WORKER_SECRETS = { LINK_KEYS: "LINK_KEYS_FILE", EDGE_KEYS: "EDGE_KEYS_FILE" };
const GENERATION_ROUTES = ["/api/generate", "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"];
const RULE = "signet_generations_per_address"; // how our rule is found again among others

const fail = (why) => {
  process.stderr.write(`error: ${why}\n`);
  process.exit(1);
};
const [phase, ...options] = process.argv.slice(2);
const dry = options.includes("--dry-run");
if (!["before", "after"].includes(phase) || options.some((option) => option !== "--dry-run")) fail("usage: setup.mjs before|after [--dry-run]");

/** Names from wrangler.toml; `name = "value"` is all of TOML that they need. */
function names() {
  const file = process.env.WRANGLER_TOML ?? path.resolve(import.meta.dirname, "../../wrangler.toml");
  const text = fs.readFileSync(file, "utf8");
  const production = text.slice(text.indexOf("[env.production]"));
  const read = (from, name) => new RegExp(`^${name} = "([^"]+)"`, "m").exec(from)?.[1] ?? fail(`${file} has no ${name}`);
  return { worker: `${read(text, "name")}-production`, bucket: read(production, "bucket_name"), images: read(production, "IMAGES_HOST"), api: read(production, "API_HOST") };
}

/** From the environment; in a dry run its name stands for it. */
const given = (name) => process.env[name] ?? (dry ? `{${name}}` : fail(`${name} is not set`));

const base = process.env.CLOUDFLARE_API_BASE ?? "https://api.cloudflare.com/client/v4";
if (!/^https:\/\/|^http:\/\/127\.0\.0\.1:/.test(base)) fail("CLOUDFLARE_API_BASE is neither HTTPS nor loopback: the token would travel in clear");

/** One call. `fine` are error statuses that are an answer too; `secret` keeps the body out of the output. */
async function call(method, route, body, { fine = [], secret = false } = {}) {
  process.stdout.write(`${method} ${base}${route}\n`);
  if (body) process.stdout.write(`${JSON.stringify(secret ? { ...body, text: "REDACTED" } : body, null, 2)}\n`);
  if (dry) return null;
  const answer = await fetch(`${base}${route}`, {
    method,
    headers: { authorization: `Bearer ${given("CLOUDFLARE_API_TOKEN")}`, ...(body && { "content-type": "application/json" }) },
    body: body && JSON.stringify(body),
    redirect: "error",
    signal: AbortSignal.timeout(30_000),
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok && !fine.includes(answer.status)) {
    const errors = (told.errors ?? []).map(({ code, message }) => `${code} ${message}`).join("; ");
    fail(`${method} ${route} was answered ${answer.status}: ${errors || "nothing"}`);
  }
  return answer.ok ? told.result : null;
}

/** More than 30 arrivals in 60 s from one address at a generation route: blocked for 600 s, as the penalty box does. */
function wafRule(api) {
  const routes = GENERATION_ROUTES.map((route) => `"${route}"`).join(" ");
  return {
    ref: RULE,
    description: "Signet: over 30 generations in 60 s from one address",
    expression: `(http.host eq "${api}" and http.request.method eq "POST" and http.request.uri.path in {${routes}})`,
    action: "block",
    action_parameters: {
      response: {
        status_code: 429,
        content_type: "application/json",
        content: JSON.stringify({ type: "about:blank", title: "Too many requests from this address.", status: 429, code: "rate_limited" }),
      },
    },
    ratelimit: { characteristics: ["ip.src", "cf.colo.id"], period: 60, requests_per_period: 30, mitigation_timeout: 600 },
    enabled: true,
  };
}

/** What the Worker needs to be there before it. */
async function before({ bucket, api }, account, zone) {
  // 409: it is there already.
  await call("POST", `/accounts/${account}/r2/buckets`, { name: bucket }, { fine: [409] });
  // The bucket's public address would open every picture without a signature.
  await call("PUT", `/accounts/${account}/r2/buckets/${bucket}/domains/managed`, { enabled: false });
  // A link has one spelling, and the edge must see the one that was sent. This setting is the whole zone's.
  await call("PUT", `/zones/${zone}/url_normalization`, { type: "cloudflare", scope: "none" });
  for (const [setting, value] of Object.entries({
    ssl: "strict",
    always_use_https: "on",
    min_tls_version: "1.2",
    security_header: { strict_transport_security: { enabled: true, max_age: 31536000, include_subdomains: false, preload: false, nosniff: true } },
  })) {
    await call("PATCH", `/zones/${zone}/settings/${setting}`, { value });
  }
  // Writing a phase replaces all its rules: those of others are read first and kept, in their order.
  const phase = `/zones/${zone}/rulesets/phases/http_ratelimit/entrypoint`;
  const rules = (await call("GET", phase, undefined, { fine: [404] }))?.rules ?? [];
  const kept = rules.filter(({ ref }) => ref !== RULE).map(({ version, last_updated, ...rule }) => rule);
  await call("PUT", phase, { rules: [...kept, wafRule(api)] });
}

/** What needs the Worker to be there. KV is not among it: what is revoked lives in the Worker's Durable Object. */
async function after({ worker, images, api }, account, zone) {
  for (const [name, variable] of Object.entries(WORKER_SECRETS)) {
    const file = given(variable);
    const text = dry ? "" : fs.readFileSync(file, "utf8").trim();
    if (!dry && !text) fail(`${file} is empty`);
    await call("PUT", `/accounts/${account}/workers/scripts/${worker}/secrets`, { name, text, type: "secret_text" }, { secret: true });
  }
  for (const hostname of [images, api]) {
    await call("PUT", `/accounts/${account}/workers/domains`, { environment: "production", hostname, service: worker, zone_id: zone });
  }
}

await { before, after }[phase](names(), given("CLOUDFLARE_ACCOUNT_ID"), given("CLOUDFLARE_ZONE_ID"));
