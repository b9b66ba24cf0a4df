# Sourced by the launcher and by build.sh: answers that cost a few milliseconds and start no Node.js.

# Do node_modules hold what package-lock.json asks for? npm writes its own copy of the lock file last.
modules_are_current() {
	[ -e "$1/node_modules/.package-lock.json" ] && ! [ "$1/package-lock.json" -nt "$1/node_modules/.package-lock.json" ]
}

# Is dist made from the sources as they are? The stamp is as old as the start of the compilation that made it. A file
# that was removed or renamed shows in the time of its folder.
build_is_current() {
	modules_are_current "$1" &&
		[ -e "$1/dist/.stamp" ] && [ -e "$1/dist/src/cli/main.js" ] && [ -e "$1/dist/holdfast.js" ] && [ -e "$1/dist/bundled" ] &&
		[ -z "$(find "$1/src" "$1/test" "$1/tsconfig.json" "$1/package-lock.json" "$1/scripts/bundle.mjs" -newer "$1/dist/.stamp" -print -quit)" ]
}

# May the caller write what build.sh writes? Parts of it can be another user's.
build_is_possible() {
	[ -e "$1/dist" ] && [ -e "$1/node_modules" ] || [ -w "$1" ] || return 1
	for written in dist dist/.lock dist/.stamp dist/.tsbuildinfo dist/holdfast.js dist/src dist/src/cli dist/src/cli/main.js; do
		[ ! -e "$1/$written" ] || [ -w "$1/$written" ] || return 1
	done
	modules_are_current "$1" || [ ! -e "$1/node_modules" ] || [ -w "$1/node_modules" ]
}
