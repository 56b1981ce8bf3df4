# The Python that trains, exports and checks the demo model: torch and its companions, in a venv in the cache.
# Source it after common.sh. Nothing the service or the ordinary tests do needs it.

UV_VERSION=0.13.9
PYTHON_REQUIREMENTS=$ROOT/models/demo/requirements.txt

# python_uv: prints the path of uv, installing it into the cache where the machine has none.
python_uv() {
  if command -v uv 2>/dev/null; then return; fi
  local home=$CACHE/uv-$UV_VERSION
  if [ ! -x "$home/bin/uv" ]; then
    need python3 "install Python 3.11 or newer"
    quietly "installing uv $UV_VERSION" "$CACHE/log/uv.log" sh -c \
      'python3 -m venv "$1" && "$1/bin/pip" install --quiet "uv==$2"' sh "$home" "$UV_VERSION"
  fi
  printf '%s\n' "$home/bin/uv"
}

# python_env: makes the environment once for each state of requirements.txt (5.5 GB, about a minute)
# and leaves the interpreter's path in $PYTHON.
python_env() {
  local stamp home uv
  stamp=$(sha256sum "$PYTHON_REQUIREMENTS" | cut -c1-12)
  home=$CACHE/python-$stamp
  PYTHON=$home/bin/python
  if [ -e "$home/complete" ]; then return; fi
  uv=$(python_uv)
  quietly "installing torch and diffusers" "$CACHE/log/python.log" sh -c \
    '"$1" venv --quiet --clear --python 3.11 "$2" && "$1" pip install --python "$2/bin/python" -r "$3"' \
    sh "$uv" "$home" "$PYTHON_REQUIREMENTS"
  : >"$home/complete"
}
