// Signs a link. Node's own modules only; `ring` is the LINK_KEYS text, whose first key signs.
import { createHmac } from "node:crypto";

/** Path and query for `key` until `exp` (Unix seconds). `more`: dl, dn, ep, ip (docs/links.md). */
export function sign(ring, key, exp, now, more = {}) {
  const [kid, secret] = ring.split(",")[0].split(":");
  const params = Object.entries({ ...more, exp, kid }).sort(([a], [b]) => (a < b ? -1 : 1));
  if (!(now < exp && exp <= now + 7 * 86400) || key.length > 512 || key.startsWith("temp/")) throw new Error("no such link may exist");
  if (!/^[\w./-]+$/.test(key) || key.split("/").some((part) => ["", ".", ".."].includes(part))) throw new Error("not an object key");
  if (!params.every(([, value]) => /^[\w.-]{1,128}$/.test(`${value}`))) throw new Error("not a parameter's value");
  const query = params.map(([name, value]) => `${name}=${value}`);
  const lines = ["signet-link-v1", `/${key}`, ...query].map((line) => `${line}\n`).join("");
  const mac = createHmac("sha256", Buffer.from(secret, "base64")).update(lines).digest("base64url");
  return `/${key}?${[...query, `sig=${mac}`].join("&")}`;
}
