# Sourced after common.sh. Debian packages by name, installed only when a program of theirs is missing.

# apt_need PROGRAM PACKAGE [PROGRAM PACKAGE …]
apt_need() {
  local missing=()
  while [ $# -ge 2 ]; do
    # Daemons live in sbin, which an ordinary user's PATH leaves out.
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing+=("$2")
    shift 2
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || die "these packages are missing and there is no root to install them: ${missing[*]}"
    as_root=(sudo)
  fi
  command -v apt-get >/dev/null 2>&1 || die "install these packages with your system's package manager: ${missing[*]}"
  quietly "package lists" "$CACHE/log/apt-update.log" "${as_root[@]}" apt-get update -q
  # policy-rc.d keeps the packages from starting their services: the tests start their own.
  quietly "packages ${missing[*]}" "$CACHE/log/apt-install.log" \
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends "${missing[@]}"
}
