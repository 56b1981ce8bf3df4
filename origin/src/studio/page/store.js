// The pictures on the page: what the server said of each, and what can be done with one. No view here.
import * as api from "./api.js";
import { seconds } from "./life.js";

const pictures = new Map();
/** Prompts of this visit only; the server keeps none. */
const prompts = new Map();

export const get = (id) => pictures.get(id);
export const promptOf = (id) => prompts.get(id);
export const count = () => pictures.size;

/** Takes in what an answer says of a picture; fields it leaves out stay. */
export function put(image, prompt) {
  const known = { ...pictures.get(image.id), ...image };
  known.kept = known.key.startsWith("kept/");
  known.extension = known.key.slice(known.key.lastIndexOf(".") + 1);
  pictures.set(known.id, known);
  if (prompt) prompts.set(known.id, prompt);
  return known;
}

export function clear() {
  pictures.clear();
  prompts.clear();
}

/** When its link ends, in seconds since the epoch. */
export const expiry = (id) => seconds(pictures.get(id)?.expires_at ?? 0);

/** Alternative text. */
export const alt = (image) => prompts.get(image.id) ?? `Generated picture, seed ${image.seed}`;

/** A name for the download: from the prompt when known, in the letters that links allow. */
export function fileName(image) {
  const words = (prompts.get(image.id) ?? "signet").normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
  return `${(words || "picture").slice(0, 60)}-${image.seed}.${image.extension}`;
}

/** A new link, valid for `ttl` seconds. */
export const renew = async (id, ttl) => put({ id, ...(await api.sign(id, ttl ? { ttl } : {})) });

/** A link that downloads; not shown anywhere, and it leaves the picture's own link alone. */
export async function downloadLink(id) {
  const answer = await api.sign(id, { dl: fileName(get(id)), ttl: 300 });
  return answer.url;
}

export const setKept = async (id, kept) => put({ id, ...(await api.keep(id, kept)) });

export async function remove(id) {
  try {
    await api.remove(id);
  } catch (error) {
    if (error.status !== 404) throw error; // gone already: what was wanted
  }
  pictures.delete(id);
  prompts.delete(id);
}
