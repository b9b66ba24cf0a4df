#!/bin/bash
# Holds files and a working place of a mount while the server's layers move to another file system, for portable-move.test.ts.
# PORT is the server's; TOP is where to mount. A file "moved" in the export says that they have.
set -u
export LC_ALL=C
mount -t nfs -o "vers=3,proto=tcp,port=$PORT,mountport=$PORT,mountproto=tcp,nolock,hard,timeo=20,retrans=1,lookupcache=none,actimeo=1" "$VM_HOST:/" "$TOP" || exit 1
fail() {
	echo "$*"
	exit 1
}
cd "$TOP/work/place" || exit 1
exec 5>>"$TOP/work/log" 6<"$TOP/old/name" 7<"$TOP/work/lower"
echo before >&5
mkdir "$TOP/born" && printf begun >"$TOP/born/born" || exit 1
exec 8>>"$TOP/born/born"
mv "$TOP/born" "$TOP/renamed" || exit 1
mv "$TOP/old/name" "$TOP/work/other" || exit 1
numbers=$(cd "$TOP" && find . -not -name moved -not -name new -printf '%i %p\n' | sort)
echo @move
until [ -e "$TOP/moved" ]; do sleep 0.5; done
echo after >&5 || fail "cannot write to an open file"
echo ", went on" >&8 || fail "cannot write to an open file of a renamed directory"
exec 5>&- || fail "cannot close"
exec 8>&- || fail "cannot close"
[ "$(cat <&6)" = "by handle" ] || fail "the open file reads otherwise"
[ "$(cat <&7)" = lower ] || fail "the open lower file reads otherwise"
[ "$(cat file)" = "in the working place" ] || fail "the working place is another"
echo "made in the working place" >new || fail "cannot make a file in the working place"
[ "$(ls | tr '\n' ' ')" = "file new " ] || fail "the working place lists otherwise: $(ls)"
[ "$(cd "$TOP" && find . -not -name moved -not -name new -printf '%i %p\n' | sort)" = "$numbers" ] || fail "inode numbers are others"
exec 6<&- 7<&-
cd / && umount "$TOP"
