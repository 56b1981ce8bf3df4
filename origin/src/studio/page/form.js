// The form: what is asked for, within what the model can do.
import { $, el, show } from "./dom.js";

const SHAPES = [["Square", 1, 1], ["Portrait", 3, 4], ["Landscape", 4, 3]];
let model = null;

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;
const fit = (side) =>
  Math.min(model.max_side, Math.max(model.min_side, Math.round(side / model.multiple) * model.multiple));

/** The sizes offered: the model's own first, then other shapes of about as many pixels. */
function presets() {
  const area = model.width * model.height;
  const sizes = [["Native", model.width, model.height]];
  for (const [name, w, h] of SHAPES) {
    const side = Math.sqrt(area / (w * h));
    const [width, height] = [fit(side * w), fit(side * h)];
    if (!sizes.some(([, a, b]) => a === width && b === height)) sizes.push([name, width, height]);
  }
  return sizes;
}

function sizeChip(name, width, height, checked) {
  const value = width ? `${width}x${height}` : "custom";
  const shape = el("span", { class: `shape ${!width ? "free" : width === height ? "square" : width < height ? "tall" : "wide"}`, "aria-hidden": "true" });
  return el("label", { class: "chip" },
    el("input", { type: "radio", name: "size", value, checked, onchange: sizeChanged }),
    el("span", {}, shape, width ? `${width}×${height}` : name, el("span", { class: "sr" }, width ? `, ${name}` : "")));
}

function sizeChanged() {
  show($("custom-size"), chosen("size") === "custom");
  checkSize();
  changed();
}

function size() {
  const value = chosen("size");
  if (!value) return null;
  if (value !== "custom") {
    const [width, height] = value.split("x").map(Number);
    return { width, height };
  }
  return { width: Number($("width").value), height: Number($("height").value) };
}

/** Whether a custom size is one the model makes; says so when not. */
function checkSize() {
  const asked = size();
  const good = !asked || [asked.width, asked.height].every(
    (side) => Number.isInteger(side) && side >= model.min_side && side <= model.max_side && side % model.multiple === 0);
  for (const id of ["width", "height"]) $(id).setAttribute("aria-invalid", String(!good));
  $("size-wrong").textContent = good ? "" : `Sides go from ${model.min_side} to ${model.max_side} in steps of ${model.multiple}.`;
  show($("size-wrong"), !good);
  return good;
}

let changed = () => {};

/** Fills the form with what the model can do; `onChange` hears of every change. */
export function setUp(about, onChange) {
  model = about.models[0];
  changed = () => {
    $("prompt-count").textContent = $("prompt").value.length > 1500 ? `${$("prompt").value.length} / ${about.max_prompt}` : "";
    $("steps-value").value = $("steps").value;
    $("guidance-value").value = Number($("guidance").value) <= 1 ? "off" : Number($("guidance").value).toFixed(1);
    for (const id of ["steps", "guidance"]) {
      const { min, max, value } = $(id);
      $(id).style.setProperty("--part", String((value - min) / (max - min)));
    }
    const cost = units();
    $("cost").textContent = cost === null ? "" : `${cost} unit${cost === "1" ? "" : "s"}`;
    onChange();
  };
  $("sizes").replaceChildren(...presets().map(([name, w, h], i) => sizeChip(name, w, h, i === 0)), sizeChip("Other…", 0, 0, false));
  for (const id of ["width", "height"]) {
    Object.assign($(id), { min: model.min_side, max: model.max_side, step: model.multiple, value: model[id] });
    $(id).addEventListener("input", sizeChanged);
  }
  Object.assign($("steps"), { max: model.max_steps });
  $("steps").value = model.steps;
  $("guidance").value = model.guidance_scale;
  $("prompt").maxLength = $("negative").maxLength = about.max_prompt;
  for (const id of ["prompt", "negative", "steps", "guidance"]) $(id).addEventListener("input", changed);
  for (const input of document.querySelectorAll('input[name="n"], input[name="format"]')) input.addEventListener("change", changed);
  $("seed").addEventListener("input", () => ($("seed").value = $("seed").value.replace(/\D+/g, "")));
  $("dice").addEventListener("click", () => {
    $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
  });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("composer").requestSubmit();
  });
  changed();
}

/** What the request will cost, as the service counts: n × steps × area / 512², twice with guidance. */
function units() {
  const asked = size();
  if (!asked || !checkSize()) return null;
  const guided = Number($("guidance").value) > 1 ? 2 : 1;
  const cost = (Number(chosen("n")) * Number($("steps").value) * asked.width * asked.height * guided) / (512 * 512);
  return String(Math.ceil(cost * 1000) / 1000);
}

/** The request's body, or null with the place to mend focused. */
export function read() {
  const prompt = $("prompt").value.trim();
  if (!prompt) {
    $("prompt").focus();
    $("prompt").setAttribute("aria-invalid", "true");
    $("prompt").addEventListener("input", () => $("prompt").removeAttribute("aria-invalid"), { once: true });
    return null;
  }
  if (!checkSize()) {
    $("width").focus();
    return null;
  }
  const negative = $("negative").value.trim();
  const seed = $("seed").value;
  return {
    prompt,
    ...(negative && { negative_prompt: negative }),
    ...size(),
    steps: Number($("steps").value),
    guidance_scale: Number($("guidance").value),
    ...(seed && { seed: seed.replace(/^0+(?=\d)/, "") }),
    n: Number(chosen("n")),
    format: chosen("format"),
  };
}

/** Puts a picture's seed and size, and its prompt when known, into the form. */
export function reuse(image, prompt) {
  $("seed").value = String(image.seed);
  if (prompt) $("prompt").value = prompt;
  const value = `${image.width}x${image.height}`;
  const preset = [...document.querySelectorAll('input[name="size"]')].find((input) => input.value === value);
  (preset ?? document.querySelector('input[name="size"][value="custom"]')).checked = true;
  [$("width").value, $("height").value] = [image.width, image.height];
  sizeChanged();
  $("prompt").focus();
}
