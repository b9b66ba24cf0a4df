#!/bin/bash
# Copies an image into an export as root, and out again as RESULTS/out.tar, for fake-root.test.ts. IMAGE is an archive of it, PORT the
# server's, LANES how many cp work at the same time.
set -u
export LC_ALL=C TOP
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
# With one cp most of the time is spent waiting for acknowledgements: several copy the files in usr and etc first, each those of a folder.
find . -type d -print0 | (cd "$TOP" && xargs -0 mkdir -p) || exit 1
find usr etc -type d -print0 | xargs -0 -n 16 -P "$LANES" bash -c '
	shopt -s dotglob nullglob
	for folder; do
		files=()
		for file in "$folder"/*; do [ -f "$file" ] && [ ! -L "$file" ] && files+=("$file"); done
		[ ${#files[@]} -eq 0 ] || cp -a -t "$TOP/$folder" -- "${files[@]}" || exit 1
	done' - || exit 1
# all else: the folders themselves, links, devices, files of several names
cp -a --update . "$TOP/" || exit 1
report "cp -a"
# nothing of what comes back has been remembered by the client
cd / && umount "$TOP" && attach && cd "$TOP" || exit 1
find . -printf '%y %m %U %G %n %s %T@ %l\t%P\0' >"$RESULTS/find" || exit 1
report "find"
tar --format=posix -cf "$RESULTS/out.tar" . 2>"$RESULTS/complaints" || exit 1
report "tar"
cd / && umount "$TOP"
