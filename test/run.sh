#!/bin/sh
# npm test: everything the tests need, then the tests. The last line of the
# output counts them; what could not be prepared counts as one that failed.
cd "$(dirname "$0")/.." || exit 1

prepare() {
    echo "$1 ..."
    shift
    "$@" && return
    printf '%s failed\n0 passed, 1 failed, 0 skipped\n' "$*"
    exit 1
}

# npm writes this file when it is done.
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
    prepare 'Installing the npm packages' npm ci --no-audit --no-fund
fi
if [ -f guests/setup.sh ]; then
    prepare 'Setting up' sh guests/setup.sh
fi
exec node_modules/.bin/tsx test/run.ts "$@"
