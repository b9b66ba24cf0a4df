#!/bin/bash
# Programs that move directories and make hard links, for linux-client-kill.test.ts. Runs twice: in the virtual machine, where
# TOP is an NFS mount whose server is killed all the time, and on the host, where TOP is a plain copy of the same tree. What
# both leave behind must be equal. Each lane works in its own folders, all lanes at the same time; a step is one workload in
# a folder of its own, TOP/LANE/ROUND, which it finds as linux-client-kill.test.ts planted it.
#
# TOP        the folder to work in                 PORT        in the VM: the server's; empty on the host
# LANES      how many lanes                        ROUNDS      folders in each lane
# SECONDS_   in the VM: no step begins later, but for those of the first round
# STEPS      on the host: how many steps each lane took in the VM, separated by spaces
# SEED       order of the workloads                RESULTS     in the VM: where the list of files goes
# OPTIONS    further mount options                 WORKLOADS   their names
# VERSION    of NFS: 3 or 4.1
set -u
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.org GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' GIT_COMMITTER_DATE='2000-01-01T00:00:00Z'
export LC_ALL=C TZ=UTC HOME=/tmp
# One thread, or packs differ from run to run.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=pack.threads GIT_CONFIG_VALUE_0=1
umask 022

attach() {
	[ -z "$PORT" ] && return
	local options="proto=tcp,port=$PORT,hard,timeo=20,retrans=1$OPTIONS"
	[ "$VERSION" = 3 ] && options+=",mountport=$PORT,mountproto=tcp,nolock"
	mount -t nfs -o "vers=$VERSION,$options" "$VM_HOST:/" "$TOP"
}
detach() { [ -z "$PORT" ] || umount "$TOP"; }
fail() {
	echo "$*"
	return 1
}

# Lives in a directory that others move about: its working directory and its open files lie there. Told "work N", it does N
# turns; told "path P", it must be there.
worker='
	use strict; use Cwd (); use IO::Handle; $| = 1;
	my ($directory) = @ARGV;
	my $problem = sub { print "bad: $_[0]: $!\n"; exit 1 };
	chdir $directory or $problem->("chdir");
	open my $log, ">>", "log" or $problem->("open log");
	open my $data, "+<", "data" or $problem->("open data");
	open my $unlinked, "+>", "unlinked" or $problem->("open unlinked");
	unlink "unlinked" or $problem->("unlink an open file");
	my $model = join "", map { sprintf "%07d\n", $_ } 0 .. 499;
	my ($turn, $held) = (0, "");
	print "ready\n";
	while (my $line = <STDIN>) {
		chomp $line;
		my ($verb, $argument) = split / /, $line, 2;
		if ($verb eq "path") {
			my $path = Cwd::getcwd();
			defined $path && $path eq $argument or $problem->("working directory is " . ($path // "lost") . ", not $argument");
		}
		if ($verb eq "work") {
			for (1 .. $argument) {
				$turn++;
				syswrite($log, "turn $turn\n") or $problem->("append");
				my $at = ($turn * 977) % 3900;
				if ($turn % 3 == 0) {
					my $text = sprintf "<%05d>", $turn;
					sysseek($data, $at, 0) or $problem->("seek");
					syswrite($data, $text) or $problem->("write");
					substr($model, $at, length $text) = $text;
				}
				sysseek($data, $at, 0) or $problem->("seek");
				defined sysread($data, my $got, 64) or $problem->("read");
				$got eq substr($model, $at, 64) or $problem->("data at $at are \"$got\"");
				$held .= "held $turn\n";
				sysseek($unlinked, 0, 2); syswrite($unlinked, "held $turn\n") or $problem->("write to an unlinked file");
				open my $new, ">", "new$turn" or $problem->("create");
				print $new "new $turn\n"; close $new or $problem->("close");
				rename "new$turn", "kept$turn" or $problem->("rename");
				if ($turn % 2) { unlink "kept$turn" or $problem->("unlink"); }
				open my $above, "<", "../above" or $problem->("open ../above");
				<$above> eq "above\n" or $problem->("contents of ../above");
				if ($turn % 4 == 0) {
					$log->sync or $problem->("fsync");
					opendir my $here, "." or $problem->("opendir");
					my $kept = grep { /^kept/ } readdir $here;
					$kept == int($turn / 2) or $problem->("listing has $kept files, not " . int($turn / 2));
				}
			}
		}
		print "ok\n";
	}
	sysseek($unlinked, 0, 0); sysread($unlinked, my $got, 1 << 20);
	$got eq $held or $problem->("contents of an unlinked file");
	sysseek($data, 0, 0); sysread($data, $got, 1 << 20);
	$got eq $model or $problem->("contents of data");
	close $_ or $problem->("close") for $log, $data, $unlinked;
	print "done\n";
'

# mv of lower directories while a program works below them.
move_directories() (
	cd "$1" || exit 1
	coproc WORKER { exec perl -e "$worker" "$1/app/one/two/three/four" 2>&1; }
	# Of its own, since bash forgets a coprocess when it ends.
	pid=$WORKER_PID
	exec {from_worker}<&"${WORKER[0]}" {to_worker}>&"${WORKER[1]}"
	eval "exec ${WORKER[0]}<&- ${WORKER[1]}>&-"
	answer() {
		local line=
		read -r line <&"$from_worker" && [ "$line" = "$1" ] || fail "worker: $line"
	}
	# FROM TO, and where the worker is then
	move() {
		echo "work 4" >&"$to_worker"
		mv -T "$1" "$2" && answer ok && echo "path $3" >&"$to_worker" && answer ok
	}
	answer ready &&
		move app gone "$1/gone/one/two/three/four" &&
		move gone/one/two other/two "$1/other/two/three/four" &&
		move other another "$1/another/two/three/four" &&
		mkdir new && move another/two/three new/three "$1/new/three/four" &&
		move new gone/one/new "$1/gone/one/new/three/four" &&
		move gone/one/new/three another/two/three "$1/another/two/three/four" &&
		move another/two gone/one/two "$1/gone/one/two/three/four" &&
		move gone/one/two/three/four four "$1/four" &&
		[ ! -e gone/one/two/three/four ] &&
		move four gone/one/two/three/four "$1/gone/one/two/three/four" &&
		move gone app "$1/app/one/two/three/four" || exit 1
	exec {to_worker}>&-
	answer done && wait "$pid" && [ "$(wc -l <app/one/two/three/four/log)" = 40 ] && [ ! -e gone ] && [ ! -e four ]
)

# Trees of hard links to lower files.
link_trees() (
	cd "$1" && cp -al tree tree.1 && cp -al tree.1 tree.2 && mv tree.1 tree.3 && echo more >>tree/d0/f1 && echo other >tree.3/d1/f2 &&
		cmp tree/d0/f1 tree.2/d0/f1 && cmp tree/d1/f2 tree.2/d1/f2 && [ "$(stat -c %h tree.2/d0/f3)" = 3 ] &&
		[ "$(stat -c %i tree.2/d0/f3)" = "$(stat -c %i tree/d0/f3)" ] && ln tree/d0/f4 tree.2/further && rm -rf tree &&
		[ "$(stat -c %h tree.2/d0/f3)" = 2 ] && chmod 600 tree.3/d1/f5 && [ "$(stat -c %a tree.2/d1/f5)" = 600 ] &&
		cp -al tree.2/d0 tree.3/again && rm -rf tree.2/d0 && diff -r tree.3/d0 tree.3/again && rm tree.3/again/f6
)

# Backups that share what has not changed.
backups() (
	cd "$1" && rsync -a --link-dest=../backup.0 source/ backup.1/ && [ "$(stat -c %h backup.1/d0/f1)" = 2 ] &&
		echo changed >source/d0/f1 && rm source/d1/f2 && mv source/d1/f3 source/d0/f3-moved && mkdir source/fresh && echo fresh >source/fresh/file &&
		touch -d 2002-02-02T02:02:02 source/d0/f1 source/fresh/file && rsync -a --link-dest=../backup.1 source/ backup.2/ && diff -r source backup.2 &&
		[ "$(cat backup.1/d0/f1)" != changed ] && [ "$(stat -c %h backup.2/d1/f4)" = 3 ] && rm -rf backup.0 && [ "$(stat -c %h backup.2/d1/f4)" = 2 ] &&
		rsync -a --delete source/ backup.1/ && diff -r source backup.1
)

change_and_commit() {
	echo "$1" >>file1.txt && mkdir -p "new/$1" && echo "$1" >"new/$1/file" && git add -A && git commit -q -m "change $1"
}

# Repositories that share objects, by alternates and by hard links.
git_links() (
	cd "$1" && git clone -q --shared repository shared && (cd shared && change_and_commit one && git gc -q) &&
		git clone -q --local repository local && [ "$(find local/.git/objects -type f -links 2 | wc -l)" -gt 10 ] &&
		(cd local && git mv file2.txt moved.txt && change_and_commit two && git gc -q) &&
		mv repository moved-repository && mkdir repository && mv moved-repository/.git moved-repository/file* repository/ && rmdir moved-repository &&
		(cd repository && change_and_commit three && git gc -q) || exit 1
	for each in shared local repository; do
		git -C "$each" fsck --strict --full >fsck.out 2>&1 && [ -z "$(git -C "$each" status --porcelain)" ] || fail "$each: $(cat fsck.out)" || exit 1
	done
	rm fsck.out
)

# What a package manager does to a tree of many small files: aside, new ones in their place, old ones away.
package_tree() (
	cd "$1/project" && mv node_modules .node_modules-aside && mkdir node_modules && mv .node_modules-aside/p0 .node_modules-aside/p1 node_modules/ &&
		mv node_modules/p0 node_modules/.p0-aside && mkdir -p node_modules/p0/lib && echo 'new p0' >node_modules/p0/index.js && rm -rf node_modules/.p0-aside &&
		mv .node_modules-aside/p2/node_modules/nested node_modules/nested && mv .node_modules-aside/p2 node_modules/p2 &&
		[ "$(cat node_modules/nested/package.json)" = '{ "name": "nested of p2" }' ] &&
		mkdir -p node_modules/@scope && mv .node_modules-aside/p3 node_modules/@scope/p3 && mv node_modules/@scope node_modules/@other &&
		echo 'patched' >>node_modules/@other/p3/lib/l1.js && cp -a node_modules/@other/p3 node_modules/p3 && diff -r node_modules/@other/p3 node_modules/p3 &&
		mv .node_modules-aside other-project && mv node_modules other-project/inner && mv other-project/inner node_modules &&
		rm -rf other-project && ls -lR . >/dev/null && cd .. && mv project project-2 && mv project-2/node_modules . && find node_modules -type f | sort | xargs md5sum >sums &&
		mv node_modules project-2/ && mv project-2 project && sed 's|  |  project/|' <sums | md5sum -c --quiet && rm sums
)

# A tree goes into an archive, away, and comes back.
archive() (
	cd "$1" && tar -c -f a.tar victim && rm -rf victim && [ ! -e victim ] && tar -x -f a.tar && tar -d -f a.tar && mv victim/d0 victim/moved && rm -rf victim/d1 &&
		tar -x -f a.tar && tar -d -f a.tar && diff -r victim/d0 victim/moved && mkdir b && tar -C victim -c -f - . | tar -C b -x -f - && diff -r victim b && rm -rf victim a.tar
)

order() {
	local name numbered=
	RANDOM=$((SEED * 1000 + $1 * 100 + $2))
	# Not in a pipe: what follows one has random numbers of its own.
	for name in $WORKLOADS; do numbered+="$RANDOM $name"$'\n'; done
	sort -n <<<"${numbered%$'\n'}" | cut -d ' ' -f 2
}

lane() {
	local lane=$1 steps=0 round name status start
	for ((round = 0; round < ROUNDS; round++)); do
		for name in $(order "$lane" "$round"); do
			if [ -n "$PORT" ]; then
				[ "$round" -gt 0 ] && [ "$SECONDS" -ge "$SECONDS_" ] && break 2
			else
				[ "$steps" -ge "$2" ] && break 2
			fi
			start=$(date +%s%N)
			"$name" "$TOP/$lane/$round"
			status=$?
			echo "@step $lane $round $name $status $((($(date +%s%N) - start) / 1000000))"
			[ "$status" = 0 ] || return 1
			steps=$((steps + 1))
		done
	done
	echo "@lane $lane $steps"
}

attach || exit 1
echo "@begin"
SECONDS=0
read -r -a steps <<<"$STEPS"
for ((number = 0; number < LANES; number++)); do lane "$number" "${steps[number]-0}" & done
wait
echo "@end"
detach || exit 1
if [ -n "$PORT" ]; then
	attach || exit 1
	find "$TOP" -printf '%y %m %U %G %l %P\n' >"$RESULTS/find"
	echo "@found $?"
	detach
fi
