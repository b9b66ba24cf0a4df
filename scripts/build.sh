#!/bin/sh
# Brings node_modules and dist up to date. Safe to start twice at the same time: the second waits, then finds nothing to do.
set -eu
here=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
. "$here/scripts/build-state.sh"

mkdir -p "$here/dist"
exec 9>"$here/dist/.lock"
flock 9 || {
	echo "holdfast: cannot lock $here/dist/.lock; is flock (package util-linux) there?" >&2
	exit 1
}
if ! modules_are_current "$here"; then
	echo "holdfast: installing packages" >&2
	(cd "$here" && npm ci --prefer-offline --no-audit --no-fund --loglevel=error 9>&-) >&2
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
