# Sourced after common.sh: S3 servers for the storage tests, on free ports and without leftovers.
#
#   fetch_s3            installs what the servers need
#   serve_s3 moto|r2    runs one in the foreground: prints `ENDPOINT URL` when it answers, ends when
#                       its standard input closes, so that it never outlives who started it
#
# moto is PyPI's S3 server; r2 is Cloudflare's own R2 simulation with its S3 endpoint (node.sh).

MOTO_VERSION=5.2.5
MOTO=$CACHE/moto-$MOTO_VERSION
S3_BUCKET=signet-test
S3_KEY_ID=test-key-id
S3_SECRET=test-secret-key-of-some-length

fetch_s3() {
  fetch_moto
  fetch_r2
}

fetch_r2() {
  . "$ROOT/scripts/lib/node.sh"
  node_tools
}

fetch_moto() {
  [ -x "$MOTO/bin/moto_server" ] && return 0
  need python3 "it runs the S3 test server (apt-get install python3 python3-venv)"
  quietly "fetching the S3 test server moto $MOTO_VERSION" "$CACHE/logs/moto.log" install_moto
}

# Scripts in a virtual environment name its path, so it is built where it stays; moto_server is
# linked last and marks it as complete.
install_moto() {
  rm -rf "$MOTO"
  if command -v uv >/dev/null 2>&1; then
    uv venv --quiet "$MOTO"
    uv pip install --quiet --python "$MOTO/bin/python" "moto[s3,server]==$MOTO_VERSION"
  else
    python3 -m venv "$MOTO"
    "$MOTO/bin/pip" install --quiet --disable-pip-version-check "moto[s3,server]==$MOTO_VERSION"
  fi
}

# Runs in a subshell, so that its trap and variables are its own.
serve_s3() (
  work=$(mktemp -d) server='' endpoint=''
  trap end_s3 EXIT
  trap 'exit 143' INT TERM
  case $1 in
    moto) serve_moto ;;
    r2) serve_r2 ;;
    *) die "serve_s3: no server named $1" ;;
  esac
  echo "ENDPOINT $endpoint"
  # Not `cat`: a trap waits for a program, but not for `read`.
  while read -r _; do :; done
)

# Each server leads a process group, so that its children end with it.
end_s3() {
  [ -z "$server" ] || kill -- "-$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  rm -rf "$work"
}

# Waits until a line of the log matches, and takes the address out of it.
s3_address() {
  local line
  for _ in $(seq 600); do
    if line=$(grep -E "$1" "$work/log" 2>/dev/null); then
      endpoint=$(grep -oE 'http://[a-z0-9.]+:[0-9]+' <<<"$line" | head -n 1)
      return 0
    fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/log" >&2
  die "the S3 test server did not start"
}

serve_moto() {
  set -m
  "$MOTO/bin/moto_server" -H 127.0.0.1 -p 0 >"$work/log" 2>&1 </dev/null &
  server=$!
  set +m
  s3_address 'Running on'
}

serve_r2() {
  cat >"$work/worker.js" <<'JS'
export default { fetch: () => new Response("storage test") };
JS
  cat >"$work/wrangler.toml" <<TOML
name = "storage-test"
main = "worker.js"
compatibility_date = "2025-01-01"
[[r2_buckets]]
binding = "BUCKET"
bucket_name = "$S3_BUCKET"
local_dev = { experimental_s3_credentials = { accessKeyId = "$S3_KEY_ID", secretAccessKey = "$S3_SECRET" } }
TOML
  set -m
  (cd "$work" && WRANGLER_SEND_METRICS=false CI=1 exec wrangler dev --ip 127.0.0.1 \
    --port 0 --inspector-port 0 --persist-to "$work/state") >"$work/log" 2>&1 </dev/null &
  server=$!
  set +m
  s3_address 'Ready on'
  endpoint=$endpoint/cdn-cgi/local/r2/s3
}
