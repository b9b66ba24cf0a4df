#!/bin/bash
# A client works on a mount, reads all of it, and keeps some of it open; the host discards what was changed; then the client reads all again.
# For linux-client-discard.test.ts. PORT is the server's, VERSION that of NFS.
set -u
export LC_ALL=C
SECONDS_CACHED=2
TOP=/mnt
case $VERSION in
3) options="proto=tcp,port=$PORT,mountport=$PORT,mountproto=tcp,nolock" ;;
*) options="proto=tcp,port=$PORT" ;;
esac
mount -t nfs -o "vers=$VERSION,$options,acregmin=1,acregmax=$SECONDS_CACHED,acdirmin=1,acdirmax=$SECONDS_CACHED" "$VM_HOST:/" "$TOP" || exit 1
cd "$TOP" || exit 1

tree() { find . -type f | sort | while read -r path; do echo "$path $(stat -c '%i %s %h' "$path") $(md5sum <"$path")"; done; find . -type d | sort; }

tree >/tmp/before
printf 'UPPER' | dd of=same conv=notrunc status=none
echo more >>longer
mv dir moved && printf 'UPPER' | dd of=moved/in conv=notrunc status=none
rm -r removed
mkdir removed && echo new >removed/new
ln two/a linked && printf 'UPPER' | dd of=linked conv=notrunc status=none
mv file other
echo born >born
sync
tree >/tmp/changed
cmp -s /tmp/before /tmp/changed && echo "nothing was changed"

# open files, an open directory, and a working directory
exec 3<same 4<other 5<born 6<moved
cd moved/sub || exit 1
head -c 1 <&3 >/dev/null

echo "@discard"
until [ -e "$TOP/done" ]; do sleep 0.2; done
sleep $((SECONDS_CACHED + 1))

cat <&3 >/tmp/open || echo "an open file cannot be read"
cat <&4 >/tmp/renamed || echo "an open file that was renamed cannot be read"
cat <&5 >/tmp/held 2>/tmp/error
ls /proc/self/fd/6/ >/tmp/listed || echo "an open directory cannot be listed"
cat ./leaf >/dev/null || echo "the working directory cannot be read"
[ "$(cat /tmp/renamed)" = "a file" ] || echo "the open file reads $(cat /tmp/renamed)"
case $VERSION in
3) grep -q Stale /tmp/error || echo "a file that is gone is not stale: $(cat /tmp/error)" ;;
*) [ "$(cat /tmp/held)" = born ] || echo "a file that is open is gone: $(cat /tmp/error)" ;;
esac
cd "$TOP" && rm done && tree >/tmp/after
diff /tmp/before /tmp/after && echo "@as in the lowers"
exec 3<&- 4<&- 5<&- 6<&-
cd / && umount "$TOP"
