// The wasm module, one instance for each isolate.
import wasm from "./edge_bg.wasm";
import * as glue from "./edge_bg.js";
import imports from "./imports.js"; // made by scripts/build-edge

/** Begins a fresh instance. */
export function start() {
  const instance = new WebAssembly.Instance(wasm, imports);
  glue.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
}

start();
