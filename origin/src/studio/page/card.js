// A picture in the gallery: the image through its signed link, its countdown, its buttons.
import { now } from "./api.js";
import { el, icon, toast } from "./dom.js";
import * as actions from "./actions.js";
import * as life from "./life.js";
import * as store from "./store.js";
import { size } from "./usage.js";

const tool = (name, label, onclick) =>
  el("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick }, icon(name));

/** Builds the card. `open(id)` shows it large, `gone(card)` removes it. */
export function card(id, { open, gone }) {
  const image = store.get(id);
  const img = el("img", { alt: store.alt(image), width: image.width, height: image.height, decoding: "async" });
  const name = store.alt(image);
  const lifeText = el("span", { class: "left", "aria-hidden": "true" });
  const lifeSaid = el("span", { class: "sr" });
  const ring = el("span", { class: "ring", "aria-hidden": "true" });
  const renew = el("button", { type: "button", class: "life", onclick: () => actions.busy(renew, renewLink) }, ring, lifeText, lifeSaid);
  const keep = tool("keep", "Keep", () => actions.busy(keep, toggleKeep));
  const copy = tool("copy", `Copy link: ${name}`, () => actions.busy(copy, () => actions.copyLink(id, update)));
  const down = tool("down", `Download: ${name}`, () => actions.busy(down, () => actions.download(id)));
  const bin = tool("bin", `Delete: ${name}`, () => actions.busy(bin, async () => (await actions.remove(id)) && end()));
  const picture = el("button", { type: "button", class: "picture", "aria-label": `Open ${name}`, onclick: () => open(id, update) }, img);
  const caption = el("p", { class: "caption", title: name }, store.promptOf(id) ?? `Seed ${image.seed}`);
  const facts = el("p", { class: "fine" });
  const root = el("li", { class: "card", "data-id": id }, picture,
    el("div", { class: "card-text" }, caption, facts),
    el("div", { class: "tools" }, renew, el("span", { class: "grow" }), copy, down, keep, bin));

  let full = 3600; // seconds the ring stands for
  const unwatch = life.watch(() => store.expiry(id), (left) => {
    full = Math.max(full, left);
    root.dataset.life = life.state(left);
    lifeText.textContent = left > 0 ? life.short(left) : "Expired";
    ring.style.setProperty("--part", String(Math.max(0, Math.min(1, left / full))));
    const said = `${life.spoken(left)}. New link: ${name}`;
    if (lifeSaid.textContent !== said) lifeSaid.textContent = said;
  });
  renew.title = "When this link ends. Press for a new one.";

  img.addEventListener("load", () => (root.dataset.image = "shown"));
  // Not reached, refused or expired meanwhile: the card says so, and its countdown offers a new link.
  img.addEventListener("error", () => (root.dataset.image = "broken"));

  function update(changed) {
    if (img.src !== changed.url) img.src = changed.url;
    full = Math.max(1, store.expiry(id) - now());
    life.refresh();
    facts.textContent = `${changed.width}×${changed.height} · ${changed.extension.toUpperCase()} · ${size(changed.bytes)}`;
    root.classList.toggle("kept", changed.kept);
    keep.setAttribute("aria-pressed", String(changed.kept));
    keep.setAttribute("aria-label", `Keep: ${name}`);
    keep.title = changed.kept ? "Kept without end. Press to let it go after 30 days." : "Keep it beyond 30 days";
  }
  async function renewLink() {
    update(await store.renew(id));
    toast("New link. The old one still opens until its own end.");
  }
  async function toggleKeep() {
    const wanted = !store.get(id).kept;
    update(await store.setKept(id, wanted));
    toast(wanted ? "Kept. It no longer expires." : "No longer kept: it goes after 30 days.");
  }
  function end() {
    unwatch();
    gone(root);
  }
  update(image);
  return { root, end };
}
