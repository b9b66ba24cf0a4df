#!/bin/bash
# Runs the mount command of the README (MOUNT_COMMAND), then reads and writes in /mnt.
set -e
mkdir -p /mnt
eval "$MOUNT_COMMAND"
cat /mnt/etc/motd
echo changed >/mnt/etc/motd
cat /mnt/etc/motd
umount /mnt
echo done
