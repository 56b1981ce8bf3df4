// The folder of objects, spoken to as workerd speaks to R2: `cf-r2-request` asks, the answer is metadata and then bytes.
// Reads only. Keys come from links whose shape was checked; they are looked at again all the same, for this is a folder.
const KEY = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;

function failure(status, v4code, message) {
  return new Response(null, { status, headers: { "cf-r2-error": JSON.stringify({ version: 1, v4code, message }) } });
}
const missing = () => failure(404, 10007, "The specified key does not exist.");

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

export default {
  async fetch(request, env) {
    const ask = JSON.parse(request.headers.get("cf-r2-request") ?? "{}");
    if (ask.method !== "get" && ask.method !== "head") return failure(501, 10000, "Only reading is possible here.");
    if (!KEY.test(ask.object ?? "")) return missing();
    const url = `http://objects/${ask.object}`;
    const found = await env.OBJECTS.fetch(url, { method: "HEAD" });
    const length = found.headers.get("content-length");
    if (found.status !== 200 || length === null) return missing(); // a folder has no length
    const size = Number(length);
    const modified = Date.parse(found.headers.get("last-modified") ?? "") || 0;
    const range = ask.method === "get" ? part(ask.range, size) : undefined;
    if (range && !(range.length > 0)) return failure(416, 10039, "The range lies outside the object.");
    // Names are never used twice, so size and time tell one content from another.
    const etag = `${size.toString(16)}-${modified.toString(16)}`;
    const metadata = new TextEncoder().encode(JSON.stringify({
      name: ask.object, version: etag, size, etag, uploaded: modified, httpFields: {}, customFields: [], range, checksums: {},
    }));
    const bytes = ask.method === "head" ? 0 : (range?.length ?? size);
    const body = new FixedLengthStream(metadata.byteLength + bytes);
    const send = async () => {
      const writer = body.writable.getWriter();
      await writer.write(metadata);
      if (bytes === 0) return writer.close();
      if (range) {
        const whole = await (await env.OBJECTS.fetch(url)).arrayBuffer();
        await writer.write(new Uint8Array(whole, range.offset, range.length));
        return writer.close();
      }
      writer.releaseLock();
      return (await env.OBJECTS.fetch(url)).body.pipeTo(body.writable);
    };
    send().catch(() => {}); // whoever read has left, or the object went meanwhile: the answer breaks off
    return new Response(body.readable, { headers: { "cf-r2-metadata-size": String(metadata.byteLength) } });
  },
};
