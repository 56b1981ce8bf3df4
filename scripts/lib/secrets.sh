# Sourced after common.sh. `secret_scan [FOLDER]`: looks for keys and tokens in every file that git tracks there, with
# PyPI's detect-secrets and a detector for our own keyrings. Fails and names file, line and kind, never the secret.
#
# Entropy and keyword detectors are off: in a project full of test vectors they cry all day, and then nobody listens.
# `pragma: allowlist secret` in a line allows a published vector.

DETECT_SECRETS_VERSION=1.5.0

secret_scanner() {
  local home=$CACHE/detect-secrets-$DETECT_SECRETS_VERSION
  if [ ! -e "$home/complete" ]; then
    quietly "installing detect-secrets $DETECT_SECRETS_VERSION" "$CACHE/log/detect-secrets.log" sh -c \
      'python3 -m venv --clear "$1" && "$1/bin/pip" install --quiet "detect-secrets==$2"' sh "$home" "$DETECT_SECRETS_VERSION"
    : >"$home/complete"
  fi
  DETECT_SECRETS=$home/bin/detect-secrets
}

secret_scan() {
  secret_scanner
  local folder=${1:-$ROOT}
  (cd "$folder" && "$DETECT_SECRETS" scan -p "$ROOT/scripts/lib/keyring_detector.py" \
    --disable-plugin Base64HighEntropyString --disable-plugin HexHighEntropyString --disable-plugin KeywordDetector \
    --disable-plugin IPPublicDetector --no-verify \
    --exclude-files '^(Cargo\.lock|edge/bindgen/Cargo\.lock|package-lock\.json|tests/(vectors|goldens)/.*|models/.*)$') |
    python3 -c '
import json, sys
found = [(file, one["line_number"], one["type"]) for file, ones in json.load(sys.stdin)["results"].items() for one in ones]
for file, line, kind in found:
    print(f"{file}:{line}: {kind}")
print(f"{len(found)} secrets found")
sys.exit(bool(found))'
}
