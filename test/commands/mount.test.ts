// `holdfast mount`, `holdfast unmount` and `serve --mount`: who may mount, over kills of the server and of the keeper, and what is refused.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FuseMount, mountedAt, run, runBeside, startMount } from "../support/fuse-mount.ts";
import { asFuseUser } from "../support/fuse-user.ts";
import { giveTo } from "../support/held-tree.ts";
import { needs, onlyInAll, repository } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { ordinaryUser, runHoldfast } from "../support/server-process.ts";

const skip = needs("root", "fuse", "setpriv", "unshare");
const rest = skip || onlyInAll;

interface Stand {
	readonly made: Scratch;
	readonly tree: string;
	readonly view: string;
	readonly state: string;
	/** Words of `mount` for the tree at the view. */
	readonly words: readonly string[];
}

function stand(made: Scratch): Stand {
	const tree = made.folder("tree");
	mkdirSync(join(tree, "sub"));
	writeFileSync(join(tree, "file"), "of the tree\n");
	writeFileSync(join(tree, "sub/other"), "below\n");
	const [view, state] = [made.folder("a view"), made.folder("state")];
	return { made, tree, view, state, words: ["mount", tree, view, "--state-dir", state] };
}

/** What a user does from mount to unmount, with kills in between; the same for everybody. */
const SESSION = `
"$node" "$main" mount "$tree" "$view" --state-dir "$state" >"$log" 2>&1 &
keeper=$!
until grep -q ^ready "$log"; do kill -0 $keeper || { cat "$log" >&2; exit 1; }; sleep 0.05; done
inside() { sh -ec "$1" sh "$view"; }
enter=$(sed -n 's/.* To enter it: //p' "$log")
test -z "$enter" || test "$(eval "$enter" cat file)" = "of the tree"
test -z "$enter" || inside() { eval "$enter" sh -ec "'$1'" sh "'$view'"; }
inside 'cat "$1/file"; echo changed >"$1/file"; mkdir "$1/new"; echo kept >"$1/new/kept"; rm "$1/sub/other"'
for i in 1 2 3; do
	# a user namespace is kept by another one
	for child in $(cat /proc/$keeper/task/$keeper/children); do test "$(cat /proc/$child/comm)" != node || kill -9 $child; done
	inside "cat \\"\\$1/new/kept\\"; echo $i >\\"\\$1/new/\\"$i"
done
inside 'cat "$1/file" "$1/new/3"; find "$1" -mindepth 1 -printf "%P\\n" | sort'
if test -z "$enter"; then "$node" "$main" unmount "$view"; else kill $keeper; fi
wait $keeper
cat "$tree/file" "$tree/sub/other"
ls "$view"`;

const SESSION_OUTPUT = `of the tree
kept
kept
kept
changed
3
file
new
new/1
new/2
new/3
new/kept
sub
of the tree
below
`;

/** The same of a view that lies in the tree, where it is a directory of its own. */
const INSIDE = `
"$node" "$main" mount "$tree" "$view" --state-dir "$state" >"$log" 2>&1 &
keeper=$!
until grep -q ^ready "$log"; do kill -0 $keeper || { cat "$log" >&2; exit 1; }; sleep 0.05; done
find "$view" -mindepth 1 -printf "%P\n" | sort
mkdir "$view/inside/one"
kill -9 $(cat /proc/$keeper/task/$keeper/children)
ls "$view/inside"
mkdir "$view/inside/two"
find "$view/inside" -mindepth 1 -printf "%P\n" | sort
"$node" "$main" unmount "$view"
wait $keeper
ls "$view"`;

function runSession(
	{ made, tree, view, state }: Stand,
	how: "root" | "user" | "namespace",
	session = SESSION,
): { stdout: string; log: string } {
	const log = join(state, "../log");
	const user = how === "root" ? null : ordinaryUser(made);
	const main = user?.main ?? join(repository, "dist/src/cli/main.js");
	const variables = { node: process.execPath, main, tree, view, state, log };
	const script = ["sh", "-ec", session];
	writeFileSync(log, "");
	if (user !== null) giveTo(user, tree, view, state, log);
	const [file, ...words] = how === "root" ? script : asFuseUser(made, script, { hidden: how === "namespace" ? ["fusermount3"] : [] });
	const ran = spawnSync(file as string, words, { encoding: "utf8", cwd: "/", env: { ...process.env, ...variables } });
	assert.equal(ran.status, 0, `${ran.stderr}\n${existsSync(log) ? readFileSync(log, "utf8") : ""}`);
	return { stdout: ran.stdout, log: readFileSync(log, "utf8") };
}

test("root mounts a tree, works in it over kills of the server, and unmounts: what was changed is kept, and the tree is as it was", {
	skip,
}, (t) => {
	const { stdout, log } = runSession(stand(scratch(t)), "root");
	assert.equal(stdout, SESSION_OUTPUT);
	assert.equal(log.match(/^holdfast: The server of .* has ended \(killed\): it is started again/gm)?.length, 3, log);
	assert.equal(log.match(/^ready /gm)?.length, 1, log);
});

for (const how of ["root", "user"] as const) {
	test(`a view inside of its own tree shows itself as the empty directory that it covers, over a kill of the server: as ${how}`, {
		skip: rest || (how === "user" && needs("fusermount3")),
	}, (t) => {
		const { tree, ...others } = stand(scratch(t));
		mkdirSync(join(tree, "inside"));
		const { stdout } = runSession({ ...others, tree, view: join(tree, "inside") }, how, INSIDE);
		assert.equal(stdout, "file\ninside\nsub\nsub/other\none\none\ntwo\n");
	});
}

test("an ordinary user does the same by fusermount3", { skip: skip || needs("fusermount3") }, (t) => {
	const { stdout, log } = runSession(stand(scratch(t)), "user");
	assert.equal(stdout, SESSION_OUTPUT);
	assert.doesNotMatch(log, /namespace/);
});

test("mount --background returns when the mount can be used, which lives over a kill of its server until it is unmounted", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const { tree, view, words } = stand(made);
	made.beforeRemoval(async () => {
		if (mountedAt(view) !== null) runHoldfast(["unmount", view]);
	});
	const mounted = runHoldfast([...words, "--background"]);
	assert.match(mounted.stdout, /^ready /m, mounted.stderr);
	assert.equal(mountedAt(view), "fuse.holdfast");
	await runBeside(`echo changed >"${view}/file"`);
	const server = readdirSync("/proc").find(
		(pid) => /^\d+$/.test(pid) && commandOf(pid).includes("--keeper=3") && commandOf(pid).includes(view),
	);
	process.kill(Number(server), "SIGKILL");
	assert.equal(await runBeside(`cat "${view}/file"`), "changed\n");
	assert.equal(runHoldfast(["unmount", view]).stderr, "");
	assert.equal(mountedAt(view), null);
	assert.equal(readFileSync(join(tree, "file"), "utf8"), "of the tree\n");
	const refused = runHoldfast(["mount", tree, join(view, "missing"), "--background"]);
	assert.deepEqual([refused.code, refused.stdout], [1, ""]);
	assert.match(refused.stderr, /^holdfast: [^\n]*missing[^\n]*\n$/);
});

/** The words of a process, with NUL between; "": it has ended. */
function commandOf(pid: string): string {
	try {
		return readFileSync(`/proc/${pid}/cmdline`, "utf8");
	} catch {
		return "";
	}
}

test("an ordinary user without fusermount3 does the same in a user namespace, by the command that mount prints", { skip: rest }, (t) => {
	const { stdout } = runSession(stand(scratch(t)), "namespace");
	assert.equal(stdout, SESSION_OUTPUT);
});

test("a tree can be mounted over itself, and over a directory in it, and the server comes to it after a kill", {
	skip: rest,
}, async (t) => {
	const made = scratch(t);
	const { tree, state, words } = stand(made);
	const over = await startMount(made, ["mount", tree, tree, ...words.slice(3)]);
	await runBeside("echo changed >file; ln sub/other link", tree);
	for (let i = 0; i < 2; i++) {
		await over.killServer();
		assert.equal(await runBeside("cat file link; ls -R . | sort", tree), "changed\nbelow\n\n./sub:\n.:\nfile\nlink\nother\nsub\n");
	}
	assert.equal(runHoldfast(["unmount", tree]).code, 0);
	assert.equal(await over.ended(), 0, over.stderr);
	assert.equal(readFileSync(join(tree, "file"), "utf8"), "of the tree\n");
	mkdirSync(join(tree, "view"));
	const within = await startMount(made, ["mount", tree, join(tree, "view"), ...words.slice(3)]);
	assert.equal(await runBeside("ls -R view | sort", tree), "\n\nfile\nlink\nother\nsub\nview\nview/sub:\nview/view:\nview:\n");
	await within.killServer();
	// the directory under the mount itself aside
	assert.equal(await runBeside("ls -R view/sub view/file", tree), "view/file\n\nview/sub:\nother\n");
	assert.equal(runHoldfast(["unmount", join(tree, "view")]).code, 0);
	assert.equal(await within.ended(), 0, within.stderr);
	assert.ok(existsSync(join(state, "changes")));
});

test("a mount that is in use when a signal ends it is taken out of sight, which is told, and what was open there is lost", {
	skip: rest,
}, async (t) => {
	const made = scratch(t);
	const { view, words } = stand(made);
	const mount = await startMount(made, words);
	const fd = openSync(join(view, "file"), "r");
	await runBeside("echo written >made", view);
	mount.keeper.kill("SIGTERM");
	assert.equal(await mount.ended(), 0, mount.stderr);
	assert.equal(mountedAt(view), null);
	assert.match(mount.stderr, /a view is in use: it is taken out of sight, and who has something open there loses it\./);
	assert.throws(() => readFileSync(fd), { code: "ENOTCONN" });
	closeSync(fd);
});

test("a keeper that is killed takes the mount with it; killed with its server, it leaves a dead one, which the next mount takes away", {
	skip: rest,
}, async (t) => {
	const made = scratch(t);
	const { view, words } = stand(made);
	const first = await startMount(made, words);
	await runBeside("echo one >kept", view);
	first.keeper.kill("SIGKILL");
	await first.ended();
	while (mountedAt(view) !== null) await new Promise((resolve) => setTimeout(resolve, 10));
	const second = await startMount(made, words);
	const server = second.server as number;
	process.kill(server, "SIGSTOP");
	second.keeper.kill("SIGKILL");
	process.kill(server, "SIGKILL");
	await second.ended();
	assert.equal(mountedAt(view), "fuse.holdfast");
	assert.throws(() => readdirSync(view), { code: "ENOTCONN" });
	const third = await startMount(made, words);
	assert.match(third.stderr, /The mount at .*a view had lost its server: it was taken away\./);
	assert.equal(await runBeside("cat kept", view), "one\n");
});

test("a server that is stopped keeps its users waiting, umount -f ends that, and the server ends when it goes on", {
	skip: rest,
}, async (t) => {
	const made = scratch(t);
	const { tree, view, words } = stand(made);
	const mount = await startMount(made, words);
	const server = mount.server as number;
	process.kill(server, "SIGSTOP");
	const refused = runHoldfast(["mount", "--lower", tree, ...words.slice(2)]);
	assert.equal(refused.code, 1);
	assert.match(refused.stderr, /a mount of holdfast is there whose server does not answer/);
	run(`umount -f '${view}' || umount -l '${view}'`);
	assert.equal(mountedAt(view), null);
	process.kill(server, "SIGCONT");
	assert.equal(await mount.ended(), 0, mount.stderr);
});

test("an ephemeral set goes on over a kill of the server, and goes with the mount", { skip: rest }, async (t) => {
	const made = scratch(t);
	const { view, words, state } = stand(made);
	const mount = await startMount(made, [...words, "--ephemeral"]);
	await runBeside("echo for now >file", view);
	await mount.killServer();
	// every command that looks at the sets puts those of dead servers aside
	assert.equal(runHoldfast(["list", "--state-dir", state]).code, 0);
	assert.equal(await runBeside("cat file", view), "for now\n");
	assert.equal(runHoldfast(["unmount", view]).code, 0);
	assert.equal(await mount.ended(), 0, mount.stderr);
	assert.match(runHoldfast(["list", "--state-dir", state]).stdout, /^There are no sets/);
});

test("serve --mount says where it listens for NFS, and ends with its mount", { skip: rest }, async (t) => {
	const made = scratch(t);
	const { tree, view, state } = stand(made);
	const mount = await startMount(made, [
		"serve",
		tree,
		"--mount",
		view,
		"--state-dir",
		state,
		"--listen",
		"0",
		"--insecure",
		"--no-warm-up",
	]);
	const port = Number(/^ready 127\.0\.0\.1:(\d+)$/m.exec(mount.stdout)?.[1]);
	assert.ok(port > 0, mount.stdout);
	await runBeside("echo by FUSE >file", view);
	assert.equal(runHoldfast(["unmount", view]).code, 0);
	assert.equal(await mount.ended(), 0, mount.stderr);
});

test("a mount that is refused has made nothing, and says why in one sentence", { skip: rest }, async (t) => {
	const made = scratch(t);
	const { tree, view, state, words } = stand(made);
	const refused = (args: readonly string[], code = 1) => {
		const ran = runHoldfast(args);
		assert.equal(ran.code, code, `${args.join(" ")}: ${ran.stderr}`);
		assert.equal(ran.stdout, "");
		assert.match(ran.stderr, /^holdfast: [^\n]+\n$/);
		return ran.stderr.slice("holdfast: ".length, -1);
	};
	const at = (point: string) => ["mount", tree, point, ...words.slice(3)];
	const none = join(made.path, "none");
	assert.equal(refused(at(none)), `Cannot mount at ${none}: there is no such directory. To make it: mkdir -p ${none}`);
	assert.equal(refused(at(join(tree, "file"))), `Cannot mount at ${tree}/file: it is not a directory.`);
	assert.match(refused(at(made.path)), /: it is not empty, and what is in it would be covered\. Choose an empty directory\.$/);
	assert.match(refused(at("/")), /^Cannot mount at \/: /);
	assert.match(runHoldfast(["list", "--state-dir", state]).stdout, /^There are no sets/);
	assert.match(refused(["mount", tree], 2), /^Name what to mount and where: holdfast mount DIR MOUNTPOINT\.$/);
	for (const options of ["exec", "ro,ro", "", "lowerdir=/x"]) assert.match(refused([...words, "-o", options], 2), /option/i);
	assert.match(refused(["serve", tree, "-o", "ro"], 2), /-o is of use with --mount only/);
	assert.match(refused(["mount", "--lower", join(tree, "none"), view]), /there is no such directory/);
	assert.equal(refused(["unmount", view]), `Nothing of holdfast is mounted at ${view}.`);
	assert.equal(mountedAt(view), null);
	const mount = await startMount(made, words);
	assert.match(refused(words), /in service|another|already|use/);
	assert.match(
		refused(["mount", "--lower", tree, view]),
		/: holdfast has mounted something there already\. To end that: holdfast unmount /,
	);
	const fd = openSync(join(view, "file"), "r");
	const busy = runHoldfast(["unmount", view]);
	closeSync(fd);
	assert.equal(busy.code, 1);
	assert.match(
		busy.stderr,
		/something has a file or its working directory there\.\nholdfast: To take it out of sight all the same: holdfast unmount --lazy /,
	);
	assert.equal(runHoldfast(["unmount", "--lazy", view]).code, 0);
	assert.equal(mountedAt(view), null);
	mount.keeper.kill("SIGTERM");
	assert.equal(await mount.ended(), 0, mount.stderr);
});

test("a first server that cannot begin leaves no mount", { skip: rest }, async (t) => {
	const made = scratch(t);
	const { tree, view, words } = stand(made);
	const mount = new FuseMount([...words.slice(0, 3), "--upper", join(tree, "upper"), "--create"]);
	assert.equal(await mount.ended(), 1);
	assert.match(mount.stderr, /^holdfast: [^\n]+\n$/);
	assert.equal(mountedAt(view), null);
});
