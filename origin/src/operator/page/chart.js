// Small charts in SVG: stacked areas and lines over time, with a reading line under the pointer and the arrow keys.
// Drawn anew when the data or the width changes; colours are classes, so dark and light are the style sheet's.

const NS = "http://www.w3.org/2000/svg";
const PAD = { left: 52, right: 6, top: 8, bottom: 20 };

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A round top for an axis, and its step. */
export function scale(most, least = 1) {
  const span = Math.max(most, least);
  const rough = span / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  return { step, top: Math.ceil(span / step - 1e-9) * step };
}

const path = (points) => points.map(([x, y], n) => `${n ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** Runs of values that are there: a gap in the data is a gap in the line. */
function runs(values) {
  const all = [];
  values.forEach((value, n) => {
    if (value === null) return;
    if (n === 0 || values[n - 1] === null) all.push([]);
    all.at(-1).push([n, value]);
  });
  return all;
}

/**
 * Draws into `box`. `series`: [{ name, kind, values }], all of one length, null where nothing is known; `kind` is the
 * class that colours it. `stacked` piles them up; else lines, the first one with its area. `time(n)` names a point,
 * `format` its value, `empty` stands there when nothing was ever above 0.
 */
export function draw(box, options) {
  box.chart = options;
  if (!box.watched) {
    box.watched = new ResizeObserver(() => render(box));
    box.watched.observe(box);
  }
  render(box);
}

function render(box) {
  const { series, stacked = false, format, time, ticks = [], empty, least, label } = box.chart;
  const width = Math.max(160, box.clientWidth), height = Math.max(90, box.clientHeight);
  const known = series.some(({ values }) => values.some((value) => value));
  if (!known && empty) {
    const note = document.createElement("p");
    note.className = "empty";
    note.textContent = empty;
    return box.replaceChildren(note);
  }
  const length = series[0].values.length;
  let below = new Array(length).fill(0);
  const shapes = series.map(({ name, kind, values }) => {
    const low = below;
    const high = stacked ? values.map((value, n) => low[n] + (value ?? 0)) : values;
    if (stacked) below = high;
    return { name, kind, values, low, high };
  });
  const most = Math.max(0, ...shapes.flatMap(({ high }) => high.map((value) => value ?? 0)));
  const { step, top } = scale(most, least);
  const x = (n) => PAD.left + (n / Math.max(1, length - 1)) * (width - PAD.left - PAD.right);
  const y = (value) => height - PAD.bottom - (value / top) * (height - PAD.top - PAD.bottom);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0", "aria-label": describe(box.chart) });
  for (let value = 0; value <= top + step / 2; value += step) {
    root.append(svg("line", { class: "rule", x1: PAD.left, x2: width - PAD.right, y1: y(value), y2: y(value) }));
    const text = svg("text", { class: "tick", x: PAD.left - 6, y: y(value) + 4, "text-anchor": "end" });
    text.textContent = format(value);
    root.append(text);
  }
  for (const [n, name, anchor = "middle"] of ticks) {
    const text = svg("text", { class: "tick", x: x(n), y: height - 4, "text-anchor": anchor });
    text.textContent = name;
    root.append(text);
  }
  shapes.forEach(({ kind, low, high }, index) => {
    for (const run of runs(high)) {
      const upper = run.map(([n, value]) => [x(n), y(value)]);
      if (stacked || index === 0) {
        const lower = run.map(([n]) => [x(n), y(low[n])]).reverse();
        root.append(svg("path", { class: `area ${kind}`, d: `${path([...upper, ...lower])}Z` }));
      }
      if (!stacked) root.append(svg("path", { class: `line ${kind}`, d: path(upper) }));
      if (!stacked && run.length === 1) root.append(svg("circle", { class: `dot ${kind}`, cx: upper[0][0], cy: upper[0][1], r: 2.5 }));
    }
  });
  const line = svg("line", { class: "reading", y1: PAD.top, y2: height - PAD.bottom, visibility: "hidden" });
  root.append(line);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  let at = length - 1;
  const read = (n) => {
    at = Math.min(length - 1, Math.max(0, n));
    line.setAttribute("x1", x(at));
    line.setAttribute("x2", x(at));
    line.setAttribute("visibility", "visible");
    const rows = shapes.map(({ name, kind, values }) => row(name, kind, values[at] === null ? "–" : format(values[at])));
    const head = document.createElement("b");
    head.textContent = time(at);
    tip.replaceChildren(head, ...rows.reverse());
    tip.hidden = false;
    const right = x(at) > width / 2;
    tip.style.setProperty("--x", `${right ? width - x(at) + 10 : x(at) + 10}px`);
    tip.classList.toggle("right", right);
  };
  const leave = () => {
    tip.hidden = true;
    line.setAttribute("visibility", "hidden");
    box.reading = null;
  };
  root.addEventListener("pointermove", (event) => {
    const left = root.getBoundingClientRect().left;
    box.reading = Math.round(((event.clientX - left - PAD.left) / (width - PAD.left - PAD.right)) * (length - 1));
    read(box.reading);
  });
  root.addEventListener("pointerleave", leave);
  root.addEventListener("blur", leave);
  root.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: length - 1 }[event.key];
    if (event.key === "Escape") leave();
    if (move === undefined) return;
    event.preventDefault();
    box.reading = move;
    read(move);
  });
  const focused = box.contains(document.activeElement);
  box.replaceChildren(root, tip);
  if (focused) root.focus();
  if (box.reading !== null && box.reading !== undefined) read(box.reading);

  function describe({ series }) {
    const parts = series.map(({ name, values }) => `${name} ${format(values.findLast((value) => value !== null) ?? 0)}`);
    return `${label}: now ${parts.join(", ")}`;
  }
}

function row(name, kind, value) {
  const line = document.createElement("span");
  const mark = document.createElement("i");
  mark.className = `mark ${kind}`;
  line.append(mark, `${name} `, Object.assign(document.createElement("em"), { textContent: value }));
  return line;
}

/** Fills a legend with the series' names. */
export function legend(list, series) {
  if (list.childElementCount) return;
  list.append(
    ...series.map(({ name, kind }) => {
      const item = document.createElement("li");
      item.append(Object.assign(document.createElement("i"), { className: `mark ${kind}` }), name);
      return item;
    }),
  );
}
