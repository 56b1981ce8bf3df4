# Sourced by every script: where things are, how progress and failure are told.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Tools live outside the checkout, so that a second clone on the same machine finds them.
CACHE=${SIGNET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/signet}
mkdir -p "$CACHE"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf '\033[31merror:\033[0m %s\n' "$*" >&2; exit 1; }
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"; }

# room GIB: says before a long build, not after it, that the disk is too small.
room() {
  local free
  free=$(df -Pk "$ROOT" | awk 'NR == 2 { print int($4 / 1048576) }')
  [ "$free" -ge "$1" ] || printf '    only %s GiB of disk are free; a build from nothing takes up to %s\n' "$free" "$1" >&2
}

# The process group of the long step that runs now; a stop of the script must stop it too.
STEP_GROUP=
stop_step() { [ -z "$STEP_GROUP" ] || kill -TERM -- "-$STEP_GROUP" 2>/dev/null || true; }
trap 'stop_step; exit 130' INT
trap 'stop_step; exit 143' TERM

# quietly LABEL LOG COMMAND…: runs a long step, shows seconds passed, prints the log's end on failure.
quietly() {
  local label=$1 log=$2 start=$SECONDS failed=0
  shift 2
  mkdir -p "$(dirname "$log")"
  set -m # a group of its own, so that what it starts ends with it
  "$@" >"$log" 2>&1 </dev/null &
  STEP_GROUP=$!
  set +m
  while kill -0 "$STEP_GROUP" 2>/dev/null; do
    if [ -t 2 ]; then printf '\r    %s … %ss' "$label" $((SECONDS - start)) >&2
    elif [ $(((SECONDS - start) % 15)) -eq 14 ]; then printf '    %s … %ss\n' "$label" $((SECONDS - start)) >&2; fi
    sleep 1
  done
  wait "$STEP_GROUP" || failed=1
  STEP_GROUP=
  [ -t 2 ] && printf '\r' >&2
  if [ $failed -ne 0 ]; then
    tail -n 40 "$log" >&2
    die "$label failed; the whole log is $log"
  fi
  printf '    %s: done in %ss\n' "$label" $((SECONDS - start)) >&2
}
