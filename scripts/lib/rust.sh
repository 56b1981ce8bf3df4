# Sourced after common.sh. `wasm_target`: Rust's target for the edge, which a toolchain that was there before this
# checkout may lack, whatever rust-toolchain.toml says.

wasm_target() {
  command -v rustup >/dev/null 2>&1 || return 0
  ! rustup target list --installed | grep -q '^wasm32-unknown-unknown$' || return 0
  quietly "Rust's wasm target" "$CACHE/log/rustup.log" rustup target add wasm32-unknown-unknown
}
