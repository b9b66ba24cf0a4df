#!/bin/bash
# Stands for sudo in the virtual machine: hands a command to the root of the machine, who runs this with --serve, and passes SIGTERM on.
set -u
if [ "${1:-}" = --serve ]; then
	export HOME=$SUDO_HOME
	while true; do
		while read -r job; do
			(
				cd "$(cat "$job/folder")" || exit
				eval "exec $(cat "$job/command")" <"$job/input" >"$job/output" 2>&1 &
				command=$!
				(read -r signal <"$job/signal" && kill "-$signal" "$command") &
				signals=$!
				wait "$command"
				echo $? >"$job/ended"
				mv "$job/ended" "$job/status"
				kill "$signals" 2>/dev/null
			) &
		done </run/sudo/queue
	done
fi
job=$(mktemp -d /run/sudo/job.XXXXXX)
chmod 755 "$job"
mkfifo "$job/output" "$job/signal"
printf '%q ' "$@" >"$job/command"
pwd >"$job/folder"
cat >"$job/input"
trap 'echo TERM >"$job/signal"' TERM
echo "$job" >/run/sudo/queue
(
	trap "" TERM
	exec cat "$job/output"
) &
while [ ! -e "$job/status" ]; do
	sleep 0.1 &
	wait $!
done
wait
exit "$(cat "$job/status")"
