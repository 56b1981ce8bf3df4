# Sourced after common.sh. `fetch_corpora`: hostile and odd pictures that other projects test their
# decoders with, unpacked into $CORPORA. They stay in the cache: none of them is ours to publish.

PILLOW_VERSION=13.0.0
CORPORA=$CACHE/corpora-1

fetch_corpora() {
  [ -f "$CORPORA/complete" ] && return 0
  need python3 "it fetches the test pictures (apt-get install python3 python3-pip)"
  quietly "fetching hostile test pictures" "$CACHE/logs/corpora.log" unpack_corpora
}

unpack_corpora() {
  local part
  part=$(mktemp -d "$CACHE/corpora.XXXXXX")
  # Pillow's own pictures: crashes, time-outs, bombs and every odd format.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary pillow \
    --dest "$part" "pillow==$PILLOW_VERSION"
  mkdir "$part/pillow"
  tar -xzf "$part"/[Pp]illow-*.tar.gz -C "$part/pillow" --strip-components=3 --wildcards '*/Tests/images/*'
  # PngSuite and the crashers of two PNG libraries, from Debian's source packages. A list of our
  # own, so that the machine's stays as it is.
  mkdir -p "$part/apt/lists/partial"
  echo 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main' \
    >"$part/apt/sources.list"
  local options=(-q -o "Dir::Etc::SourceList=$part/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$part/apt/lists" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  local source
  for source in libspng libpng1.6; do
    (cd "$part" && apt-get "${options[@]}" source --download-only "$source")
    mkdir "$part/$source"
    tar -xaf "$part/${source}_"*.orig.tar.* -C "$part/$source" --strip-components=1
  done
  find "$part/libspng" "$part/libpng1.6" -type f ! -iname '*.png' -delete
  rm -rf "$part/apt" "$part"/*.tar.* "$part"/*.dsc
  [ "$(find "$part" -type f | wc -l)" -gt 1000 ]
  touch "$part/complete"
  # By rename: a run that broke off leaves nothing that looks complete.
  rm -rf "$CORPORA"
  mv "$part" "$CORPORA"
}
