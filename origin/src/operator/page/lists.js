// The lists: tables that are drawn anew at each look, and what stands there when there is nothing to tell. A list whose
// content did not change is left alone, and focus stays on the button it was on.
import { el } from "./dom.js";
import { ago, clock, count, hash } from "./format.js";
import { actions, cancelButton } from "./actions.js";

function fill(box, key, make) {
  const text = JSON.stringify(key);
  if (box.known === text) return;
  box.known = text;
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  box.replaceChildren(make());
  if (focused) [...box.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused)?.focus({ preventScroll: true });
}

const empty = (text) => el("p", { class: "empty" }, text);

function table(box, rows, heads, cells, nothing) {
  fill(box, [rows, rows.map((row) => cells(row).map((cell) => cell?.textContent ?? cell))], () => {
    if (!rows.length) return empty(nothing);
    const head = el("tr", {}, ...heads.map((name) => el("th", { scope: "col" }, name || el("span", { class: "sr" }, "Actions"))));
    const body = rows.map((row) => el("tr", {}, ...cells(row).map((cell) => el("td", {}, cell ?? ""))));
    return el("table", {}, el("thead", {}, head), el("tbody", {}, ...body));
  });
}

const code = (text, title = text) => el("code", { title }, text);
const many = (list, more) => (more ? `${list.length} or more` : String(list.length));

export function limited(box, rows, now) {
  table(
    box,
    rows,
    ["Who", "Limit", "Refused", "Last", ""],
    (row) => [code(row.user ?? row.address), row.policy, count(row.count), ago(now, row.last), row.user ? actions("limited", row.user) : ""],
    "Nobody was limited in the last hour.",
  );
}

export function reasons(box, rows) {
  fill(box, rows, () => {
    if (!rows.length) return empty("Nothing was refused in the last hour.");
    const most = Math.max(...rows.map((row) => row.count));
    return el(
      "ul",
      { class: "bars" },
      ...rows.map((row) => {
        const fill = el("span", { class: "fill" });
        fill.style.setProperty("--part", row.count / most);
        return el("li", {}, el("span", {}, row.reason), el("b", {}, count(row.count)), el("span", { class: "track" }, fill));
      }),
    );
  });
}

export function prompts(box, rows, now) {
  table(
    box,
    rows,
    ["Hash", "Times", "Users", "Last", ""],
    (row) => [
      code(hash(row.hash), row.hash),
      count(row.count),
      el("span", { title: row.users.join(", ") }, many(row.users, row.more)),
      ago(now, row.last),
      row.users.length === 1 ? actions("prompts", row.users[0]) : "",
    ],
    "No prompt was repeated.",
  );
}

export function sessions(box, rows) {
  table(
    box,
    rows,
    ["Session", "User", "Addresses", ""],
    (row) => [
      code(`${row.session}…`),
      code(row.user ?? ""),
      el("span", { title: row.addresses.join(", ") }, many(row.addresses, row.more)),
      row.user ? actions("sessions", row.user) : "",
    ],
    "Every session is used from one address.",
  );
}

export function jobs(box, rows) {
  const state = (row) =>
    ({ queued: `waits, ${row.position} ahead`, running: `step ${row.step} of ${row.steps}`, storing: "is stored" })[row.status];
  table(
    box,
    rows,
    ["Job", "User", "State", "Units", ""],
    (row) => [code(`…${row.id.slice(-12)}`, row.id), code(row.user), state(row), row.cost_units.toFixed(1), cancelButton(row)],
    "No job is under way.",
  );
}

export function decided(box, rows) {
  table(
    box,
    rows,
    ["User", "Decision", ""],
    (row) => {
      const parts = [row.suspended && "suspended", row.link_epoch > 0 && `links revoked ${row.link_epoch}×`].filter(Boolean);
      return [code(row.user), parts.join(", "), actions("decided", row.user, row.suspended)];
    },
    "Nobody is suspended, no links are revoked.",
  );
}

export function refusals(box, rows, now) {
  table(
    box,
    rows,
    ["When", "Status", "Reason", "Route", "Who"],
    (row) => [ago(now, row.at), String(row.status), row.policy ?? row.code, code(row.route, `request ${row.request_id}`), code(row.user ?? row.address ?? "")],
    "No request was refused yet.",
  );
}

export function audit(box, rows, now) {
  table(
    box,
    rows,
    ["When", "Who", "Did", "To"],
    (row) => [ago(now, row.at), code(row.actor, `${row.address} · request ${row.request_id}`), row.action, code(row.subject)],
    "No operator did anything yet.",
  );
}

/** Users by hours as a field of squares; the numbers stand in the cells for those who do not see shades. */
export function hours(box, rows, now) {
  const begin = Math.floor(now / 3600) - 23;
  fill(box, [rows, begin], () => {
    if (!rows.length) return empty("No pictures were made in the last 24 hours.");
    const most = Math.max(...rows.flatMap((row) => row.counts));
    const heads = rows[0].counts.map((_, n) => {
      const name = clock((begin + n) * 3600);
      return el("th", { scope: "col" }, el("span", { class: n % 3 ? "sr" : "" }, name));
    });
    const body = rows.map((row) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, code(row.user)),
        ...row.counts.map((n, at) => {
          const cell = el("td", { class: n ? "on" : "", title: `${row.user}, ${clock((begin + at) * 3600)}: ${n}` }, n ? count(n) : "");
          // No deeper than the text can be read on, in light and dark.
          cell.style.setProperty("--part", n ? 0.1 + 0.4 * (n / most) : 0);
          return cell;
        }),
        el("td", { class: "sum" }, count(row.counts.reduce((sum, n) => sum + n, 0))),
      ),
    );
    const head = el("tr", {}, el("th", { scope: "col" }, "User"), ...heads, el("th", { scope: "col" }, "Sum"));
    return el("table", { class: "heat" }, el("thead", {}, head), el("tbody", {}, ...body));
  });
}
