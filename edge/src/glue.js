// What would otherwise cost one crossing between wasm and JavaScript for every header or chunk. No rule of the
// product is decided here; limits and texts come in as arguments.

/** Headers as lines: name, value, name, value, …; neither can hold a line feed. */
export function header_lines(headers) {
  let lines = "";
  for (const [name, value] of headers) lines += `${name}\n${value}\n`;
  return lines;
}

let isolate;
let answered = 0;

/** An id for a link's answer, under which nothing is logged: random once an isolate, then counted, since it must cost little. */
function next_id() {
  isolate ??= [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  answered = (answered + 1) >>> 0;
  return isolate + answered.toString(16).padStart(8, "0");
}

let addressHeader;

/** Names the header in which the front tells the client's address; empty when there is no front. */
export function keep_address_header(name) {
  addressHeader = name;
}

/** The headers that a link's path reads, as lines. Those that say nothing without another one are asked for after it. */
export function link_headers({ headers }) {
  let lines = "";
  const read = (name) => {
    const value = headers.get(name);
    if (value === null) return false;
    lines += `${name}\n${value}\n`;
    return true;
  };
  if (addressHeader) read(addressHeader);
  for (const name of ["referer", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "if-match", "if-none-match"]) read(name);
  if (read("range")) read("if-range");
  return lines;
}

/** What a refused request would have otherwise than usual, as lines: a page, or an answer for another origin's scripts. Mostly nothing. */
export function wishes({ headers }) {
  const [origin, accept] = [headers.get("origin"), headers.get("accept")];
  let lines = origin === null ? "" : `origin\n${origin}\n`;
  if (accept !== null && /text\//i.test(accept)) lines += `accept\n${accept}\n`;
  return lines || undefined;
}

/** Rate Limiting bindings asked in turn: name, key, name, key, …; whether all let pass. One that fails does. */
export async function within_limits(env, asks) {
  for (const [name, key] of pairs(asks)) {
    try {
      if (!(await env[name].limit({ key })).success) return false;
    } catch (error) {
      console.error(`edge: rate limit ${name} failed: ${error?.message ?? error}`);
    }
  }
  return true;
}

let pictures;
const cacheFailed = (error) => console.error("edge: the cache failed:", error?.message ?? error);

/**
 * A whole object of the bucket, through a named cache of this place. The name under which a picture lies there is no
 * address that anybody can ask for, and it holds whole pictures only.
 */
async function cached(bucket, key, seconds, up_to, context) {
  const name = `https://pictures.invalid/${key}`;
  try {
    const hit = await (await (pictures ??= caches.open("signet-pictures"))).match(name);
    if (hit) return { httpEtag: hit.headers.get("etag"), body: hit.body };
  } catch (error) {
    pictures = undefined;
    cacheFailed(error);
    return bucket.get(key);
  }
  const object = await bucket.get(key);
  if (!object || object.size > up_to) return object;
  const { httpEtag } = object;
  const bytes = await object.arrayBuffer();
  const headers = { "cache-control": `max-age=${seconds}`, "content-type": "application/octet-stream", etag: httpEtag };
  const put = async () => (await pictures).put(name, new Response(bytes, { headers }));
  context.waitUntil(put().catch(cacheFailed));
  return { httpEtag, body: bytes };
}

/**
 * The way of nearly every link, once all that needs no waiting holds: shield, revocation, object, in this order, so that
 * no refused link reads the bucket. The object's key is what `text` holds between `from` and `to`; with `seconds` it may
 * come from the cache. The wasm module counts, and words every refusal.
 */
export async function open_picture({ env, context, judge, request }, asks, revoked, text, from, to, number, place, seconds, up_to) {
  const headers = sets[number]; // now, since another request may keep others under the number
  const refused = (code, text = "") => judge.refused(code, place, text, request, env);
  if (asks !== undefined && !(await within_limits(env, asks))) return refused("rate_limited");
  if (revoked) return refused("link_revoked");
  const { IMAGES } = env;
  const read = (key) => (seconds ? cached(IMAGES, key, seconds, up_to, context) : IMAGES.get(key));
  let object;
  try {
    const key = text.slice(from, to);
    object = await read(key);
    const other = object ? undefined : judge.counterpart(key);
    if (other !== undefined) object = await read(other);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) throw error;
    return refused("store_unavailable", String(error?.message ?? error));
  }
  if (!object) return refused("not_found");
  judge.opened(place);
  headers.set("etag", object.httpEtag); // the answer takes a copy of them
  headers.set("x-request-id", next_id());
  return new Response(object.body, { headers });
}

function pairs(lines) {
  const parts = lines.split("\n");
  const list = [];
  for (let i = 0; i + 1 < parts.length; i += 2) list.push([parts[i], parts[i + 1]]);
  return list;
}

/** An answer of our own; `body` is a string, a stream or undefined. */
export function respond(status, lines, body) {
  return new Response(body ?? null, { status, headers: pairs(lines) });
}

let pictureHeaders;
/** Whole sets of headers, for most links have the same; the wasm module says under which number. */
const sets = [];

/** Keeps the headers that stand in every picture's answer. */
export function keep_headers(lines) {
  pictureHeaders = new Headers(pairs(lines));
}

function with_lines(lines) {
  const headers = new Headers(pictureHeaders);
  for (const [name, value] of pairs(lines)) headers.set(name, value);
  headers.set("x-request-id", next_id());
  return headers;
}

/** Keeps the headers of a whole picture under a number. */
export function keep_set(number, lines) {
  sets[number] = with_lines(lines);
}

/** A picture's answer with the kept headers and with `lines`. */
export function picture(status, lines, body) {
  return new Response(body ?? null, { status, headers: with_lines(lines) });
}

const templates = [];

/** Keeps an answer that is always the same, since refusing must cost little; returns its number. */
export function add_template(status, lines, body) {
  return templates.push({ body: body ?? null, init: { status, headers: new Headers(pairs(lines)) } }) - 1;
}

/** The answer kept under a number, with `lines` beside its headers. */
export function from_template(number, lines) {
  const { body, init } = templates[number];
  const answer = new Response(body, init);
  if (lines) for (const [name, value] of pairs(lines)) answer.headers.set(name, value);
  answer.headers.set("x-request-id", next_id());
  return answer;
}

/** What a refused client still sends is read on, or its connection breaks before it hears the answer: so much, for so long. */
const REST_BYTES = 16 * 1024 * 1024;
const REST_MS = 10_000;
const PAUSE_MS = 1000;

async function drain(reader) {
  const end = Date.now() + REST_MS;
  const late = () => new Promise((done) => setTimeout(done, PAUSE_MS, { done: true }));
  try {
    for (let left = REST_BYTES; left > 0 && Date.now() < end; ) {
      const { done, value } = await Promise.race([reader.read(), late()]);
      if (done) break;
      left -= value.byteLength;
    }
  } catch {
    return; // the client left
  }
  reader.cancel().catch(() => {});
}

/**
 * Takes a request's body. One that ends within `up_to` bytes comes whole as `bytes`; a longer one as `stream`, which
 * fails, and sets `over`, as soon as more than `limit` bytes have passed.
 */
export async function take_body(request, declared, up_to, limit) {
  if (declared > up_to) return { stream: request.body, over: false }; // its length is known, and the runtime holds it to that
  const reader = request.body.getReader();
  const chunks = [];
  let seen = 0;
  while (seen <= up_to) {
    const { done, value } = await reader.read();
    if (done) {
      const bytes = new Uint8Array(seen);
      let at = 0;
      for (const chunk of chunks) {
        bytes.set(chunk, at);
        at += chunk.byteLength;
      }
      return { bytes, over: false };
    }
    chunks.push(value);
    seen += value.byteLength;
  }
  const taken = { over: seen > limit };
  if (taken.over) {
    await drain(reader);
    return taken;
  }
  taken.stream = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
    },
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) return controller.close();
      seen += value.byteLength;
      if (seen > limit) {
        taken.over = true;
        taken.rest = drain(reader);
        controller.error(new Error("the body is over its limit"));
        taken.stop?.();
      } else {
        controller.enqueue(value);
      }
    },
    cancel(reason) {
      return reader.cancel(reason);
    },
  });
  return taken;
}

/** A body of our own for `forward`. */
export function text_body(text) {
  return { bytes: new TextEncoder().encode(text), over: false };
}

/** Asks the origin. Undefined when it does not answer, or when the body went over its limit first (`taken.over`). */
export async function forward(url, method, lines, taken) {
  const abort = new AbortController();
  if (taken) taken.stop = () => abort.abort();
  try {
    const answer = await fetch(url, {
      method,
      headers: pairs(lines),
      body: taken?.bytes ?? taken?.stream,
      redirect: "manual",
      signal: abort.signal,
    });
    if (taken) taken.stop = undefined; // it answered: a body that goes on too long only breaks off
    await taken?.rest;
    return taken?.over ? undefined : answer;
  } catch (error) {
    await taken?.rest;
    if (!taken?.over) console.error("edge: the origin does not answer:", error?.message ?? error);
    return undefined;
  }
}

/** A document of the origin; undefined when it cannot be had within `wait` ms, or is longer than `up_to`. */
export async function document_text(url, lines, wait, up_to) {
  try {
    const answer = await fetch(url, { headers: pairs(lines), redirect: "manual", signal: AbortSignal.timeout(wait) });
    const text = await answer.text();
    if (answer.status === 200 && text.length <= up_to) return text;
    console.error("edge: a document of the origin cannot be had:", answer.status);
  } catch (error) {
    console.error("edge: a document of the origin cannot be had:", error?.message ?? error);
  }
}

let publicKeys = new Map();

/** Keeps the Ed25519 keys of a JWKS, of which it reads sixteen at most: issuer, audience and key ids, a line each. */
export async function keys_of(text) {
  const { issuer, audience, keys } = JSON.parse(text);
  const fresh = new Map();
  for (const { kty, crv, kid, x } of keys.slice(0, 16)) {
    if (kty !== "OKP" || crv !== "Ed25519" || typeof kid !== "string" || kid.includes("\n")) continue;
    fresh.set(kid, await crypto.subtle.importKey("jwk", { kty, crv, x }, { name: "Ed25519" }, false, ["verify"]));
  }
  publicKeys = fresh;
  return [issuer, audience, ...fresh.keys()].join("\n");
}

/** Whether a kept key made a signature. */
export async function token_holds(kid, signature, text) {
  return crypto.subtle.verify({ name: "Ed25519" }, publicKeys.get(kid), signature.slice(), new TextEncoder().encode(text));
}

/** Work that goes on after the answer. */
export function wait_until({ context }, work) {
  context.waitUntil(work);
}

/** The origin's answer with some headers set and others removed; the body streams through. */
export function pass_on(answer, set, remove) {
  const out = new Response(answer.body, answer);
  for (const name of remove.split("\n")) out.headers.delete(name);
  for (const [name, value] of pairs(set)) out.headers.set(name, value);
  return out;
}

/** Longest wait for a Durable Object, in milliseconds: one that hangs is one that fails. */
const OBJECT_WAIT = 3000;

/** One question to a Durable Object that answers with bytes; its status when it is another than 200. */
export async function object_bytes(namespace, name, body) {
  const signal = AbortSignal.timeout(OBJECT_WAIT);
  const answer = await namespace.get(namespace.idFromName(name)).fetch("https://object/", { method: "POST", body, signal });
  const bytes = await answer.arrayBuffer();
  return answer.status === 200 ? new Uint8Array(bytes) : answer.status;
}

/** One question to a Durable Object: the status of its answer, a line feed, its text. */
export async function object_answer(namespace, name, method, body) {
  const signal = AbortSignal.timeout(OBJECT_WAIT);
  const answer = await namespace.get(namespace.idFromName(name)).fetch("https://object/", { method, body, signal });
  return `${answer.status}\n${await answer.text()}`;
}
