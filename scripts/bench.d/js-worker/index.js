// What a guide's signed-link Worker does: HMAC over path and expiry with WebCrypto, compared as hex; then the object.
// For comparison of cost only: it has the mistakes that docs/edge.md names. KEEP_KEY=1 imports the key once.
let kept;

function importKey(env) {
  const bytes = new TextEncoder().encode(env.LINK_KEYS);
  return crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}

const refuse = (status, text) => new Response(text, { status, headers: { "cache-control": "no-store" } });

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const [expiry, given] = [searchParams.get("exp"), searchParams.get("sig")];
    if (!expiry || !given) return refuse(403, "Forbidden");
    if (Date.now() / 1000 > parseInt(expiry)) return refuse(410, "Expired");
    const key = env.KEEP_KEY ? (kept ??= await importKey(env)) : await importKey(env);
    const mac = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(pathname + expiry));
    const wanted = Array.from(new Uint8Array(mac), (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (given !== wanted) return refuse(403, "Forbidden");
    const object = await env.IMAGES.get(pathname.slice(1));
    if (!object) return refuse(404, "Not found");
    return new Response(object.body, {
      headers: {
        "content-type": "image/png",
        "cache-control": "private, max-age=3600",
        etag: object.httpEtag,
        "x-content-type-options": "nosniff",
      },
    });
  },
};
