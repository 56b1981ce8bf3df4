// The pictures, newest first, page by page.
import * as api from "./api.js";
import { card } from "./card.js";
import { $, show } from "./dom.js";
import * as store from "./store.js";

const cards = new Map();
let cursor = null;
let open = () => {};

/** `show(id, changed)` opens a picture large. */
export const onOpen = (handler) => (open = handler);

function count() {
  const number = cards.size;
  $("pictures-count").textContent = number ? `${number}${cursor ? "+" : ""}` : "";
  show($("empty"), number === 0);
}

function gone(root) {
  // Focus goes on to a neighbour, not to the top of the page.
  const neighbour = root.nextElementSibling ?? root.previousElementSibling;
  cards.delete(root.dataset.id);
  root.remove();
  (neighbour?.querySelector(".picture") ?? $("pictures")).focus();
  count();
}

function place(image, prompt, first) {
  store.put(image, prompt);
  if (cards.has(image.id)) return;
  const made = card(image.id, { open, gone });
  cards.set(image.id, made);
  if (first) $("gallery").prepend(made.root);
  else $("gallery").append(made.root);
}

/** Puts new pictures in front. */
export function add(images, prompt) {
  for (const image of [...images].reverse()) place(image, prompt, true);
  count();
}

/** Loads the next page. */
export async function more() {
  const answer = await api.list(cursor);
  for (const image of answer?.images ?? []) place(image, undefined, false);
  cursor = answer?.next ?? null;
  show($("more"), Boolean(cursor));
  count();
}

/** Takes a picture off the page after it was deleted elsewhere. */
export const drop = (id) => cards.get(id)?.end();

export function clear() {
  for (const made of cards.values()) made.root.remove();
  cards.clear();
  cursor = null;
  store.clear();
  show($("more"), false);
  show($("empty"), false);
  $("pictures-count").textContent = "";
}
