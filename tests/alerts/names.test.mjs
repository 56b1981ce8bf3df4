// Dashboard and rules speak of metrics and labels that a live service really exposes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { ROOT, serve } from "../deploy/harness.mjs";

let service, text, series;
before(async () => {
  service = await serve();
  text = await service.metrics();
  // Series as name → label names; histograms count by their three suffixes, as rules name them.
  series = new Map([["up", new Set(["job"])], ["ALERTS", new Set(["alertname", "alertstate"])]]);
  for (const line of text.split("\n").filter((line) => line && !line.startsWith("#"))) {
    const [, name, labels = ""] = /^([a-z_]+)(?:\{(.*)\})? /.exec(line);
    const known = series.get(name) ?? series.set(name, new Set()).get(name);
    for (const [, label] of labels.matchAll(/([a-z_]+)="/g)) known.add(label);
  }
});
after(() => service?.stop());

/** Names of series in an expression, each with the labels it is selected by. */
function* selectors(expression) {
  for (const [, name, labels = ""] of expression.matchAll(/\b(signet_[a-z_]+|up|ALERTS)\b(?:\{([^}]*)\})?/g)) {
    yield [name, [...labels.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label)];
  }
}
function check(expression, where) {
  const found = [...selectors(expression)];
  assert.ok(found.length, `${where} looks at nothing of ours: ${expression}`);
  for (const [name, labels] of found) {
    assert.ok(series.has(name), `${where}: there is no ${name}`);
    for (const label of labels) assert.ok(series.get(name).has(label), `${where}: ${name} has no label ${label}`);
  }
  const names = new Set(found.map(([name]) => name));
  for (const [, list] of expression.matchAll(/by \(([^)]*)\)/g)) {
    for (const label of list.split(/,\s*/)) {
      assert.ok([...names].some((name) => series.get(name).has(label)), `${where}: no series here has the label ${label}`);
    }
  }
}

test("every_panel_of_the_dashboard_asks_for_metrics_that_exist", () => {
  const dashboard = JSON.parse(fs.readFileSync(path.join(ROOT, "deploy/grafana/signet.json"), "utf8"));
  const panels = dashboard.panels.filter(({ type }) => type !== "row");
  assert.ok(panels.length > 20);
  for (const panel of panels) for (const { expr } of panel.targets) check(expr, panel.title);
  for (const { name, expr } of dashboard.annotations.list) check(expr, name);
  assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
});

test("no_panel_lies_on_another", () => {
  const { panels } = JSON.parse(fs.readFileSync(path.join(ROOT, "deploy/grafana/signet.json"), "utf8"));
  const taken = new Set();
  for (const { title, gridPos: { x, y, w, h } } of panels) {
    assert.ok(x + w <= 24, title);
    for (let i = x; i < x + w; i++) for (let j = y; j < y + h; j++) {
      assert.ok(!taken.has(`${i},${j}`), `${title} lies on another panel`);
      taken.add(`${i},${j}`);
    }
  }
});

test("every_metric_of_ours_is_on_the_dashboard", () => {
  const dashboard = fs.readFileSync(path.join(ROOT, "deploy/grafana/signet.json"), "utf8");
  for (const [, name] of text.matchAll(/^# TYPE (signet_[a-z_]+) /gm)) {
    if (name.endsWith("not_before_seconds")) continue; // its alert is enough
    assert.ok(dashboard.includes(name), `${name} is on no panel`);
  }
});

test("every_rule_asks_for_metrics_that_exist", () => {
  const rules = fs.readFileSync(path.join(ROOT, "deploy/prometheus/alerts.yml"), "utf8");
  for (const [, name, body] of rules.matchAll(/- alert: (\w+)\n([\s\S]*?)\n {8}for:/g)) check(body.replace(/^\s*#.*$/gm, ""), name);
});

test("promtool_has_nothing_to_say_about_the_metrics", () => {
  const said = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8", timeout: 60_000 });
  assert.equal(said.status, 0, said.stderr + said.stdout);
});
