#!/bin/bash
# Ordinary programs at work in a folder that holds the lower tree of linux-client.test.ts. Runs twice: in the virtual
# machine, where TOP is an NFS mount of the export, and on the host, where TOP is a plain copy of the same tree. What both
# leave behind must be equal; paths are the same in both, since some programs write them down.
#
# TOP        the folder to work in                 PORT        in the VM: the server's; empty on the host
# TARBALL    an archive to unpack                  RESULTS     in the VM: where the list of files goes
# SMALL      how many small files to create        WORKLOADS   names of those to run, in order
# OPTIONS    further mount options           VERSION     of NFS: 3 or 4.1
set -u
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.org GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' GIT_COMMITTER_DATE='2000-01-01T00:00:00Z'
export LC_ALL=C TZ=UTC HOME=/tmp
# One thread, or packs differ from run to run.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=pack.threads GIT_CONFIG_VALUE_0=1
umask 022

attach() {
	[ -z "$PORT" ] && return
	case $VERSION in
	3) mount -t nfs -o "vers=3,proto=tcp,port=$PORT,mountport=$PORT,mountproto=tcp,nolock$OPTIONS" "$VM_HOST:/" "$TOP" ;;
	*) mount -t nfs -o "vers=$VERSION,proto=tcp,port=$PORT$OPTIONS" "$VM_HOST:/" "$TOP" ;;
	esac
}
detach() { [ -z "$PORT" ] || umount "$TOP"; }

tarball() (
	mkdir "$TOP/unpacked" && tar -x -f "$TARBALL" -C "$TOP/unpacked" || exit
	# A server that starts anew between WRITE and COMMIT has the client send the data again, which it may do after the times were set.
	# What is small is written by one stable WRITE.
	differences=$(tar -d -f "$TARBALL" -C "$TOP/unpacked")
	[ $? -le 1 ] && [ -z "$(grep -vx '\./big: Mod time differs' <<<"$differences")" ] || { echo "$differences"; exit 1; }
)

git_work() (
	cd "$TOP" && git clone -q --no-tags repository clone && cd clone &&
		for i in 1 2 3 4 5; do
			echo "line $i" >>file1.txt && mkdir -p "new/$i" && echo "$i" >"new/$i/file" && git add -A && git commit -q -m "change $i" || exit 1
		done
	git mv file2.txt moved.txt && git rm -q file3.txt && git commit -q -m "move and remove" && git checkout -q -b branch HEAD~3 &&
		git checkout -q - && git gc -q && git fsck --strict --full 2>&1 | grep -v '^$' | grep -v dangling
	git -C "$TOP/clone" fsck --strict --full >/dev/null 2>&1 && [ -z "$(git -C "$TOP/clone" status --porcelain)" ] &&
		[ "$(git -C "$TOP/clone" rev-list --count HEAD)" = "$(($(git -C "$TOP/repository" rev-list --count HEAD) + 6))" ] &&
		cd "$TOP/repository" && echo more >>file4.txt && git add file4.txt && git commit -q -m "in the lower repository" && git fsck --strict --full >/dev/null 2>&1
)

# Times of files are the server's, and the clock of the virtual machine goes by itself.
make_silently() {
	make -s 2>&1 | sed '/has modification time .* in the future$/d; /Clock skew detected/d' >&2
	return "${PIPESTATUS[0]}"
}

make_project() (
	cd "$TOP/project" && make_silently && [ "$(./program)" = "$(cat expected)" ] && make -q &&
		echo '#define EXTRA 1' >>common.h && ! make -q && make_silently && [ "$(./program)" = "$(cat expected)" ]
)

sqlite() (
	cd "$TOP" && sqlite3 new.db 'create table t(id integer primary key, word text, n integer);' &&
		for round in 1 2 3 4 5 6 7 8; do
			sqlite3 new.db "begin; with recursive c(i) as (values($round*1000) union all select i+1 from c where i<$round*1000+249) insert into t select i, hex(i*7919), i%97 from c; commit;" || exit 1
		done
	sqlite3 new.db 'create index w on t(word); update t set n=n+1 where id%3=0; delete from t where id%5=0; vacuum;' &&
		[ "$(sqlite3 new.db 'pragma integrity_check')" = ok ] && [ "$(sqlite3 new.db 'select count(*), sum(n) from t')" = "$SQLITE_EXPECTED" ] &&
		sqlite3 old.db 'update t set n=n+1; insert into t values(100000, "new", 1);' && [ "$(sqlite3 old.db 'pragma integrity_check')" = ok ] &&
		[ "$(sqlite3 old.db 'select count(*) from t')" = 2001 ]
)

remove_tree() (
	rm -rf "$TOP/condemned" && [ ! -e "$TOP/condemned" ] && mkdir "$TOP/condemned" && [ -z "$(ls -A "$TOP/condemned")" ]
)

small_files() (
	mkdir "$TOP/small" && perl -e '
		my ($top, $count) = @ARGV;
		for my $i (0 .. $count - 1) {
			my $d = sprintf "%s/small/%d", $top, $i / 250;
			if ($i % 250 == 0) { mkdir $d or die "mkdir $d: $!"; }
			open my $f, ">", "$d/$i" or die "create $i: $!";
			print $f "small $i\n" or die "write $i: $!";
			close $f or die "close $i: $!";
		}
		for my $i (0 .. $count - 1) {
			my $p = sprintf "%s/small/%d/%d", $top, $i / 250, $i;
			if ($i % 10 == 3) { rename $p, "$p.renamed" or die "rename $i: $!"; }
			elsif ($i % 10 != 7) { unlink $p or die "unlink $i: $!"; }
		}' "$TOP" "$SMALL"
)

attach || exit 1
for name in $WORKLOADS; do
	echo "@begin $name"
	start=$(date +%s%N)
	"$name"
	status=$?
	echo "@end $name $status $((($(date +%s%N) - start) / 1000000))"
done
detach || exit 1
if [ -n "$PORT" ]; then
	attach || exit 1
	echo "@begin find"
	find "$TOP" -printf '%y %m %U %G %l %P\n' >"$RESULTS/find"
	echo "@end find $? 0"
	detach
fi
