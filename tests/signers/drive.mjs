// Reads calls as JSON lines, writes links (or "refused") as JSON lines: sign.mjs under test.
import { createInterface } from "node:readline";
import { sign } from "../../docs/signers/sign.mjs";

for await (const line of createInterface({ input: process.stdin })) {
  const call = JSON.parse(line);
  let answer = "refused";
  try {
    answer = sign(call.ring, call.key, call.exp, call.now, call.more);
  } catch {}
  console.log(JSON.stringify(answer));
}
