# Sourced by the assembler front. Sets `bundle` (the annotator as one file),
# `patterns` (the prefilter), `origins` (what the rule file and the profile add
# to it) and `state` (a directory only the user can read); makes them on first
# use, after a change of what they are made from, and when one is gone. Needs `home`, `rules`, `profile`.
cache=${PREVIRT_CACHE:-${XDG_CACHE_HOME:-${HOME:?previrt-as: set HOME or PREVIRT_CACHE to a writable directory}/.cache}/previrt}
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
current=$cache/toolchain$home/current
fresh=
if IFS= read -r state 2>/dev/null <"$current" && [ -f "$state/annotator.mjs" ] && [ -f "$state/patterns" ]; then
  fresh=1
  for file in "$home"/src/x86/*.ts "$home"/src/assembly/*.ts "$home"/src/toolchain/*.ts; do
    [ "$file" -nt "$current" ] && fresh= && break
  done
fi
[ -n "$fresh" ] || sh "$libexec/prepare.sh" "$home" "$cache" "$current" || exit 1
IFS= read -r state <"$current" || exit 1
bundle=$state/annotator.mjs
patterns=$state/patterns
origins=$state/origins$rules+$profile/patterns
if [ ! -f "$origins" ] || [ "$rules" -nt "$origins" ] || { [ -n "$profile" ] && [ "$profile" -nt "$origins" ]; }; then
  mkdir -p "${origins%/*}" && node "$bundle" origins "$rules" "$profile" >"$origins.$$" && mv "$origins.$$" "$origins" || exit 1
fi
