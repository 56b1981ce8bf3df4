// The Durable Objects: storage and alarms. Every rule is in the wasm module.
import * as glue from "./edge_bg.js";
import { start } from "./instance.js";

/** Keeps what is revoked: a row for each page of entries, with its digest and its filter. */
export class Revocations {
  constructor(state) {
    this.sql = state.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS about (lineage TEXT NOT NULL, version INTEGER NOT NULL, taken INTEGER NOT NULL)");
    this.sql.exec("CREATE TABLE IF NOT EXISTS pages (page INTEGER PRIMARY KEY, digest TEXT NOT NULL, version INTEGER NOT NULL, read_at INTEGER NOT NULL, entries TEXT NOT NULL, filter BLOB NOT NULL)");
    this.sql.exec("CREATE INDEX IF NOT EXISTS pages_by_version ON pages (version)");
    this.sql.exec("INSERT INTO about SELECT ?, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM about)", crypto.randomUUID().replaceAll("-", ""));
  }

  about() {
    const { lineage, version, taken } = this.sql.exec("SELECT * FROM about").one();
    return `${lineage} ${version} ${taken}`;
  }

  set_version(version) {
    this.sql.exec("UPDATE about SET version = ?", version);
  }

  set_taken(taken) {
    this.sql.exec("UPDATE about SET taken = ?", taken);
  }

  digests() {
    let lines = "";
    for (const { page, digest } of this.sql.exec("SELECT page, digest FROM pages WHERE digest <> '' ORDER BY page")) lines += `${page} ${digest}\n`;
    return lines;
  }

  row(page) {
    return this.sql.exec("SELECT read_at, entries FROM pages WHERE page = ?", page).toArray()[0];
  }

  read_at(page) {
    return this.row(page)?.read_at ?? 0;
  }

  entries(page) {
    return this.row(page)?.entries ?? "";
  }

  put(page, digest, version, read_at, entries, filter) {
    this.sql.exec("INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?)", page, digest, version, read_at, entries, filter.slice());
  }

  changed(version) {
    const rows = this.sql.exec("SELECT page, filter FROM pages WHERE version > ?", version).toArray();
    const bytes = new Uint8Array(rows.reduce((sum, { filter }) => sum + 4 + filter.byteLength, 0));
    const view = new DataView(bytes.buffer);
    let at = 0;
    for (const { page, filter } of rows) {
      view.setUint16(at, page);
      view.setUint16(at + 2, filter.byteLength);
      bytes.set(new Uint8Array(filter), at + 4);
      at += 4 + filter.byteLength;
    }
    return bytes;
  }

  async fetch(request) {
    const text = await request.text();
    try {
      if (request.method === "PUT") {
        const [status, ...lines] = glue.revoked_put(this, text).split("\n");
        return new Response(status === "204" ? null : lines.join("\n"), { status: Number(status) });
      }
      if (text.startsWith("look")) return new Response(glue.revoked_look(this, text));
      const update = glue.revoked_changes(this, text);
      return update.byteLength ? new Response(update) : new Response(null, { status: 404 });
    } catch (error) {
      console.error("edge: the revocations failed:", error?.message ?? error);
      if (error instanceof WebAssembly.RuntimeError) start();
      return new Response(null, { status: 500 });
    }
  }
}

/** Between two looks at what has ended, in milliseconds. */
const FORGET_EVERY = 60_000;
/** An object keeps so many rows; beyond them those go that would end first. docs/edge.md says what that comes to. */
const MOST_ROWS = 65_536;

/** An object of small rows, each of which ends by itself. */
export class Rows {
  constructor(state) {
    this.state = state;
    this.sql = state.storage.sql;
    this.begin();
  }

  begin() {
    this.sql.exec("CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, value BLOB NOT NULL, ends INTEGER NOT NULL) WITHOUT ROWID");
    this.count();
    this.woken = false;
  }

  count() {
    this.rows = this.sql.exec("SELECT count(*) AS rows FROM rows").one().rows;
  }

  read(key) {
    const [row] = this.sql.exec("SELECT value FROM rows WHERE key = ?", key.slice());
    return row && new Uint8Array(row.value);
  }

  write(key, value, ends) {
    if (this.rows >= MOST_ROWS) this.count();
    if (this.rows >= MOST_ROWS) {
      this.sql.exec("DELETE FROM rows WHERE key IN (SELECT key FROM rows ORDER BY ends LIMIT ?)", MOST_ROWS / 8);
      this.count();
    }
    // A row that was there is counted too, until the next count.
    this.rows += 1;
    this.sql.exec(
      "INSERT INTO rows VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET value = ?2, ends = ?3", key.slice(), value.slice(), ends,
    );
  }

  /** Asks for an alarm, unless one is under way. */
  async wake() {
    if (this.woken) return;
    this.woken = true;
    if ((await this.state.storage.getAlarm()) === null) await this.state.storage.setAlarm(Date.now() + FORGET_EVERY);
  }

  async alarm() {
    this.sql.exec("DELETE FROM rows WHERE ends <= ?", Date.now());
    this.count();
    this.woken = this.rows > 0;
    if (this.woken) return this.state.storage.setAlarm(Date.now() + FORGET_EVERY);
    // Nothing is left: not even empty pages.
    return this.state.blockConcurrencyWhile(async () => {
      await this.state.storage.deleteAll();
      this.begin();
    });
  }

  async answer(request, rule) {
    try {
      const text = rule(this, await request.text(), Date.now());
      await this.wake();
      return new Response(text);
    } catch (error) {
      console.error("edge: an object failed:", error?.message ?? error);
      if (error instanceof WebAssembly.RuntimeError) start();
      return new Response(null, { status: 500 });
    }
  }
}

/** Counts arrivals at generation routes, and who is blocked. */
export class PenaltyBox extends Rows {
  fetch(request) {
    return this.answer(request, glue.penalty_arrive);
  }
}

/** Keeps, for each token id, the time by which the limit `token` goes. */
export class TokenLimit extends Rows {
  fetch(request) {
    return this.answer(request, glue.token_limit);
  }
}
