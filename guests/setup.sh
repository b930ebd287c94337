#!/bin/sh
# Installs what is missing: Debian packages (as root), npm packages. Uses the
# machine's own configuration of apt and npm. Does nothing, quickly, where all
# is there.
set -u
cd "$(dirname "$0")/.." || exit 1

fail() {
    echo "previrt: $1" >&2
    exit 1
}

# A long step: shown while it runs, its output only if it fails.
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
step() {
    title=$1
    shift
    echo "$title ..." >&2
    started=$(date +%s)
    if "$@" >"$log" 2>&1; then
        echo "$title ($(($(date +%s) - started)) s)" >&2
    else
        status=$?
        tail -n 20 "$log" >&2
        return $status
    fi
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" 9<&-
}

# Of two that run at the same time, in the same tree, one installs and the other waits.
exec 9<guests/packages.txt
flock 9 || fail 'cannot lock guests/packages.txt'

command -v node >/dev/null || fail 'node is missing: install Node.js 20.19 or newer'
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' ||
    fail "Node.js $(node --version) is too old: install 20.19 or newer"
command -v npm >/dev/null || fail 'npm is missing: install it'
command -v dpkg-query >/dev/null || fail 'dpkg is missing: use Debian 12'

missing=
for package in $(sed 's/#.*//' guests/packages.txt); do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
if [ -n "$missing" ]; then
    [ "$(id -u)" -eq 0 ] || fail "Debian packages are missing: as root, run apt-get install$missing"
    # shellcheck disable=SC2086 # one argument a package
    step "Installing$missing" apt_get install --no-install-recommends $missing ||
        { step 'Updating the package lists' apt_get update &&
            step "Installing$missing" apt_get install --no-install-recommends $missing; } ||
        fail "cannot install$missing: see above"
fi

# A copy of the lock file says which packages are installed. Not `npm ci`: it
# refuses a lock file that lacks the optional packages of other platforms, as
# one does that was written where the registry does not offer them.
if ! cmp -s package-lock.json node_modules/.installed-lock.json; then
    step 'Installing the npm packages' npm install --no-save --no-audit --no-fund ||
        fail 'npm install failed: see above'
    cp package-lock.json node_modules/.installed-lock.json
fi
