# Sourced after common.sh: `onnxruntime_library` puts the CPU library of ONNX Runtime into the cache.
# The library is taken out of the package on PyPI, and used only when its SHA-256 is the pinned one.

ORT_VERSION=1.32.0
case $(uname -m) in
  x86_64)
    ORT_PLATFORM=manylinux_2_28_x86_64
    ORT_SHA256=6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f ;;
  aarch64)
    ORT_PLATFORM=manylinux_2_28_aarch64
    ORT_SHA256=49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a ;;
  *) die "ONNX Runtime is pinned for x86_64 and aarch64, not for $(uname -m); set infer.library in signet.toml" ;;
esac
# `signet` looks for this very path (origin/src/infer/runtime.rs).
ORT_LIBRARY=$CACHE/onnxruntime-$ORT_VERSION/libonnxruntime.so

onnxruntime_is_sound() { echo "$ORT_SHA256  $1" | sha256sum --check --status 2>/dev/null; }

onnxruntime_library() {
  if [ -f "$ORT_LIBRARY" ] && onnxruntime_is_sound "$ORT_LIBRARY"; then return 0; fi
  need python3 "it fetches and unpacks ONNX Runtime (apt-get install python3 python3-pip)"
  local work
  work=$(mktemp -d "$CACHE/onnxruntime.XXXXXX")
  quietly "fetching ONNX Runtime $ORT_VERSION" "$CACHE/logs/onnxruntime.log" \
    python3 -m pip download --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.11 --implementation cp --platform "$ORT_PLATFORM" \
    --dest "$work" "onnxruntime==$ORT_VERSION"
  python3 - "$work" "$ORT_VERSION" <<'PY' || die "the ONNX Runtime package holds no library"
import glob, sys, zipfile
work, version = sys.argv[1:]
[wheel] = glob.glob(work + "/*.whl")
with zipfile.ZipFile(wheel) as package, open(work + "/libonnxruntime.so", "wb") as library:
    library.write(package.read("onnxruntime/capi/libonnxruntime.so." + version))
PY
  if ! onnxruntime_is_sound "$work/libonnxruntime.so"; then
    rm -rf "$work"
    die "ONNX Runtime $ORT_VERSION from the package index is not the pinned file; nothing was installed"
  fi
  # Put in place by rename: a broken-off run leaves no half library behind.
  mkdir -p "$(dirname "$ORT_LIBRARY")"
  mv "$work/libonnxruntime.so" "$ORT_LIBRARY"
  rm -rf "$work"
}
