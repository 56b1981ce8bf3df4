// People sign in with an OpenID provider: a certified one, a real browser, the program that ships.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { generate, launch, NO_LIMITS, open, request, serve } from "../studio/harness.mjs";
import { asPerson, CLIENT, startProvider } from "./provider.mjs";

let provider, service, browser;
before(async () => {
  provider = await startProvider();
  browser = await launch();
  service = await serve({
    ...NO_LIMITS,
    SIGNET_AUTH__PROVIDER__ISSUER: provider.issuer,
    SIGNET_AUTH__PROVIDER__CLIENT_ID: CLIENT.id,
    SIGNET_AUTH__PROVIDER__CLIENT_SECRET: CLIENT.secret,
  });
  provider.register(`${service.url}/auth/callback`);
});
after(async () => {
  await browser?.close();
  await service?.stop();
  await provider?.stop();
});

const cookies = async (page) => (await page.context().cookies()).filter((cookie) => new URL(service.url).hostname === cookie.domain);

test("a_person_signs_in_makes_a_picture_and_no_token_reaches_the_browser", async () => {
  const page = await open(browser, service);
  const seen = [];
  page.on("response", async (answer) => {
    if (answer.url().startsWith(service.url)) seen.push(`${answer.url()} ${await answer.text().catch(() => "")}`);
  });
  await page.locator("#sign-in").click();
  await asPerson(page, "alice");
  await page.locator("#studio").waitFor();
  assert.equal(new URL(page.url()).pathname, "/");
  await generate(page, "a red apple");
  const jar = await cookies(page);
  const session = jar.find((cookie) => cookie.name === "signet");
  assert.equal(session.httpOnly, true);
  assert.equal(session.sameSite, "Strict");
  assert.equal(jar.some((cookie) => cookie.name === "signet-sign-in"), false, "the transaction's cookie is gone");
  const storage = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage]));
  for (const text of [storage, ...seen]) {
    assert.doesNotMatch(text, /eyJ[A-Za-z0-9_-]{10,}\./, "a token reached the browser");
    assert.ok(!text.includes(CLIENT.secret));
  }
  assert.deepEqual(page.wrong, []);
  await page.context().close();
});

test("each_person_is_one_user_who_sees_only_what_is_theirs", async () => {
  const pictures = async (name) => {
    const page = await open(browser, service);
    await page.locator("#sign-in").click();
    await asPerson(page, name);
    await page.locator("#studio").waitFor();
    const list = await page.evaluate(async () => (await fetch("/api/images")).json());
    await page.context().close();
    return list.images.map((image) => image.key);
  };
  const alice = await pictures("alice");
  assert.equal(alice.length, 1, "the picture of the test before, in another browser");
  assert.deepEqual(await pictures("bob"), []);
  assert.deepEqual(await pictures("alice"), alice);
  assert.match(alice[0], /^generated\/usr_[0-9a-f]{32}\//);
});

/** Goes to the provider as a program: the transaction's cookie, and what the provider was asked. */
async function leave() {
  const answer = await request(`${service.url}/auth/login`);
  assert.equal(answer.status, 303);
  const [cookie] = answer.headers["set-cookie"];
  return { cookie, asked: new URL(answer.headers.location) };
}

test("the_way_out_has_pkce_state_nonce_and_a_short_lax_cookie", async () => {
  const { cookie, asked } = await leave();
  assert.match(cookie, /^signet-sign-in=[\w-]{43}; HttpOnly; SameSite=Lax; Path=\/; Max-Age=600$/);
  const value = (name) => asked.searchParams.get(name);
  assert.equal(value("response_type"), "code");
  assert.equal(value("code_challenge_method"), "S256");
  assert.equal(value("redirect_uri"), `${service.url}/auth/callback`);
  const again = (await leave()).asked;
  for (const name of ["state", "nonce", "code_challenge"]) {
    assert.match(value(name), /^[\w-]{43}$/);
    assert.notEqual(value(name), again.searchParams.get(name), `${name} is fresh every time`);
  }
});

test("a_callback_that_this_browser_did_not_begin_signs_nobody_in", async () => {
  const iss = encodeURIComponent(provider.issuer);
  const call = async (query, cookie) => {
    const answer = await request(`${service.url}/auth/callback?${query}`, cookie ? { cookie: cookie.split(";")[0] } : {});
    assert.equal((answer.headers["set-cookie"] ?? []).some((one) => /^signet=\w/.test(one)), false, "a session was given");
    return [answer.status, JSON.parse(answer.body).code];
  };
  const failed = [400, "sign_in_failed"];
  const state = (one) => `state=${one.asked.searchParams.get("state")}`;
  assert.deepEqual(await call(`${state(await leave())}&code=x&iss=${iss}`), failed, "no cookie");
  assert.deepEqual(await call(`state=guess&code=x&iss=${iss}`, (await leave()).cookie), failed, "another state");
  const [mine, theirs] = [await leave(), await leave()];
  assert.deepEqual(await call(`${state(theirs)}&code=x&iss=${iss}`, mine.cookie), failed, "another's state");
  const mixed = await leave();
  assert.deepEqual(await call(`${state(mixed)}&code=x&iss=https%3A%2F%2Fevil.example`, mixed.cookie), failed, "another issuer");
  const nameless = await leave();
  assert.deepEqual(await call(`${state(nameless)}&code=x`, nameless.cookie), failed, "an answer that names no issuer");
  const denied = await leave();
  assert.deepEqual(await call(`${state(denied)}&error=access_denied&iss=${iss}`, denied.cookie), failed, "the person said no");
  const invented = await leave();
  assert.deepEqual(await call(`${state(invented)}&code=invented&iss=${iss}`, invented.cookie), failed, "an invented code");
  assert.deepEqual(await call(`${state(invented)}&code=again&iss=${iss}`, invented.cookie), failed, "a transaction counts once");
});

test("a_foreign_page_cannot_begin_a_sign_in", async () => {
  const answer = await request(`${service.url}/auth/login`, { "sec-fetch-site": "cross-site" });
  assert.equal(answer.status, 403);
});

test("a_provider_that_rotated_its_keys_goes_on_working", async () => {
  provider.rotate();
  // The keys are asked for anew for an unknown one at most every 30 s.
  await new Promise((done) => setTimeout(done, 31_000));
  const page = await open(browser, service);
  await page.locator("#sign-in").click();
  await asPerson(page, "carol");
  await page.locator("#studio").waitFor();
  await page.context().close();
});

test("while_the_provider_is_away_who_is_in_stays_in_and_others_are_told", async () => {
  const page = await open(browser, service);
  await page.locator("#sign-in").click();
  await asPerson(page, "dave");
  await page.locator("#studio").waitFor();
  await provider.stop();
  await page.reload();
  await page.locator("#studio").waitFor();
  const { cookie, asked } = await leave();
  const query = `state=${asked.searchParams.get("state")}&code=x&iss=${encodeURIComponent(provider.issuer)}`;
  const answer = await request(`${service.url}/auth/callback?${query}`, { cookie: cookie.split(";")[0] });
  assert.deepEqual([answer.status, JSON.parse(answer.body).code], [503, "provider_unavailable"]);
  await page.context().close();
});
