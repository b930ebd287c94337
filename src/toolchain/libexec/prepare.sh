# prepare.sh HOME CACHE CURRENT: bundles the annotator into the cache, keyed by
# the contents of its sources, and notes the place in CURRENT. Safe to run
# several times at once: everything appears by renaming.
home=$1 cache=$2 current=$3
fail() {
  echo "previrt-as: $1" >&2
  exit 1
}
umask 077
esbuild=$home/node_modules/.bin/esbuild
[ -x "$esbuild" ] || fail "$esbuild is missing: run npm install in $home"
started=$current.$$
mkdir -p "${current%/*}" && : >"$started" || fail "cannot write to $cache: set PREVIRT_CACHE to a writable directory"
key=$(cat "$home"/src/x86/*.ts "$home"/src/assembly/*.ts "$home"/src/toolchain/*.ts | sha256sum) || exit 1
state=$cache/toolchain-${key%% *}
if [ ! -f "$state/annotator.mjs" ] || [ ! -f "$state/patterns" ]; then
  building=$state.$$
  trap 'rm -rf "$building" "$started"' EXIT
  trap 'exit 1' HUP INT TERM
  mkdir "$building" &&
    "$esbuild" "$home/src/toolchain/main.ts" --bundle --platform=node --format=esm --target=node20 \
      --log-level=error --outfile="$building/annotator.mjs" &&
    node "$building/annotator.mjs" patterns >"$building/patterns" || fail "cannot bundle the annotator into $building"
  mkdir -p "$state" && mv "$building"/* "$state" || fail "cannot create $state"
fi
# `current` is as old as the look at the sources, so that a change since then counts.
echo "$state" >"$started.path" && touch -r "$started" "$started.path" && mv "$started.path" "$current"
rm -f "$started"
