# Sourced after common.sh. `node_tools`: Node 22, wrangler and the rest of package.json, installed once per
# lock file into the cache and linked as ./node_modules; Node's own folder goes first on PATH.

node_tools() {
  need npm "it comes with Node.js (https://nodejs.org, 18 or newer)"
  local hash dir part arch
  hash=$(cat "$ROOT/package.json" "$ROOT/package-lock.json" | sha256sum | cut -c1-16)
  dir=$CACHE/node-$hash
  if [ ! -d "$dir/node_modules" ]; then
    part=$(mktemp -d "$CACHE/node-part.XXXXXX")
    cp "$ROOT/package.json" "$ROOT/package-lock.json" "$part/"
    # `npm ci` would refuse the lock where a registry lacks the optional packages of other systems. No package's
    # own script runs: the binaries they would fetch come as packages of their own.
    quietly "npm packages" "$CACHE/log/npm.log" \
      npm install --prefix "$part" --no-save --ignore-scripts --no-audit --no-fund
    # By rename, so that a broken-off run leaves nothing half done; another run may have been first.
    mv -T "$part" "$dir" 2>/dev/null || rm -rf "$part"
    [ -d "$dir/node_modules" ] || die "the npm packages could not be put into $dir"
  fi
  if [ -e "$ROOT/node_modules" ] && [ ! -L "$ROOT/node_modules" ]; then
    die "node_modules is a folder of another installation; remove it"
  fi
  ln -sfn "$dir/node_modules" "$ROOT/node_modules"
  case $(uname -m) in
    x86_64) arch=x64 ;;
    aarch64) arch=arm64 ;;
    *) die "no Node package for $(uname -m)" ;;
  esac
  # Not node_modules/.bin/node, which is a link that npm makes for one of the two.
  export PATH="$ROOT/node_modules/node-linux-$arch/bin:$ROOT/node_modules/.bin:$PATH"
  export WRANGLER_SEND_METRICS=false
  [ -x "$ROOT/node_modules/node-linux-$arch/bin/node" ] || die "Node is missing in $dir; remove that folder"
}
