// A small PNG decoder for the tests: 8-bit RGB or RGBA without interlacing, which is what the origin writes.
import { inflateSync } from "node:zlib";

/** → { width, height, channels, pixels: Buffer }. Throws on anything else, and on a wrong length. */
export function decodePng(bytes) {
  if (bytes.subarray(0, 8).toString("latin1") !== "\x89PNG\r\n\x1a\n") throw new Error("not a PNG");
  const data = [];
  let header = null;
  for (let at = 8; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    const type = bytes.subarray(at + 4, at + 8).toString("latin1");
    const chunk = bytes.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") header = chunk;
    if (type === "IDAT") data.push(chunk);
    at += 12 + length;
  }
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const channels = { 2: 3, 6: 4 }[header[9]];
  if (header[8] !== 8 || !channels || header[12] !== 0) throw new Error("an unexpected kind of PNG");
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  if (raw.length !== (stride + 1) * height) throw new Error("a PNG of the wrong length");
  const pixels = Buffer.alloc(stride * height);
  const left = (row, x) => (x >= channels ? pixels[row * stride + x - channels] : 0);
  const up = (row, x) => (row > 0 ? pixels[(row - 1) * stride + x] : 0);
  const corner = (row, x) => (row > 0 && x >= channels ? pixels[(row - 1) * stride + x - channels] : 0);
  const predictors = [
    () => 0,
    left,
    up,
    (row, x) => (left(row, x) + up(row, x)) >> 1,
    (row, x) => {
      const [a, b, c] = [left(row, x), up(row, x), corner(row, x)];
      const p = a + b - c;
      const [pa, pb, pc] = [Math.abs(p - a), Math.abs(p - b), Math.abs(p - c)];
      return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
    },
  ];
  for (let row = 0; row < height; row++) {
    const predict = predictors[raw[row * (stride + 1)]];
    for (let x = 0; x < stride; x++) {
      pixels[row * stride + x] = (raw[row * (stride + 1) + 1 + x] + predict(row, x)) & 255;
    }
  }
  return { width, height, channels, pixels };
}
