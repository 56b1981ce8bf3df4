// The Durable Objects: storage and alarms. Every rule is in the wasm module.
import * as glue from "./edge_bg.js";
import { start } from "./instance.js";

/** Keeps the newest snapshot of what is revoked. An older one, sent again, changes nothing. */
export class Revocations {
  constructor(state) {
    this.storage = state.storage;
  }

  async fetch(request) {
    const kept = await this.storage.get("snapshot");
    if (request.method === "GET") return new Response(kept ?? null, { status: kept ? 200 : 404 });
    const text = await request.text();
    if (!kept || glue.taken_ms(text) > glue.taken_ms(kept)) await this.storage.put("snapshot", text);
    return new Response(null, { status: 204 });
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
