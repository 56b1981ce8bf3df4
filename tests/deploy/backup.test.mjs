// A backup taken from a live service brings everything back: users, keys, pictures and links.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { request, ROOT, serve } from "./harness.mjs";

const BACKUP = path.join(ROOT, "deploy/systemd/backup");
let service;
after(() => service?.stop());

test("a_backup_taken_live_restores", async () => {
  // Ports change with each start; the tokens' issuer must not.
  const settings = { SIGNET_AUTH__ISSUER: "https://api.example.com" };
  service = await serve(settings, { keep: true });
  const { folder } = service;
  try {
    const token = await service.token();
    const made = (await service.generate(token, { prompt: "before the loss" })).json();
    const [{ url, id }] = made.images;
    // While requests write.
    const busy = Promise.all([1, 2, 3].map((seed) => service.generate(token, { prompt: "meanwhile", seed })));
    const taken = execFileSync(BACKUP, [service.env.SIGNET_STATE__FILE, path.join(folder, "backups")], { encoding: "utf8" }).trim();
    await busy;
    assert.equal(fs.statSync(taken).mode & 0o777, 0o700);
    for (const name of fs.readdirSync(taken)) assert.equal(fs.statSync(path.join(taken, name)).mode & 0o077, 0, name);
    service.kill("SIGKILL");
    await service.stop();
    for (const name of fs.readdirSync(folder).filter((name) => /^signet\.sqlite|^link-keys|^provenance/.test(name))) fs.rmSync(path.join(folder, name));
    execFileSync(BACKUP, ["--restore", taken, path.join(folder, "signet.sqlite")]);
    service = await serve(settings, { folder, keep: true });
    const headers = { authorization: `Bearer ${token}` };
    const list = await request(`${service.url}/api/images`, { headers });
    assert.equal(list.status, 200, "the token's key and its user are back");
    assert.ok(list.json().images.some((image) => image.id === id));
    const link = new URL(url);
    const picture = await request(`${service.imagesUrl}${link.pathname}${link.search}`, { headers: { host: `localhost:${service.imagesUrl.split(":").pop()}` } });
    assert.equal(picture.status, 200, "the link's key is back");
    const again = await service.generate(token, { prompt: "after it" });
    assert.equal(again.status, 200, String(again.body));
  } finally {
    await service.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  }
});

test("a_damaged_backup_is_refused_before_anything_is_replaced", () => {
  const dir = fs.mkdtempSync(path.join(process.env.TMPDIR ?? "/tmp", "signet-damaged-"));
  try {
    execFileSync("python3", ["-c", "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('create table t(x)'); d.executemany('insert into t values(?)', [('a'*500,)]*200); d.execute('create index i on t(x)'); d.commit()", path.join(dir, "signet.sqlite")]);
    const bytes = fs.readFileSync(path.join(dir, "signet.sqlite"));
    bytes.fill(0x5a, 8192, 24576);
    fs.writeFileSync(path.join(dir, "signet.sqlite"), bytes);
    fs.writeFileSync(path.join(dir, "live"), "what is there");
    const { status, stderr } = spawnSync(BACKUP, ["--restore", dir, path.join(dir, "live")], { encoding: "utf8" });
    assert.notEqual(status, 0);
    assert.match(stderr, /damaged|malformed/);
    assert.equal(fs.readFileSync(path.join(dir, "live"), "utf8"), "what is there");
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
});
