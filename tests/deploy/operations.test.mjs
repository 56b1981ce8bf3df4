// docs/operations.md says nothing that does not exist: commands, settings, alerts, files.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { program, ROOT } from "./harness.mjs";

const read = (file) => fs.readFileSync(path.join(ROOT, file), "utf8");
const page = read("docs/operations.md");
const helps = new Map();
const help = (words) => {
  const name = words.join(" ");
  if (!helps.has(name)) helps.set(name, execFileSync(program(), [...words, "--help"], { encoding: "utf8" }));
  return helps.get(name);
};
/** The words of a shell line; quoted ones stay together. */
const split = (line) => line.match(/"[^"]*"|'[^']*'|[^\s"']+/g) ?? [];
const commands = [
  ...[...page.matchAll(/`(signet [^`]+)`/g)].map(([, line]) => line),
  ...page.split("\n").filter((line) => /^ {4,}/.test(line)).flatMap((line) => line.split(/&&|\|/)).map((line) => line.trim().replace(/^sudo -u signet /, "")).filter((line) => line.startsWith("signet ")),
];

test("every_command_of_the_runbooks_exists", () => {
  assert.ok(commands.length > 20, String(commands.length));
  for (const line of commands) {
    const words = split(line).slice(1);
    while (words[0] === "--config") words.splice(0, 2);
    const pathTo = [];
    // Words are commands as long as the help above them lists them so.
    while (words.length && new RegExp(`^  ${words[0].replace(/[^\w-]/g, "\\$&")}(\\s|$)`, "m").test(help(pathTo).split("Options:")[0])) pathTo.push(words.shift());
    assert.ok(pathTo.length, `signet has no command ${line}`);
    const text = help(pathTo);
    assert.ok(!/^Commands:/m.test(text), `${line} names no command of its group`);
    for (const word of words.filter((word) => /^-/.test(word))) assert.match(text, new RegExp(`(^|[\\s,])${word.replace(/=.*/, "")}\\b`, "m"), `${line}: no ${word}`);
    const given = words.filter((word, at) => !/^-/.test(word) && !/^-/.test(words[at - 1] ?? ""));
    const wanted = /Usage: .*/.exec(text)[0].match(/<[A-Z_]+>/g) ?? [];
    assert.ok(given.length <= wanted.length || /\[[A-Z_]+\]/.test(text), `${line}: ${text.split("\n").find((l) => l.startsWith("Usage"))}`);
  }
});

test("every_setting_of_the_runbooks_exists", () => {
  const settings = new Set();
  let section = "";
  for (const line of read("docs/configuration.md").split("\n")) {
    section = /^\[([\w.]+)\]/.exec(line)?.[1] ?? section;
    settings.add(section);
    const name = /^(\w+) = /.exec(line)?.[1];
    if (name) settings.add(`${section}.${name}`);
  }
  // Settings without a default are on the page of settings only in its table, and in the sources.
  for (const [, name] of read("docs/configuration.md").matchAll(/`(\w+(?:\.\w+)+)`/g)) settings.add(name);
  const named = [...page.matchAll(/`((?:server|images|edge|limits|state|storage|infer|queue|uploads|sweep|auth|telemetry)\.[a-z_0-9.]+)(?: = [^`]*)?`/g)].map(([, name]) => name);
  assert.ok(named.length > 5);
  for (const name of named) assert.ok(settings.has(name), `there is no setting ${name}`);
});

test("every_alert_has_a_line_and_every_line_an_alert", () => {
  const alerts = [...read("deploy/prometheus/alerts.yml").matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const table = page.split("## Alerts")[1].split("\n## ")[0];
  const lines = [...table.matchAll(/`(Signet\w+|…\w+|Signet\w+…)`/g)].map(([, name]) => name);
  const covered = (alert) => lines.some((line) => line === alert || (line.endsWith("…") && alert.startsWith(line.slice(0, -1))) || (line.startsWith("…") && alert.endsWith(line.slice(1))));
  for (const alert of alerts) assert.ok(covered(alert), `${alert} has no runbook`);
  for (const [, name] of page.matchAll(/`(Signet\w+)`/g)) assert.ok(alerts.includes(name), `there is no alert ${name}`);
});

test("every_runbook_of_the_issue_and_every_file_is_there", () => {
  for (const title of ["Patching", "Backup and restore", "Leaked key", "Hot-linking wave", "Prompt flood", "Storage spike", "GPU lost", "Redis lost", "R2 lost"]) assert.match(page, new RegExp(`^## ${title}$`, "m"));
  const titles = new Set([...page.matchAll(/^## (.+)$/gm)].map(([, title]) => title.toLowerCase().replace(/[^a-z0-9 -]/g, "").replace(/ /g, "-")));
  for (const [, anchor] of page.matchAll(/\]\(#([^)]+)\)/g)) assert.ok(titles.has(anchor), `#${anchor}`);
  for (const [, file] of page.matchAll(/`?((?:deploy|docs|scripts|\.github)\/[\w./-]+\w\/?)/g)) assert.ok(fs.existsSync(path.join(ROOT, file)), file);
});
