#!/bin/bash
# Copies IMAGE into an export as root, and out again as RESULTS/out.tar, for fake-root.test.ts. PORT is the server's, LANES how many
# copy at the same time.
set -u
export LC_ALL=C
attach() {
	mount -t nfs -o "vers=3,proto=tcp,port=$PORT,mountport=$PORT,mountproto=tcp,nolock,actimeo=600" "$VM_HOST:/" "$TOP"
}
attach || exit 1
now=${EPOCHREALTIME/./}
report() {
	echo "@end $1 $(((${EPOCHREALTIME/./} - now) / 1000))"
	now=${EPOCHREALTIME/./}
}
cp -a "$IMAGE/." "$TOP/" || exit 1
report "cp -a"
# nothing of what comes back has been remembered by the client
umount "$TOP" && attach || exit 1
cd "$TOP" || exit 1
find . -printf '%y %m %U %G %n %s %T@ %l\t%P\0' >"$RESULTS/find" || exit 1
report "find"
tar --format=posix -cf "$RESULTS/out.tar" . 2>"$RESULTS/complaints" || exit 1
report "tar"
cd / && umount "$TOP"
