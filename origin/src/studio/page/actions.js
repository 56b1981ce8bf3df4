// What the buttons under a picture do. Failures are shown in the one alert.
import { $, toast } from "./dom.js";
import { now } from "./api.js";
import * as store from "./store.js";

let fail = () => {};
/** Where failures go. */
export const onFailure = (handler) => (fail = handler);

/** Runs one action with its button busy, so that a second press does nothing. */
export async function busy(button, action) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    return await action();
  } catch (error) {
    fail(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** Copies a link that still opens: a new one when the old has under a minute left. */
export async function copyLink(id, changed) {
  let image = store.get(id);
  if (store.expiry(id) - now() < 60) {
    image = await store.renew(id);
    changed(image);
  }
  try {
    await navigator.clipboard.writeText(image.url);
    toast("Link copied. Whoever has it can open the picture until it expires.");
  } catch {
    window.prompt("Copy this link:", image.url); // no clipboard without https
  }
}

export async function download(id) {
  const anchor = document.createElement("a");
  anchor.href = await store.downloadLink(id);
  anchor.rel = "noopener";
  anchor.download = "";
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  toast("Download started.");
}

/** Asks first; resolves with whether the picture is gone. */
export async function remove(id) {
  const dialog = $("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  if (dialog.returnValue !== "yes") return false;
  await store.remove(id);
  toast("Picture deleted.");
  return true;
}
