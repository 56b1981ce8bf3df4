// npm sharp doing what the sanitiser does: upright, sRGB, no larger than 4096, PNG at its smallest, no metadata.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const sharp = createRequire(process.cwd() + "/")("sharp");
sharp.concurrency(1);
sharp.cache(false);

for (const file of process.argv.slice(2)) {
  const input = readFileSync(file);
  const once = () =>
    sharp(input)
      .rotate()
      .toColourspace("srgb")
      .resize({ width: 4096, height: 4096, fit: "inside", withoutEnlargement: true })
      .png({ compressionLevel: 9, adaptiveFiltering: true })
      .toBuffer();
  const spans = [];
  const begun = performance.now();
  const before = process.cpuUsage();
  let output;
  while (spans.length < 5 || performance.now() - begun < 600) {
    const one = performance.now();
    output = await once();
    spans.push(performance.now() - one);
  }
  const used = process.cpuUsage(before);
  const cpu_ms = (used.user + used.system) / 1000 / spans.length;
  spans.sort((a, b) => a - b);
  console.log(JSON.stringify({ file, ms: spans[spans.length >> 1], cpu_ms, bytes: output.length }));
}
