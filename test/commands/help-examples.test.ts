// Each command's help has examples, and they do what they say, as root, in a machine of their own.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HANG_MILLISECONDS, needs, repository } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { runHoldfast } from "../support/server-process.ts";

/** What is there before each example of a command; "" where nothing is. */
const SET_UPS: Readonly<Record<string, string>> = {
	serve: "mkdir -p -m 700 /srv/mine",
	list: "holdfast adopt /srv/golden",
	remove: "holdfast adopt /srv/golden",
	handle: "holdfast adopt /srv/golden",
	release: "holdfast adopt --lower /srv/golden --upper /srv/mine --create",
	settle: "holdfast adopt --lower /srv/golden --upper /srv/mine --create",
	adopt: "mkdir /srv/former-upper /srv/mine && setfattr -n trusted.overlay.origin /srv/former-upper",
	diff: "mkdir -p ~/project/src && holdfast adopt ~/project && holdfast adopt --lower /srv/golden --upper /srv/mine --create",
	apply: "mkdir -p ~/project/src /srv/copy && holdfast adopt ~/project && holdfast adopt --lower /srv/golden --upper /srv/mine --create",
	discard:
		"mkdir -p ~/project/src && touch ~/project/src/main.c && holdfast adopt ~/project && holdfast adopt --lower /srv/golden --upper /srv/mine --create",
	pack: "mkdir -p ~/project/src && holdfast adopt ~/project",
	unpack: "tar -C /srv/golden -czf base.tar.gz . && cp base.tar.gz app.tar.gz",
	check: "holdfast adopt --lower /srv/golden --upper /srv/mine --create",
	"key list": "holdfast adopt /srv/golden",
	"key rotate": "holdfast adopt --lower /srv/golden --upper /srv/mine --create",
	"key drop": "holdfast adopt --lower /srv/golden --upper /srv/mine --create && holdfast key rotate --lower /srv/golden --upper /srv/mine",
	fork: "holdfast adopt --lower /srv/golden --upper /srv/mine --create --handles portable && mkdir /srv/copy",
	rebase: "holdfast adopt --lower /srv/image-a --upper /srv/mine --create --handles portable",
	rebind: "holdfast adopt --lower /srv/golden --upper /srv/mine --create",
	run: "mkdir -p ~/project/src && printf 'clean all:\\n' >~/project/Makefile && { holdfast run --dir ~/project --session trial -- true || true; }",
	mount: "mkdir -p ~/golden ~/view /srv/mine",
	unmount: "mkdir -p ~/golden ~/view && { holdfast mount ~/golden ~/view & } && until mountpoint -q ~/view; do sleep 0.1; done",
	completion: "mkdir -p ~/.local/share/bash-completion/completions ~/.zfunc ~/.config/fish/completions",
};

/** A handle of another export is told as that, in words and by the status; and a removal is asked about, where nobody is. */
const STATUS: ReadonlyMap<string, number> = new Map([
	["holdfast remove golden", 1],
	["holdfast handle 0101010059ae26d800010108e8f70300000000004f2ba1c1d2b5a8f0 /srv/golden", 1],
]);

const MACHINE = `
set -eu
cd "$MADE"
for folder in /srv /var/lib; do mount --bind "$MADE$folder" "$folder"; done
mount -t tmpfs holdfast-test /mnt
mount --bind "$MADE/hosts" /etc/hosts && ip link set lo up && cd "$HOME"
eval "$SET_UP" >/dev/null 2>&1
case $EXAMPLE in
"holdfast mount --background "*) eval "$EXAMPLE" && mountpoint -q ~/view && holdfast unmount ~/view ;;
"holdfast serve "* | "holdfast mount "*)
	eval "exec $EXAMPLE" >out 2>&1 &
	until grep -q ^ready out || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
	cat out && kill -TERM $! && wait $!
	;;
*) eval "$EXAMPLE" ;;
esac
`;

function place(made: Scratch): Record<string, string> {
	for (const name of ["golden", "patches", "docs", "image-a", "image-b"]) made.folder(`srv/${name}`);
	for (const name of ["var/lib", "home", "bin"]) made.folder(name);
	made.file("srv/golden/motd", "welcome\n");
	made.file("hosts", "127.0.0.1 localhost\n192.0.2.8 build.example\n");
	const main = join(repository, "dist/src/cli/main.js");
	const layer = "exec tar -C /srv/golden -cf - .";
	for (const [name, script] of [
		["holdfast", `exec '${process.execPath}' '${main}' "$@"`],
		["docker", layer],
		["curl", layer],
	] as const) {
		chmodSync(made.file(`bin/${name}`, `#!/bin/sh\n${script}\n`), 0o755);
	}
	return { MADE: made.path, HOME: join(made.path, "home"), PATH: `${join(made.path, "bin")}:${process.env.PATH}` };
}

/** The commands by the words that call them; those with further ones below them have none of their own. */
function commands(words: readonly string[] = []): string[] {
	const help = runHoldfast([...words, "--help"]).stdout;
	const below = [...(help.split(/^Commands:$/m)[1] ?? "").matchAll(/^ {2}([a-z-]+)/gm)].map(([, name]) => name as string);
	if (below.length === 0) return [words.join(" ")];
	return below.filter((name) => name !== "help").flatMap((name) => commands([...words, name]));
}

test("each command's help has examples, which do what they say", {
	skip: needs("root", "unshare", "ip", "setfattr", "tar"),
}, (t) => {
	for (const command of commands()) {
		const help = runHoldfast([...command.split(" "), "--help"]).stdout;
		const examples = [...(help.split(/^Examples?:$/m)[1] ?? "").matchAll(/^ {2}(\S.*)$/gm)].map(([, line]) => line as string);
		assert.ok(examples.length > 0, `${command} has no example`);
		if (SET_UPS[command] === undefined) t.diagnostic(`nothing is set up for the examples of ${command}`);
		for (const example of examples) {
			const made = scratch(t);
			const env = { ...place(made), SET_UP: SET_UPS[command] ?? "", EXAMPLE: example };
			const run = spawnSync("unshare", ["--mount", "--net", "--propagation", "private", "bash", "-c", MACHINE], {
				encoding: "utf8",
				timeout: HANG_MILLISECONDS,
				env,
			});
			assert.equal(run.status, STATUS.get(example) ?? 0, `${example}\n${run.stdout}${run.stderr}`);
			assert.doesNotMatch(run.stderr, /^\s+at .*:\d+:\d+\)?$/m, example);
			if (["serve", "mount"].includes(command)) assert.match(run.stdout, /^ready /m, example);
		}
	}
});
