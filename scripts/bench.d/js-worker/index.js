// What a guide's signed-link Worker does: HMAC over path and expiry with WebCrypto, compared as hex; then the object, with
// its type and a private Cache-Control and no header more. For comparison of cost only: it has the mistakes that
// docs/edge.md names. KEEP_KEY=1 imports the key once, which the guide's does not.
let kept;

function importKey(env) {
  const bytes = new TextEncoder().encode(env.LINK_KEYS);
  return crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const [expiry, given] = [searchParams.get("exp"), searchParams.get("sig")];
    if (!expiry || !given) return new Response("Forbidden", { status: 403 });
    if (Date.now() / 1000 > parseInt(expiry)) return new Response("Expired", { status: 410 });
    const key = env.KEEP_KEY ? (kept ??= await importKey(env)) : await importKey(env);
    const mac = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(pathname + expiry));
    const wanted = [...new Uint8Array(mac)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    if (given !== wanted) return new Response("Forbidden", { status: 403 });
    const object = await env.IMAGES.get(pathname.slice(1));
    if (!object) return new Response("Not found", { status: 404 });
    return new Response(object.body, {
      headers: { "content-type": object.httpMetadata?.contentType || "image/png", "cache-control": "private, max-age=3600" },
    });
  },
};
