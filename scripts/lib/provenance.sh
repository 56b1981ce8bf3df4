# Sourced after common.sh. `fetch_c2pa`: an independent reader of Content Credentials, PyPI's c2pa-python, in the cache;
# leaves its interpreter in $C2PA_PYTHON.

C2PA_VERSION=0.38.1
C2PA_HOME=$CACHE/c2pa-python-$C2PA_VERSION
C2PA_PYTHON=$C2PA_HOME/bin/python

fetch_c2pa() {
  [ -e "$C2PA_HOME/complete" ] && return 0
  need python3 "it reads Content Credentials (apt-get install python3 python3-venv)"
  quietly "fetching c2pa-python $C2PA_VERSION" "$CACHE/logs/c2pa.log" install_c2pa
}

install_c2pa() {
  rm -rf "$C2PA_HOME"
  if command -v uv >/dev/null 2>&1; then
    uv venv --quiet "$C2PA_HOME"
    uv pip install --quiet --python "$C2PA_PYTHON" "c2pa-python==$C2PA_VERSION"
  else
    python3 -m venv "$C2PA_HOME"
    "$C2PA_HOME/bin/pip" install --quiet --disable-pip-version-check "c2pa-python==$C2PA_VERSION"
  fi
  touch "$C2PA_HOME/complete"
}
