#!/bin/sh
# npm test: everything the tests need, then the tests. The last line of the
# output counts them; what could not be prepared counts as one that failed.
cd "$(dirname "$0")/.." || exit 1

prepare() {
    "$@" && return
    printf '%s failed\n0 passed, 1 failed, 0 skipped\n' "$*"
    exit 1
}

prepare sh guests/setup.sh
prepare node_modules/.bin/tsx guests/prepare.ts
exec node_modules/.bin/tsx test/run.ts "$@"
