// One picture large, with its facts, its link and what to do with them.
import { $, el, toast } from "./dom.js";
import * as actions from "./actions.js";
import * as form from "./form.js";
import * as life from "./life.js";
import * as store from "./store.js";
import { size } from "./usage.js";

let id = null;
let changed = () => {};
let unwatch = () => {};

function fact(name, value) {
  return [el("dt", {}, name), el("dd", {}, value)];
}

function render() {
  const image = store.get(id);
  const picture = $("viewer-image");
  if (picture.src !== image.url) picture.src = image.url;
  picture.alt = store.alt(image);
  Object.assign(picture, { width: image.width, height: image.height });
  $("viewer-title").textContent = store.promptOf(id) ?? `Seed ${image.seed}`;
  $("viewer-facts").replaceChildren(
    ...fact("Size", `${image.width} × ${image.height}`),
    ...fact("Seed", String(image.seed)),
    ...fact("File", `${image.extension.toUpperCase()}, ${size(image.bytes)}`),
    ...fact("Kept", image.kept ? "Yes, without end" : "For 30 days"));
  $("viewer-link").value = image.url;
}

/** Opens the picture; `update(image)` hears of new links. */
export function open(picture, update) {
  [id, changed] = [picture, update];
  render();
  unwatch = life.watch(() => store.expiry(id), (left) => {
    const text = left > 0 ? `Opens for ${life.short(left)} more.` : "This link has expired. Make a new one below.";
    $("viewer-life").textContent = text;
    $("viewer").dataset.life = life.state(left);
  });
  $("viewer").showModal();
}

export function setUp() {
  const viewer = $("viewer");
  viewer.addEventListener("close", () => {
    unwatch();
    $("viewer-image").removeAttribute("src");
  });
  // A press on the backdrop lands on the dialog itself.
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
  $("viewer-close").addEventListener("click", () => viewer.close());
  $("viewer-link").addEventListener("focus", () => $("viewer-link").select());
  $("viewer-copy").addEventListener("click", () => actions.busy($("viewer-copy"), () => actions.copyLink(id, (image) => (changed(image), render()))));
  $("viewer-renew").addEventListener("click", () =>
    actions.busy($("viewer-renew"), async () => {
      changed(await store.renew(id, Number($("viewer-ttl").value)));
      render();
      toast("New link.");
    }));
  $("viewer-download").addEventListener("click", () => actions.busy($("viewer-download"), () => actions.download(id)));
  $("viewer-reuse").addEventListener("click", () => {
    viewer.close();
    form.reuse(store.get(id), store.promptOf(id));
  });
}
