// A job's events as stock clients read them: npm's `eventsource`, and npm's `compression` between them and the service.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import http from "node:http";
import path from "node:path";
import { after, before, test } from "node:test";
import compression from "compression";
import { EventSource } from "eventsource";
import { ROOT, serve } from "./harness.mjs";

let service, proxy, token;
const asked = []; // connections for events: the status of each

before(async () => {
  const models = ["tests/goldens/engine/model", "models/demo/emoji-128"].map((folder) => path.join(ROOT, folder));
  service = await serve({ SIGNET_INFER__MODELS: JSON.stringify(models) });
  const client = service.client(execFileSync);
  const basic = Buffer.from(`${client.client_id}:${client.client_secret}`).toString("base64");
  const answer = await fetch(`${service.url}/oauth/token`, {
    method: "POST", body: new URLSearchParams({ grant_type: "client_credentials" }), headers: { authorization: `Basic ${basic}` },
  });
  token = (await answer.json()).access_token;
  const compress = compression({ threshold: 0 });
  const server = http.createServer((request, answer) => compress(request, answer, () => {
    const { host, ...headers } = request.headers;
    const onward = http.request(service.url + request.url, { method: request.method, headers: { ...headers, host: new URL(service.url).host } }, (back) => {
      if (request.url.endsWith("/events")) asked.push(back.statusCode);
      answer.writeHead(back.statusCode, back.headers);
      back.pipe(answer);
    });
    request.pipe(onward);
  }));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  proxy = { url: `http://127.0.0.1:${server.address().port}`, close: () => (server.closeAllConnections(), server.close()) };
});
after(async () => {
  proxy?.close();
  await service?.stop();
});

const authorization = () => ({ authorization: `Bearer ${token}` });

async function submit(fields) {
  const answer = await fetch(`${service.url}/api/generate`, {
    method: "POST", headers: { ...authorization(), "content-type": "application/json", prefer: "respond-async" },
    body: JSON.stringify({ prompt: "a purple heart", guidance_scale: 1, ...fields }),
  });
  assert.equal(answer.status, 202);
  assert.match(answer.headers.get("retry-after"), /^\d+$/);
  return (await answer.json()).job;
}

const state = async (job) => (await (await fetch(`${service.url}/api/jobs/${job.id}`, { headers: authorization() })).json()).job.status;

/** A stock client; `events` holds what it is told, `closed` resolves when it gives up by itself. */
function follow(job, onEvent = () => {}) {
  const events = [];
  const source = new EventSource(`${proxy.url}/api/jobs/${job.id}/events`, {
    fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...authorization(), "accept-encoding": "gzip" } }),
  });
  const closed = new Promise((done) => {
    source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) done(); });
  });
  for (const name of ["queued", "step", "preview", "done", "failed", "cancelled"]) {
    source.addEventListener(name, (event) => { events.push({ name, id: event.lastEventId }); onEvent(name); });
  }
  return { events, closed };
}

test("a stock EventSource on a finished job makes at most two connections", { timeout: 60_000 }, async () => {
  const job = await submit({ steps: 1 });
  while ((await state(job)) !== "done") await new Promise((done) => setTimeout(done, 20));
  asked.length = 0;
  const { events, closed } = follow(job);
  await closed;
  assert.deepEqual(events, [{ name: "done", id: "end" }]);
  assert.deepEqual(asked, [200, 204]);
  await new Promise((done) => setTimeout(done, 5_000));
  assert.equal(asked.length, 2, "and stays away");
});

test("through npm's compression events arrive as they happen", { timeout: 120_000 }, async () => {
  const job = await submit({ model: "emoji-128", steps: 100 });
  let first;
  const { events, closed } = follow(job, (name) => { if (name === "step") first ??= state(job); });
  await closed;
  assert.equal(await first, "running", "the first step was told while the job ran");
  assert.ok(events.filter(({ name }) => name === "step").length > 3);
  assert.ok(events.every(({ id }) => id), "each has an id");
  assert.equal(events.at(-1).name, "done");
});
