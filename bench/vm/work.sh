#!/bin/bash
# Real work of a Linux NFS client, timed. Runs in the virtual machine that test/vm/run-vm.sh starts, which has one processor.
#
# PORT        of the server on the host; empty: the kernel's own server over the kernel's overlayfs, in this machine, on /dev/ubda
# MOUNT_PORT  that of its MOUNT protocol         EXPORT      the path that it exports
# VERSION     of NFS: 3 or 4.1
# ARCHIVES    where lower.tar, source.tar and small-files.tar are; lower.tar is what the server's lower has
# PARTS       what is done, in order             FILES       how many files small-files.tar has
#
# Prints "@time PART SECONDS", "@failed PART REASON", and "@cannot REASON" when there is nothing to work on. Before each part the export is
# mounted anew, so that nothing is known of it.
set -u
export LC_ALL=C HOME=/tmp GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
umask 022
here=/run/bench
top=$here/mount
log=$here/log
mkdir -p "$top"

cannot() {
	echo "@cannot $1: $(tail -n 1 "$log")"
	exit 0
}

# As for the peers on the host, but the disk is the machine's.
serve() {
	mkdir -p "$here/disk" "$here/merged"
	mkfs.ext4 -q -F -N 200000 /dev/ubda && mount -o noatime,noinit_itable /dev/ubda "$here/disk" &&
		mkdir "$here/disk/lower" "$here/disk/upper" "$here/disk/work" &&
		tar -x -f "$ARCHIVES/lower.tar" -C "$here/disk/lower" && sync -f "$here/disk" || return
	local layers=lowerdir=$here/disk/lower,upperdir=$here/disk/upper,workdir=$here/disk/work
	mount -t overlay -o "$layers,index=on,nfs_export=on,redirect_dir=on" bench "$here/merged" &&
		echo "$here/merged 127.0.0.1(rw,async,fsid=0,insecure,no_root_squash,no_subtree_check)" >/etc/exports &&
		rpcbind -w && { mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd; } &&
		exportfs -ra && rpc.nfsd -V 3 4 && rpc.mountd -p 20048
}

attach() {
	local options=vers=$VERSION,proto=tcp,port=$PORT
	[ "$VERSION" = 3 ] && options+=,mountport=$MOUNT_PORT,mountproto=tcp,nolock
	mount -t nfs -o "$options" "$VM_HOST:$EXPORT" "$top"
}

# What each part does, and whether it was done.
git_clone() { git clone -q "$top/repository" "$top/clone"; }
git_clone_done() { [ -z "$(git -C "$top/clone" status --porcelain)" ] && [ -n "$(ls "$top/clone")" ]; }

tar_x() { mkdir "$top/source" && tar -x -f "$ARCHIVES/source.tar" -C "$top/source"; }
tar_x_done() { tar -d -f "$ARCHIVES/source.tar" -C "$top/source"; }

make_project() { make -s -C "$top/project"; }
make_project_done() { [ "$("$top/project/program")" = "$(cat "$top/project/expected")" ]; }

rm_rf() { rm -rf "$top/condemned"; }
rm_rf_done() { [ ! -e "$top/condemned" ]; }

small_files_create() { mkdir "$top/small" && tar -x -f "$ARCHIVES/small-files.tar" -C "$top/small"; }
small_files_create_done() { [ "$(find "$top/small" -type f | wc -l)" = "$FILES" ]; }

# The size makes it ask for the attributes of each file.
small_files_stat() { find "$top/small" -type f -printf '%s\n' >"$here/sizes"; }
small_files_stat_done() { [ "$(wc -l <"$here/sizes")" = "$FILES" ]; }

small_files_remove() { rm -rf "$top/small"; }
small_files_remove_done() { [ ! -e "$top/small" ]; }

# Reads the programs from the host's disk, and lets the server see each call once.
warm_up() {
	attach && mkdir "$top/warm" && tar -x -f "$ARCHIVES/warm.tar" -C "$top/warm" && find "$top/warm" -printf '%s\n' >"$here/sizes" &&
		git clone -q "$top/warm/repository" "$top/warm/clone" && make -s -C "$top/warm/project" && rm -rf "$top/warm" && umount "$top"
}

if [ -z "$PORT" ]; then
	serve >"$log" 2>&1 || cannot "the kernel's server"
	PORT=2049 MOUNT_PORT=20048 EXPORT=$here/merged VM_HOST=127.0.0.1
else
	# As on the host: see acknowledge() in bench/vm-stage.mjs.
	ip route replace 10.0.2.0/24 dev eth0 src 10.0.2.15 quickack 1 >"$log" 2>&1 || cannot "the network"
fi
warm_up >"$log" 2>&1 || cannot "while warming up"
for part in $PARTS; do
	work=${part//-/_}
	[ "$work" = make ] && work=make_project
	attach >"$log" 2>&1 || cannot "mount"
	begun=${EPOCHREALTIME/./}
	"$work" >"$log" 2>&1
	status=$?
	micros=$((${EPOCHREALTIME/./} - begun))
	if [ $status -ne 0 ]; then
		echo "@failed $part exit status $status: $(tail -n 1 "$log")"
	elif ! "${work}_done" >"$log" 2>&1; then
		echo "@failed $part what it left is not as it should be: $(tail -n 1 "$log")"
	else
		printf '@time %s %d.%06d\n' "$part" $((micros / 1000000)) $((micros % 1000000))
	fi
	umount "$top"
done
