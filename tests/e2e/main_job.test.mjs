// The whole way on real parts: token → generate → link → fetch through the edge → decode, and every way to be refused.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";
import fs from "node:fs";
import path from "node:path";
import { Client, ROOT, freshAddress, signLink, startDemo, request } from "./harness.mjs";
import { decodePng } from "./png.mjs";

let demo, env, client, token, image;
before(async () => {
  demo = await startDemo();
  env = demo.env;
  client = new Client(env);
  token = await client.token();
});
after(() => demo?.stop());

test("the_environment_file_is_private_and_complete", () => {
  assert.equal(demo.mode, 0o600);
  for (const name of ["EDGE_URL", "IMAGES_URL", "ORIGIN_URL", "OPERATOR_URL", "CLIENT_ID", "CLIENT_SECRET", "ADMIN_CLIENT_ID", "ADMIN_CLIENT_SECRET", "LINK_KEYS"]) {
    assert.ok(env[name], name);
  }
});

test("a_prompt_becomes_a_picture_that_its_link_opens", async () => {
  const answer = await client.api("POST", "/api/generate", { token, body: { prompt: "a red apple", seed: 7 } });
  assert.equal(answer.status, 200, answer.body.toString());
  const { job, images } = answer.json();
  assert.equal(job.status, "done");
  [image] = images;
  assert.ok(image.url.startsWith(`${env.IMAGES_URL}/generated/`));
  const fetched = await client.fetch(image.url);
  assert.equal(fetched.status, 200);
  assert.equal(fetched.headers["content-type"], "image/png");
  assert.equal(fetched.headers["x-content-type-options"], "nosniff");
  assert.match(fetched.headers["cache-control"], /^private, max-age=\d+$/);
  assert.equal(fetched.body.length, image.bytes);
  const picture = decodePng(fetched.body);
  assert.deepEqual([picture.width, picture.height], [image.width, image.height]);
  const distinct = new Set();
  for (let at = 0; at + 2 < picture.pixels.length; at += picture.channels) distinct.add(picture.pixels.readUIntBE(at, 3));
  assert.ok(distinct.size > 100, `only ${distinct.size} colours: not a picture`);
});

test("the_same_seed_gives_the_same_picture", async () => {
  const again = await client.api("POST", "/api/generate", { token, body: { prompt: "a red apple", seed: 7 } });
  const [second] = again.json().images;
  const [a, b] = await Promise.all([client.fetch(image.url), client.fetch(second.url)]);
  assert.notEqual(second.key, image.key);
  assert.deepEqual(decodePng(a.body).pixels, decodePng(b.body).pixels);
});

test("a_link_without_or_with_another_signature_opens_nothing", async () => {
  const unsigned = await client.fetch(image.url.split("?")[0]);
  assert.equal(unsigned.status, 403);
  assert.equal(unsigned.json().code, "bad_signature");
  const tampered = await client.fetch(image.url.replace(/sig=(.)/, (_, c) => `sig=${c === "A" ? "B" : "A"}`));
  assert.equal(tampered.status, 403);
  const moved = await client.fetch(image.url.replace("/generated/", "/kept/"));
  assert.equal(moved.status, 403);
});

test("an_expired_link_is_gone", async () => {
  const exp = String(Math.floor(Date.now() / 1000) - 5);
  const expired = await client.fetch(signLink(env, image.key, { exp }));
  assert.equal(expired.status, 410);
  assert.equal(expired.json().code, "link_expired");
});

test("a_link_of_an_independent_signer_is_served", async () => {
  const exp = String(Math.floor(Date.now() / 1000) + 60);
  assert.equal((await client.fetch(signLink(env, image.key, { exp }))).status, 200);
});

test("a_foreign_page_may_not_embed_it", async () => {
  const hotlinked = await client.fetch(image.url, { referer: "https://thief.example/page", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image" });
  assert.equal(hotlinked.status, 403);
  assert.equal(hotlinked.json().code, "referer_denied");
});

test("the_origin_refuses_whoever_is_not_its_edge", async () => {
  const around = await request(`${env.ORIGIN_URL}/api/images`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(around.status, 403);
  assert.equal(around.json().code, "edge_only");
});

test("another_client_sees_none_of_it", async () => {
  const other = new Client(env, { id: env.ADMIN_CLIENT_ID, secret: env.ADMIN_CLIENT_SECRET });
  const theirs = await other.token();
  assert.equal((await other.api("POST", `/api/images/${image.id}/link`, { token: theirs, body: {} })).status, 404);
  assert.equal((await other.api("DELETE", `/api/images/${image.id}`, { token: theirs })).status, 404);
  assert.equal((await client.fetch(image.url)).status, 200);
});

test("an_address_gets_its_burst_and_one_more_then_429", async () => {
  const flood = new Client(env, { address: freshAddress() });
  const token = await flood.token();
  // One more than the address may, one less than the token may.
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => flood.api("POST", "/api/generate", { token, body: { prompt: "a red apple", steps: 1 } })),
  );
  const statuses = answers.map((answer) => answer.status).sort();
  assert.deepEqual(statuses, [200, 200, 200, 200, 429]);
  const refused = answers.find((answer) => answer.status === 429);
  assert.ok(Number(refused.headers["retry-after"]) > 0);
  assert.match(refused.headers["ratelimit"], /"address"/);
  assert.equal(refused.json().code, "rate_limited");
});

test("a_list_shows_it_and_a_deletion_ends_it", async () => {
  const list = (await client.api("GET", "/api/images?limit=100", { token })).json();
  assert.ok(list.images.some(({ id }) => id === image.id));
  assert.equal((await client.api("DELETE", `/api/images/${image.id}`, { token })).status, 204);
  assert.equal((await client.fetch(image.url)).status, 404);
  const after = (await client.api("GET", "/api/images?limit=100", { token })).json();
  assert.ok(!after.images.some(({ id }) => id === image.id));
});

test("a_job_is_followed_through_the_edge_and_a_retry_does_not_pay_twice", async () => {
  const caller = new Client(env, { address: freshAddress() });
  const token = await caller.token();
  const headers = { prefer: "respond-async", "idempotency-key": "the same" };
  const ask = () => caller.api("POST", "/api/generate", { token, headers, body: { prompt: "an owl", seed: 3 } });
  const [first, second] = [await ask(), await ask()];
  assert.equal(first.status, 202, first.body.toString());
  const { job } = first.json();
  assert.equal(second.json().job.id, job.id);
  assert.equal(second.headers["idempotency-replayed"], "true");
  assert.equal(first.headers.location, `${env.EDGE_URL}/api/jobs/${job.id}`);
  const events = await request(job.events_url, { headers: { ...caller.from(), authorization: `Bearer ${token}` } });
  assert.equal(events.headers["content-type"], "text/event-stream");
  const names = [...events.body.toString().matchAll(/^event: (.*)$/gm)].map(([, name]) => name);
  assert.ok(names.includes("step"), names.join());
  assert.equal(names.at(-1), "done");
  const done = (await caller.api("GET", `/api/jobs/${job.id}`, { token })).json();
  assert.equal(done.job.status, "done");
  assert.equal((await caller.fetch(done.images[0].url)).status, 200);
});

test("malformed_requests_get_a_code_and_cost_nothing", async () => {
  const careless = new Client(env, { address: freshAddress() });
  const token = await careless.token();
  const used = async () => (await careless.api("GET", "/api/usage", { token })).json().limits.map(({ policy, used }) => [policy, used]);
  const bodies = ["", "{", "[]", "null", '{"prompt":1}', '{"prompt":""}', '{"prompt":"x","nope":1}', '{"prompt":"x","width":129}', '{"prompt":"x","steps":0}', '{"prompt":"x","n":5}', '{"prompt":"x","seed":-2}', '{"prompt":"x","guidance_scale":"NaN"}', `{"prompt":"${"x".repeat(2001)}"}`];
  const before = await used();
  for (const body of bodies) {
    const answer = await careless.api("POST", "/api/generate", { token, body });
    assert.ok([400, 422].includes(answer.status), `${body.slice(0, 40)} → ${answer.status}`);
    assert.ok(answer.json().code, body);
  }
  const unlimited = ([policy]) => !["token", "user-hour", "storage", "jobs"].includes(policy) ? false : true;
  assert.deepEqual((await used()).filter(unlimited), before.filter(unlimited));
});

test("another_demo_in_the_same_checkout_gives_the_environment_file_back", async () => {
  const before = fs.readFileSync(demo.envFile, "utf8");
  const argv = [path.join(ROOT, "scripts/lib/demo.mjs"), "--once", "a red apple"];
  const other = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "ignore"] });
  let output = "";
  other.stdout.on("data", (part) => (output += part));
  assert.equal(await new Promise((done) => other.once("close", done)), 0);
  assert.equal(JSON.parse(output).status, 200);
  assert.equal(fs.readFileSync(demo.envFile, "utf8"), before);
  assert.equal(fs.statSync(demo.envFile).mode & 0o777, 0o600);
});

test("the_demo_stops_within_ten_seconds_and_leaves_no_secret", async () => {
  const seconds = await demo.stop();
  assert.ok(seconds < 10, `${seconds} s`);
  assert.ok(!fs.existsSync(demo.envFile));
  await assert.rejects(request(`${env.EDGE_URL}/`));
  await assert.rejects(request(`${env.ORIGIN_URL}/`));
});
