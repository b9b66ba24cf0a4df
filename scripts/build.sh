#!/bin/sh
# Brings node_modules and dist up to date. Safe to start twice at the same time: the second waits, then finds nothing to do.
set -eu
here=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
. "$here/scripts/build-state.sh"

fail() {
	echo "holdfast: $1" >&2
	exit 1
}

# No package of ours needs a script of its own, so it is no matter which scripts npm would let run.
npm_ci() {
	(cd "$here" && npm ci --include=dev --ignore-scripts --no-audit --no-fund --loglevel=error "$@" 9>&-)
}

# npm tries for minutes before it says that there is no network. Any answer of the registry, an error too, shows that there is one.
reach_registry() {
	ping=$(cd "$here" && npm ping --fetch-retries=0 --fetch-timeout=10000 --loglevel=error 9>&- 2>&1) && return
	case $ping in *"code E"[0-9][0-9][0-9]*) return 0 ;; esac
	reason=$(printf '%s\n' "$ping" | sed -n 's/.*failed, reason: *//p' | head -n 1)
	fail "The npm registry cannot be reached (${reason:-$(printf '%s\n' "$ping" | head -n 1)}), and npm's cache has not all packages that compiling needs: connect this machine for the first start, or install a package that was made elsewhere (\`npm pack\`)."
}

install_packages() {
	command -v npm >/dev/null || fail "npm is needed to install packages, and none is on the PATH."
	echo "holdfast: installing packages" >&2
	npm_ci --offline >/dev/null 2>&1 && return
	reach_registry
	npm_ci --prefer-offline >&2 || fail "The packages could not be installed; npm says why above."
}

# What root makes in the clone of another user is that user's, who could not bring it up to date otherwise.
give_to_owner() {
	owner=$(stat -c %u:%g "$here")
	[ "$(id -u)" -ne 0 ] || [ "${owner%%:*}" -eq 0 ] || chown -hR "$owner" "$here/dist" "$here/node_modules" ||
		echo "holdfast: What was compiled stays root's, for it cannot be given to the owner of $here." >&2
}

mkdir -p "$here/dist"
exec 9>"$here/dist/.lock"
flock 9 || fail "Cannot lock $here/dist/.lock; is flock (package util-linux) there?"
if build_is_current "$here"; then exit 0; fi
trap give_to_owner EXIT
if ! modules_are_current "$here" || [ ! -e "$here/node_modules/typescript/bin/tsc" ]; then
	install_packages
fi
if ! build_is_current "$here"; then
	echo "holdfast: compiling" >&2
	# Without its output the record of an earlier run would make the compiler believe that all is there.
	[ -e "$here/dist/.stamp" ] && [ -e "$here/dist/src/cli/main.js" ] || rm -f "$here/dist/.tsbuildinfo"
	: >"$here/dist/.stamp.new"
	(cd "$here" && node node_modules/typescript/bin/tsc -p tsconfig.json 9>&-) >&2
	node "$here/scripts/bundle.mjs" 9>&- >&2
	mv "$here/dist/.stamp.new" "$here/dist/.stamp"
fi
