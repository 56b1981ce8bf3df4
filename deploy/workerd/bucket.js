// The folder of objects, spoken to as workerd speaks to R2: `cf-r2-request` asks, the answer is metadata and then bytes.
// Reads only. Keys come from links whose shape was checked; they are looked at again all the same, for this is a folder.
// The folder has no ranges: a part is read from the start and what lies before it is dropped as it comes, so that no
// answer holds more than a chunk in memory.
const KEY = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;

function failure(status, v4code, message) {
  return new Response(null, { status, headers: { "cf-r2-error": JSON.stringify({ version: 1, v4code, message }) } });
}
const missing = () => failure(404, 10007, "The specified key does not exist.");

/** Parts looked for at once: each reads its file from the start, which costs disk and processor for a stranger's one byte. */
const MOST_SEEKING = 8;
/** Milliseconds that a part waits for its turn; after that the answer is 503. */
const WAIT_MS = 5000;
const RETRY_MS = 10;
/** Bytes read at a time of a part. */
const CHUNK = 1 << 16;
let seeking = 0;

/** Whether it is this part's turn to be looked for. Each request waits on a timer of its own: one whose reader left wakes nobody. */
async function turn() {
  for (let waited = 0; seeking >= MOST_SEEKING; waited += RETRY_MS) {
    if (waited >= WAIT_MS) return false;
    await scheduler.wait(RETRY_MS);
  }
  seeking += 1;
  return true;
}

/** The part of `size` bytes that is asked for; undefined for all of it. */
function part(range, size) {
  if (!range) return undefined;
  if (range.suffix !== undefined) {
    const length = Math.min(Number(range.suffix), size);
    return { offset: size - length, length };
  }
  const offset = Number(range.offset ?? 0);
  return { offset, length: Math.min(Number(range.length ?? size), size - offset) };
}

/** The chunks of `body` from byte `offset` on, `length` bytes of them; `found` is called when the first is there. */
async function* chunks(body, { offset, length }, found) {
  const reader = body.getReader({ mode: "byob" });
  let buffer = new ArrayBuffer(CHUNK); // handed over to each read and back
  try {
    for (let at = 0, end = offset + length; at < end; ) {
      const { done, value } = await reader.read(new Uint8Array(buffer));
      if (done) throw new Error("the object is shorter than it was");
      const wanted = value.subarray(Math.max(offset - at, 0), Math.max(end - at, 0));
      at += value.byteLength;
      if (wanted.byteLength > 0) {
        found();
        yield wanted;
      }
      buffer = value.buffer;
    }
  } finally {
    await reader.cancel();
  }
}

export default {
  async fetch(request, env, context) {
    const ask = JSON.parse(request.headers.get("cf-r2-request") ?? "{}");
    if (ask.method !== "get" && ask.method !== "head") return failure(501, 10000, "Only reading is possible here.");
    if (!KEY.test(ask.object ?? "")) return missing();
    const url = `http://objects/${ask.object}`;
    const about = await env.OBJECTS.fetch(url, { method: "HEAD" });
    const length = about.headers.get("content-length");
    if (about.status !== 200 || length === null) return missing(); // a folder has no length
    const size = Number(length);
    const modified = Date.parse(about.headers.get("last-modified") ?? "") || 0;
    const range = ask.method === "get" ? part(ask.range, size) : undefined;
    if (range && !(range.length > 0)) return failure(416, 10039, "The range lies outside the object.");
    // Names are never used twice, so size and time tell one content from another.
    const etag = `${size.toString(16)}-${modified.toString(16)}`;
    const metadata = new TextEncoder().encode(JSON.stringify({
      name: ask.object, version: etag, size, etag, uploaded: modified, httpFields: {}, customFields: [], range, checksums: {},
    }));
    const bytes = ask.method === "head" ? 0 : (range?.length ?? size);
    if (range && !(await turn())) return failure(503, 10043, "Too many parts are being looked for.");
    let isSeeking = range !== undefined;
    const found = () => {
      if (isSeeking) seeking -= 1;
      isSeeking = false;
    };
    const body = new FixedLengthStream(metadata.byteLength + bytes);
    const writer = body.writable.getWriter();
    const send = async () => {
      await writer.write(metadata);
      if (bytes === 0) return writer.close();
      if (range) {
        const { body: whole } = await env.OBJECTS.fetch(url);
        for await (const chunk of chunks(whole, range, found)) await writer.write(chunk);
        return writer.close();
      }
      writer.releaseLock();
      return (await env.OBJECTS.fetch(url)).body.pipeTo(body.writable);
    };
    // Whoever read has left, or the object went meanwhile: the answer breaks off. Waited for, so that a part whose reader
    // left gives its turn back too.
    context.waitUntil(send().catch((error) => writer.abort(error).catch(() => {})).finally(found));
    return new Response(body.readable, { headers: { "cf-r2-metadata-size": String(metadata.byteLength) } });
  },
};
