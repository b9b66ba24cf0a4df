#!/bin/bash
# Locks of two NFS clients on one export, for linux-client-locks.test.ts: the second is a network and UTS namespace of this machine, which reaches the
# server through a relay. PORT is the server's, SECONDS_ how long the contention lasts.
set -u
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.org LC_ALL=C HOME=/tmp

relay='
	use strict; use IO::Socket::INET; use IO::Select;
	my ($host, $port) = @ARGV;
	$SIG{CHLD} = "IGNORE";
	my $listener = IO::Socket::INET->new(LocalAddr => "10.9.0.1", LocalPort => $port, Listen => 9, ReuseAddr => 1) or die "listen: $!";
	while (1) {
		my $in = $listener->accept or next;
		next if fork;
		my $out = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port) or exit;
		my %other = ($in => $out, $out => $in);
		my $select = IO::Select->new($in, $out);
		while (my @ready = $select->can_read) {
			for my $from (@ready) {
				my $count = sysread $from, my $bytes, 1 << 17;
				exit unless $count;
				my $at = 0;
				while ($at < $count) { $at += syswrite($other{$from}, $bytes, $count - $at, $at) // exit; }
			}
		}
	}
'

second() {
	ip link add v0 type veth peer name v1 && ip addr add 10.9.0.1/24 dev v0 && ip link set v0 up || return
	unshare -n -u -m sleep 10000 &
	N=$!
	sleep 0.5
	ip link set v1 netns "$N"
	C2 sh -c 'hostname vm2; ip link set lo up; ip addr add 10.9.0.2/24 dev v1; ip link set v1 up'
	perl -e "$relay" "$VM_HOST" "$PORT" &
	R=$!
	sleep 0.5
}
C2() { nsenter -t "$N" -n -u -m "$@"; }

mkdir -p /m /m2
second || exit 1
mount -t nfs -o "vers=4.1,proto=tcp,port=$PORT,hard,timeo=20,retrans=1" "$VM_HOST:/" /m || exit 1
C2 mount -t nfs -o "vers=4.1,proto=tcp,port=$PORT,hard,timeo=20,retrans=1" 10.9.0.1:/ /m2 || exit 1

# a range (struct flock of 64-bit machines) or the whole file, waiting or not
locking='
	use strict; use Errno; use Fcntl qw(:flock :seek F_SETLK F_SETLKW F_WRLCK); $| = 1;
	my ($path, $kind) = @ARGV;
	open my $f, "+<", $path or die "open: $!";
	sub take { my ($f, $kind, $from, $length, $waits) = @_;
		return flock $f, LOCK_EX | ($waits ? 0 : LOCK_NB) if $kind eq "flock";
		my $lock = pack "s s x4 q q i x4", F_WRLCK, SEEK_SET, $from, $length, 0;
		return fcntl $f, $waits ? F_SETLKW : F_SETLK, $lock }
'

# a lock of one keeps the other out, of either kind, and goes when the file is closed
held() { # KIND
	: >/m/lock
	# what the last one said is not this one's
	: >/tmp/held
	perl -e "$locking"' take($f, $kind, 10, 5, 1) or die "lock: $!"; print "held\n"; sleep 100' /m/lock "$1" >/tmp/held &
	local holder=$!
	until grep -q held /tmp/held; do kill -0 "$holder" || return; sleep 0.1; done
	C2 perl -e "$locking"' take($f, $kind, 12, 1, 0) and die "locked twice"; $!{EAGAIN} or $!{EACCES} or die "the second one: $!";
		$kind eq "flock" or take($f, $kind, 15, 5, 0) or die "beside it: $!"' /m2/lock "$1" || echo "not kept out: $1"
	kill "$holder"
	wait "$holder" 2>/dev/null
	C2 timeout 60 perl -e "$locking"' take($f, $kind, 0, 0, 1) or die "afterwards: $!"' /m2/lock "$1" || echo "not had afterwards: $1"
}
held flock
held fcntl
echo "@exclusive"

# a counter that each client reads, raises and writes back under a lock: no round is lost
count='
	use strict; use Fcntl qw(:flock SEEK_SET); $| = 1;
	my ($path, $until, $kind) = @ARGV; my $rounds = 0;
	while (time < $until) {
		open my $f, "+<", $path or die "open: $!";
		flock $f, LOCK_EX or die "flock: $!";
		sysread($f, my $text, 100) // die "read: $!";
		sysseek $f, 0, SEEK_SET;
		my $line = sprintf "%08d\n", $text + 1;
		syswrite($f, $line) == 9 or die "write: $!";
		close $f or die "close: $!";
		$rounds++;
	}
	print "$rounds\n";
'
echo 00000000 >/m/counter
until=$(($(date +%s) + SECONDS_))
echo "@begin contention"
perl -e "$count" /m/counter "$until" >/tmp/rounds1 &
A=$!
C2 perl -e "$count" /m2/counter "$until" >/tmp/rounds2 &
B=$!
sqlite3 /m/shared.db 'create table t(id integer primary key, who text);'
(while [ "$(date +%s)" -lt "$until" ]; do sqlite3 -cmd '.timeout 60000' /m/shared.db "insert into t(who) values('one');" || echo "sqlite one failed"; echo; done | wc -l >/tmp/rows1) &
C=$!
(while [ "$(date +%s)" -lt "$until" ]; do C2 sqlite3 -cmd '.timeout 60000' /m2/shared.db "insert into t(who) values('two');" || echo "sqlite two failed"; echo; done | wc -l >/tmp/rows2) &
D=$!
wait "$A" || echo "the first client's counter failed"
wait "$B" || echo "the second client's counter failed"
wait "$C" "$D"
echo "@end contention"
[ "$(cat /m/counter)" -eq "$(($(cat /tmp/rounds1) + $(cat /tmp/rounds2)))" ] || echo "lost rounds: $(cat /m/counter) of $(cat /tmp/rounds1) and $(cat /tmp/rounds2)"
[ "$(sqlite3 /m/shared.db 'pragma integrity_check')" = ok ] || echo "the database is damaged"
[ "$(sqlite3 /m/shared.db 'select count(*) from t')" -eq "$(($(cat /tmp/rows1) + $(cat /tmp/rows2)))" ] || echo "lost rows"
echo "@rounds $(cat /tmp/rounds1) $(cat /tmp/rounds2) $(cat /tmp/rows1) $(cat /tmp/rows2)"

# a file that loses its last name while it is open stays, and leaves no other name behind
echo before >/m/open
exec 5<>/m/open
rm /m/open
echo after >&5
[ "$(stat -L -c %h /proc/self/fd/5)" = 0 ] || echo "it has a name still"
[ -z "$(ls -A /m | grep -F .nfs)" ] || echo "there is a .nfs file"
exec 5>&-
[ ! -e /m/open ] || echo "it is there again"
echo "@unlinked"
umount /m && C2 umount /m2
kill "$R" "$N"
