#!/bin/bash
# Serves by PROGRAM in the machine itself, as root and as an ordinary user, mounts by the very lines that it prints, and unmounts so.
# What is seen is printed in lines that begin with "@".
set -u
PORT=20490
sudo() { "$@"; }
at() { grep -m 1 "^sudo $1" "$OUT"; }
served() {
	OUT=$1
	for _ in $(seq 3000); do
		grep -q "^Changes" "$OUT" && return
		kill -0 "$SERVER" 2>/dev/null || break
		sleep 0.1
	done
	cat "$OUT"
	exit 1
}
end() { kill "$SERVER"; wait "$SERVER"; }

mkfs.ext4 -q -F /dev/ubda && mkdir -p /run/disk /mnt && mount /dev/ubda /run/disk && chmod 755 /run/disk || exit 1
cd /
mkdir -p /run/disk/root && echo secret >/run/disk/root/secret && chmod 600 /run/disk/root/secret
node "$PROGRAM" serve --no-warm-up /run/disk/root --state-dir /run/disk/root-state >/run/root-out 2>&1 &
SERVER=$!
served /run/root-out
eval "$(at "mount -t nfs")" || exit 1
grep -q "^127.0.0.1:/ /mnt nfs4 [^ ]*nosuid,nodev" /proc/mounts && echo "@root nosuid,nodev"
echo "@root $(cat /mnt/secret)"
cp /usr/bin/id /mnt/id && chmod 4755 /mnt/id && echo "@root made $(stat -c '%a %u' /mnt/id)"
echo "@user $(setpriv --reuid=1000 --regid=1000 --clear-groups /mnt/id -u)"
setpriv --reuid=1000 --regid=1000 --clear-groups cat /mnt/secret 2>/dev/null || echo "@user no secret"
eval "$(at umount)" || exit 1
mount -t nfs -o "noresvport,$(at "mount -t nfs" | sed 's/.* -o \([^ ]*\) .*/\1/')" 127.0.0.1:/ /mnt 2>&1 | sed 's/^/@root /'
end

mkdir -p /run/disk/user && echo mine >/run/disk/user/file && mkdir /run/disk/user-state && chown -R 1000:1000 /run/disk/user*
setpriv --reuid=1000 --regid=1000 --clear-groups node "$PROGRAM" serve --no-warm-up /run/disk/user --state-dir /run/disk/user-state >/run/user-out 2>&1 &
SERVER=$!
served /run/user-out
eval "$(at "mount -t nfs")" || exit 1
echo more >/mnt/new
echo "@user $(cat /mnt/file) $(stat -c %u /mnt/new)"
eval "$(at umount)" || exit 1
end
