// Small helpers to build and find elements. Text only ever enters as text: nothing here parses HTML.

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `data-*` and `aria-*` as attributes) and children. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "class" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A picture from the page's sprite. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Shows or hides. */
export const show = (element, visible = true) => (element.hidden = !visible);

let toastTimer;
/** A short note at the bottom, read out politely. */
export function toast(text) {
  const note = $("toast");
  note.textContent = text;
  note.classList.add("on");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => note.classList.remove("on"), 3500);
}

/** Read out, not shown. */
export const announce = (text) => ($("live").textContent = text);
