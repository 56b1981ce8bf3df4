// RFC 9421 verification for the tests, written from the RFC and not from our Rust code: it reads the list of covered
// components from Signature-Input and rebuilds the signature base from the request as a server sees it.
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";

/** The one signature of a request, as an inner list with parameters (RFC 8941). */
export function parse(request) {
  const input = /^([a-z*][a-z0-9_*.-]*)=(\(([^)]*)\)(.*))$/.exec(request.headers["signature-input"] ?? "");
  if (!input) throw new Error("no Signature-Input");
  const [, label, parameters, list, rest] = input;
  const signature = new RegExp(`^${label}=:([A-Za-z0-9+/=]+):$`).exec(request.headers.signature ?? "");
  if (!signature) throw new Error("no Signature");
  const components = list.split(" ").map((item) => JSON.parse(item));
  const values = Object.fromEntries(
    rest.split(";").filter(Boolean).map((pair) => {
      const [name, value] = pair.split(/=(.*)/s);
      return [name, JSON.parse(value)];
    }),
  );
  return { components, values, parameters, signature: Buffer.from(signature[1], "base64") };
}

/** Throws unless the signature holds under the keyring; answers with its components and parameters. */
export function verify(request, ring) {
  const parsed = parse(request);
  const url = new URL(request.url, "http://unused");
  const component = (name) => {
    switch (name) {
      case "@method": return request.method;
      case "@authority": return request.headers.host.toLowerCase();
      case "@path": return url.pathname;
      case "@query": return url.search === "" ? "?" : url.search;
      default: {
        if (name.startsWith("@")) throw new Error(`unknown component ${name}`);
        const value = request.headers[name];
        if (value === undefined) throw new Error(`${name} is covered but absent`);
        return String(value).trim();
      }
    }
  };
  const lines = parsed.components.map((name) => `"${name}": ${component(name)}`);
  const base = [...lines, `"@signature-params": ${parsed.parameters}`].join("\n");
  const keys = Object.fromEntries(ring.split(",").map((pair) => pair.split(/:(.*)/s)));
  const secret = keys[parsed.values.keyid];
  if (!secret) throw new Error("unknown key");
  const expected = createHmac("sha256", Buffer.from(secret, "base64")).update(base).digest();
  if (expected.length !== parsed.signature.length || !timingSafeEqual(expected, parsed.signature)) throw new Error(`the MAC differs over\n${base}`);
  return parsed;
}

export const digest = (body) => `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;

/** Headers that sign a PUT of `body` as the origin does; `created` in Unix seconds. */
export function signPut(ring, authority, path, body, created = Math.floor(Date.now() / 1000)) {
  const [kid, secret] = ring.split(",")[0].split(/:(.*)/s);
  const headers = { "content-type": "text/plain", "content-length": String(Buffer.byteLength(body)), "content-digest": digest(body) };
  const covered = [["@method", "PUT"], ["@authority", authority], ["@path", path], ["@query", "?"], ...Object.entries(headers)];
  const parameters = `(${covered.map(([name]) => `"${name}"`).join(" ")});created=${created};nonce="${randomBytes(16).toString("hex")}";keyid="${kid}";alg="hmac-sha256";tag="signet-edge-v1"`;
  const base = [...covered.map(([name, value]) => `"${name}": ${value}`), `"@signature-params": ${parameters}`].join("\n");
  const mac = createHmac("sha256", Buffer.from(secret, "base64")).update(base).digest("base64");
  return { ...headers, "signature-input": `signet=${parameters}`, signature: `signet=:${mac}:` };
}
