#!/bin/sh
# npm start: everything that is needed, then a shell in the guest; or another program of this folder.
here=$(dirname "$0")
sh "$here/setup.sh" || exit 1
exec "$here/../node_modules/.bin/tsx" "$here/${1:-start}.ts"
