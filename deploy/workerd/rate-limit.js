// What the Rate Limiting binding is on Cloudflare: `limit` requests a minute for each key, counted in this process.
const PERIOD_MS = 60_000;
const MOST_KEYS = 100_000; // some 10 MB; beyond it the period begins anew for everybody

export default function limiter(env) {
  let counts = new Map();
  let end = 0;
  return {
    async limit({ key }) {
      const now = Date.now();
      if (now >= end || counts.size >= MOST_KEYS) {
        counts = new Map();
        end = now + PERIOD_MS;
      }
      const count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      return { success: count <= env.limit };
    },
  };
}
