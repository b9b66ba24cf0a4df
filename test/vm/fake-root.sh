#!/bin/bash
# Copies an image into an export as root, and out again as RESULTS/out.tar, for fake-root.test.ts. IMAGE is an archive of it, PORT the
# server's.
set -u
export LC_ALL=C
attach() {
	mount -t nfs -o "vers=3,proto=tcp,port=$PORT,mountport=$PORT,mountproto=tcp,nolock,actimeo=600" "$VM_HOST:/" "$TOP"
}
now=${EPOCHREALTIME/./}
report() {
	echo "@end $1 $(((${EPOCHREALTIME/./} - now) / 1000))"
	now=${EPOCHREALTIME/./}
}
# the host's own files cost the machine a descriptor of the host each
mkdir /image && mount -t tmpfs -o size=90% image /image && tar -xp --warning=no-timestamp --numeric-owner -f "$IMAGE" -C /image || exit 1
report "unpacking"
attach || exit 1
cd /image || exit 1
cp -a . "$TOP/" || exit 1
report "cp -a"
# nothing of what comes back has been remembered by the client
cd / && umount "$TOP" && attach && cd "$TOP" || exit 1
find . -printf '%y %m %U %G %n %s %T@ %l\t%P\0' >"$RESULTS/find" || exit 1
report "find"
tar --format=posix -cf "$RESULTS/out.tar" . 2>"$RESULTS/complaints" || exit 1
report "tar"
cd / && umount "$TOP"
