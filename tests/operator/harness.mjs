// The studio's harness, and beside it an operator: a client with the scope admin and a page of the operator listener.
import { execFileSync } from "node:child_process";
import http from "node:http";
import { NO_LIMITS, open } from "../studio/harness.mjs";

export { launch, NO_LIMITS, serve } from "../studio/harness.mjs";

/** A new client with these scopes and a user of its own: `{ client_id, client_secret, user_id }`. */
export const client = (service, scopes, user) =>
  service.client((program, args, options) =>
    execFileSync(program, [...args, "--scopes", scopes, ...(user ? ["--user", user] : [])], options),
  );

/** One request; the answer's status, headers and text. */
export function ask(method, url, { headers = {}, body } = {}) {
  return new Promise((done, failed) => {
    const outgoing = http.request(url, { method, headers, agent: false }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => done({ status: answer.statusCode, headers: answer.headers, text: Buffer.concat(parts).toString() }));
    });
    outgoing.on("error", failed);
    outgoing.end(body);
  });
}

export async function token(service, made) {
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id: made.client_id, client_secret: made.client_secret });
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const answer = await ask("POST", `${service.url}/oauth/token`, { headers, body: body.toString() });
  if (answer.status !== 200) throw new Error(answer.text);
  return JSON.parse(answer.text).access_token;
}

/** Asks for a picture; the answer. */
export const generate = (service, bearer, wish, headers = {}) =>
  ask("POST", `${service.url}/api/generate`, {
    headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json", ...headers },
    body: JSON.stringify({ steps: 2, guidance_scale: 1, ...wish }),
  });

/** Settings under which the proxy in front tells the client's address, so that a test can have many. */
export const BEHIND_PROXY = { ...NO_LIMITS, SIGNET_EDGE__CLIENT_ADDRESS_HEADER: "x-test-address" };

/** The operator's page, not signed in. */
export const openOperator = (browser, service, options) => open(browser, { url: service.operatorUrl }, options);

/** Signs in on the page. */
export async function signIn(page, made) {
  await page.locator("#client-id").fill(made.client_id);
  await page.locator("#client-secret").fill(made.client_secret);
  await page.keyboard.press("Enter");
  await page.locator("#main").waitFor();
}
