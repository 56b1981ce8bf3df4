# Sourced after common.sh and node.sh. Known advisories, as far as their data can be reached from here: a machine
# without that way out says "skipped" and nothing more, so that a build does not depend on somebody else's server.

# advisories_rust: with cargo-deny where it is installed; its database is a git repository.
advisories_rust() {
  if ! command -v cargo-deny >/dev/null 2>&1; then
    say "advisories of crates: skipped, cargo-deny is not installed"
  elif ! timeout 60 git ls-remote -q https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; then
    say "advisories of crates: skipped, the advisory database cannot be reached"
  else
    cargo deny check
  fi
}

# advisories_npm: the registry's own list; only what is high or worse fails.
advisories_npm() {
  local answer
  answer=$(cd "$ROOT" && timeout 120 npm audit --package-lock-only --json 2>/dev/null) || true
  python3 -c '
import json, sys
try:
    told = json.loads(sys.argv[1])["metadata"]["vulnerabilities"]
except (ValueError, KeyError, TypeError):
    print("==> advisories of npm packages: skipped, the registry does not tell", file=sys.stderr)
    sys.exit(0)
print("advisories of npm packages:", told)
sys.exit(bool(told["high"] or told["critical"]))' "$answer"
}
