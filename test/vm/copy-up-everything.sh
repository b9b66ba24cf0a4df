#!/bin/bash
# Gives all of an export to others, for copy-up-everything.test.ts: first the group of everything, which copies everything up,
# then the owner of what lies in TOP/owned. Leaves what it sees then in RESULTS/find. PORT is the server's.
set -u
export LC_ALL=C
mount -t nfs -o "vers=3,proto=tcp,port=$PORT,mountport=$PORT,mountproto=tcp,nolock,actimeo=600" "$VM_HOST:/" "$TOP" || exit 1
cd "$TOP" || exit 1
now=${EPOCHREALTIME/./}
report() {
	echo "@end $1 $(((${EPOCHREALTIME/./} - now) / 1000))"
	now=${EPOCHREALTIME/./}
}
# One chown waits for the disk with each file, and several share the flushes. So the tree is cut at a depth at which no part of
# it holds most of the files; what lies above is done by itself.
find . -mindepth 5 -maxdepth 5 -print0 | xargs -0 -n 32 -P "$LANES" chown -hR "$GROUP" || exit 1
find . -maxdepth 4 -print0 | xargs -0 -n 256 -P "$LANES" chown -h "$GROUP" || exit 1
report "chown of everything"
chown -hR "$OWNER" owned || exit 1
find . -printf '%y %m %U %G %n %s\t%P\0' >"$RESULTS/find" || exit 1
report "find"
cd / && umount "$TOP"
