#!/bin/bash
# Does in the machine what a page says, as the user USER_ID: sources STEPS, whose lines call `step WHERE COMMAND`. ARCHIVE lies in the home folder.
# Prints for each step "@step WHERE", its output with "|" before each line, and "@status N". A server is a step of its own that ends with "&".
set -u
if [ "${1:-}" != session ]; then
	mkfs.ext4 -q -F /dev/ubda && mkdir -p /run/disk && mount /dev/ubda /run/disk && chmod 755 /run/disk || exit 1
	# kernel handles want a disk: the machine's own root is an overlay
	for folder in srv home var/lib/holdfast; do
		mkdir -p "/run/disk/$folder" "/$folder" && mount --bind "/run/disk/$folder" "/$folder" || exit 1
	done
	chmod 700 /var/lib/holdfast && mkdir -p /mnt /home/root /home/me /run/bin && chown "$USER_ID" /home/me || exit 1
	cp "$ARCHIVE" /home/me && export HOME=/home/me && cd /home/me || exit 1
	mkdir -m 1777 /run/sudo && mkfifo -m 622 /run/sudo/queue || exit 1
	cp "$SUDO" /run/bin/sudo && cp "$STEPS" /run/steps && cp "$0" /run/run-blocks && chmod 755 /run/bin/sudo /run/steps /run/run-blocks || exit 1
	SUDO_HOME=/home/root /run/bin/sudo --serve &
	PATH=/run/bin:$PATH exec setpriv --reuid="$USER_ID" --regid="$USER_ID" --clear-groups bash /run/run-blocks session
fi
set -m
printed() { sed 's/^/|/' "$1"; }
step() {
	local log status=0
	log=$(mktemp)
	echo "@step $1"
	case $2 in
	*"holdfast serve "*"&")
		eval "$2" >"$log" 2>&1 </dev/null
		for _ in $(seq 6000); do
			grep -qE '^(Changes|Read-only)' "$log" && break
			kill -0 $! 2>/dev/null || { status=1 && break; }
			sleep 0.1
		done
		;;
	*) eval "$2" >"$log" 2>&1 </dev/null || status=$? ;;
	esac
	printed "$log"
	echo "@status $status"
	# as a shell at a terminal forgets jobs that have ended
	jobs >/dev/null
}
. /run/steps
