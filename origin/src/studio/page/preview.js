// A job's preview, drawn on a canvas: decoded from bytes, so that the page's policy need not allow data: pictures.
import { $, show } from "./dom.js";

/** Draws `{data|image|b64: base64, ...}`; anything that is no picture is left out. */
export async function draw(preview) {
  const base64 = String(preview.data ?? preview.image ?? preview.b64 ?? "").replace(/^data:[^,]*,/, "");
  if (!base64) return;
  try {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes]));
    const canvas = $("preview");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    show(canvas);
  } catch {
    // a broken preview is not worth a word: the picture itself comes
  }
}
