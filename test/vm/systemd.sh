#!/bin/bash
# Installs the Debian package PACKAGE, has a systemd of its own start its unit, and uses what that serves. NODE is the Node.js that the package runs.
set -u
mkfs.ext4 -q -F /dev/ubda && mkdir -p /run/disk && mount /dev/ubda /run/disk || exit 1
# kernel handles want a disk: the machine's own root is an overlay
for folder in srv var/lib/holdfast; do
	mkdir -p "/run/disk/$folder" "/$folder" && mount --bind "/run/disk/$folder" "/$folder" || exit 1
done
[ -x /usr/bin/node ] || ln -s "$NODE" /usr/bin/node
dpkg -i --force-depends "$PACKAGE" >/run/dpkg.log 2>&1 || { cat /run/dpkg.log && exit 1; }
mkdir /srv/golden && echo welcome >/srv/golden/motd && mkdir -p /mnt || exit 1
echo 'SERVE="/srv/golden --listen 127.0.0.1:20490"' >/etc/holdfast/golden.env
# what the unit wants of other units this machine does not have
cat >/etc/systemd/system/alone.target <<'UNIT'
[Unit]
DefaultDependencies=no
AllowIsolate=yes
UNIT
# would go through all of /tmp
ln -s /dev/null /etc/systemd/system/systemd-tmpfiles-setup.service
systemd-analyze verify /lib/systemd/system/holdfast@.service 2>&1 | grep -F holdfast
systemd-analyze security --offline=yes --threshold=50 /lib/systemd/system/holdfast@.service >/run/security 2>&1 || tail -n 1 /run/security

cat >/run/manager <<'SCRIPT'
mount -t proc proc /proc && mkdir -p /sys/fs/cgroup && mount -t cgroup2 cgroup /sys/fs/cgroup
container=lxc exec /lib/systemd/systemd --system --unit=alone.target --log-target=kmsg --show-status=no
SCRIPT
unshare --pid --fork --kill-child --mount --ipc bash /run/manager >/run/manager.log 2>&1 &
children=/proc/$!/task/$!/children
wait_for() {
	for _ in $(seq 6000); do
		"$@" && return
		sleep 0.1
	done
	echo "it does not come: $*"
	journalctl -u holdfast@golden --no-pager
	exit 1
}
wait_for [ -S /run/systemd/private ]
manager=$(<"$children")
manager=${manager%% *}
unit() { nsenter -t "$manager" -m -p systemctl "$@" holdfast@golden; }
shows() { unit show --value -p "$1"; }
is() { [ "$(shows "$1")" = "$2" ]; }

unit start || { unit status --no-pager -l && exit 1; }
echo "@started $(shows ActiveState) $(shows StatusText)"
[ "$(shows WatchdogTimestampMonotonic)" -gt 0 ] && echo "@watchdog"
main=$(shows MainPID)
echo "@seccomp $(nsenter -t "$manager" -m -p sed -n 's/^Seccomp:\s*//p' "/proc/$main/status")"
nsenter -t "$manager" -m -p nsenter -t "$main" -m touch /usr/file 2>&1 | sed 's/.*: /@usr /'
mount -t nfs -o vers=4.1,proto=tcp,port=20490,nosuid,nodev 127.0.0.1:/ /mnt && echo changed >/mnt/motd && mkdir /mnt/made || exit 1
echo "@list $(holdfast list | tail -n 1)"

before=$(shows NRestarts)
restarted() { [ "$(shows NRestarts)" -gt "$before" ]; }
nsenter -t "$manager" -m -p kill -KILL "$main"
wait_for restarted
wait_for is ActiveState active
echo "@mount $(cat /mnt/motd) $(ls /mnt | xargs)"
umount /mnt
unit stop
echo "@stopped $(shows ActiveState) $(shows Result)"
kill -KILL "$manager"
