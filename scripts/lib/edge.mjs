// How to start the edge under `wrangler dev`: used by the demo and by the edge's tests.
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

/**
 * Writes wrangler's files into `dir` (its own folder, made here; secrets with mode 600) and returns the command as
 * `[program, arguments, environment]`. Node 22 must come first on PATH (scripts/lib/node.sh).
 *
 * - `port`: where it listens, on 127.0.0.1
 * - `vars`: IMAGES_HOST, API_HOST, ORIGIN_URL, LINK_KEYS, EDGE_KEYS, REFERER_HOSTS, LIMITS … (docs/edge.md)
 * - `s3`: `{ id, secret }` of the local bucket's S3 endpoint, http://127.0.0.1:PORT/cdn-cgi/local/r2/s3, bucket
 *   `signet-images`, path style, region `auto`
 * - `state`: where the bucket's objects lie; below `dir` when left out
 */
export function edgeCommand({ dir, port, vars, s3, state = path.join(dir, "bucket") }) {
  fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
  const settings = fs
    .readFileSync(path.join(ROOT, "wrangler.toml"), "utf8")
    .replace(/^main = .*$/m, `main = ${JSON.stringify(path.join(ROOT, "edge/build/worker/index.js"))}`)
    .replace(/accessKeyId = "[^"]*", secretAccessKey = "[^"]*"/, () =>
      `accessKeyId = ${JSON.stringify(s3.id)}, secretAccessKey = ${JSON.stringify(s3.secret)}`);
  const file = path.join(dir, "wrangler.toml");
  fs.writeFileSync(file, settings, { mode: 0o600 });
  // Variables here come before those of wrangler.toml.
  const lines = Object.entries(vars).map(([name, value]) => `${name}=${JSON.stringify(String(value))}\n`);
  fs.writeFileSync(path.join(dir, ".dev.vars"), lines.join(""), { mode: 0o600 });
  const wrangler = path.join(ROOT, "node_modules/wrangler/bin/wrangler.js");
  const argv = [
    wrangler, "dev", "--config", file, "--ip", "127.0.0.1", "--port", String(port), "--inspector-port", "0",
    "--persist-to", state, "--show-interactive-dev-session=false", "--log-level", "warn",
  ];
  const env = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    CI: "1", // asks no questions
    NO_COLOR: "1",
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_HIDE_BANNER: "true",
    WRANGLER_LOG_PATH: path.join(dir, "wrangler-logs"),
    WRANGLER_REGISTRY_PATH: path.join(dir, "registry"),
    CLOUDFLARE_CF_FETCH_ENABLED: "false", // no look-up of a sample request's location
  };
  return ["node", argv, env];
}
