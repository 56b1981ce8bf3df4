// What an origin tells an edge of what is revoked, written from docs/edge.md and not from our Rust code.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { request } from "./harness.mjs";
import { signPut } from "./rfc9421.mjs";

export const PATH = "/.signet/revocations";
export const NEVER = 253402300799;
/** Longest message. */
export const MOST = 1024 * 1024;

const sha = (text) => createHash("sha256").update(text).digest();
const page_of = (kind, name) => {
  const digest = sha(`${kind === "suspended" || kind === "epoch" ? "owner" : kind} ${name}`);
  return (digest[0] << 4) | (digest[1] >> 4);
};
const hex16 = (number) => number.toString(16).padStart(16, "0");

/** A PUT as the origin signs it. */
export const put = (edge, body, headers = signPut(edge.vars.EDGE_KEYS, edge.vars.API_HOST, PATH, body)) =>
  request(edge, PATH, { host: "api", method: "PUT", headers, body });

/** What an origin knows to be revoked. */
export class Revoked {
  pages = new Map();

  set(kind, name, { value = 0, ends = NEVER } = {}) {
    this.remove(kind, name);
    const number = page_of(kind, name);
    const page = this.pages.get(number) ?? { lines: new Map(), digest: 0n };
    const line = `${kind} ${name} ${value} ${ends}`;
    const digest = sha(line).readBigUInt64BE() >> 1n;
    page.lines.set(`${kind} ${name}`, { line, digest });
    page.digest ^= digest;
    this.pages.set(number, page);
    return this;
  }

  remove(kind, name) {
    const number = page_of(kind, name);
    const page = this.pages.get(number);
    const known = page?.lines.get(`${kind} ${name}`);
    if (!known) return;
    page.digest ^= known.digest;
    page.lines.delete(`${kind} ${name}`);
    if (!page.lines.size) this.pages.delete(number);
  }

  digests() {
    return [...this.pages].sort(([a], [b]) => a - b).map(([number, { digest }]) => `${number} ${hex16(digest)}`);
  }

  root() {
    return sha(this.digests().map((line) => `${line}\n`).join("")).toString("hex").slice(0, 32);
  }

  page(number) {
    const lines = [...(this.pages.get(number)?.lines.values() ?? [])].map(({ line }) => `${line}\n`);
    return `page ${number}\n${lines.join("")}`;
  }

  /** Tells the edge until it holds the same; what that took. */
  async tell(edge, taken = Date.now()) {
    const head = (root) => `signet-revoked-v2 ${taken} ${root}\n`;
    const sent = { messages: 1, pages: 0, bytes: 0 };
    const first = await put(edge, head(this.root()));
    if (first.status === 204) return sent;
    assert.equal(first.status, 409, first.body.toString());
    const held = new Map(first.body.toString().split("\n").filter(Boolean).map((line) => line.split(" ")));
    const own = new Map(this.digests().map((line) => line.split(" ")));
    const differing = [...new Set([...held.keys(), ...own.keys()])].filter((page) => held.get(page) !== own.get(page));
    const texts = [""];
    for (const number of differing.map(Number).sort((a, b) => a - b)) {
      const text = this.page(number);
      if (texts.at(-1).length + text.length > MOST - 100) texts.push("");
      texts[texts.length - 1] += text;
    }
    for (const [n, text] of texts.entries()) {
      const last = n === texts.length - 1;
      const answer = await put(edge, head(last ? this.root() : "more") + text);
      assert.equal(answer.status, 204, `message ${n}: ${answer.body}`);
      sent.messages += 1;
      sent.bytes += text.length;
    }
    sent.pages = differing.length;
    return sent;
  }
}
