/** What the program answers to a person: a sentence that helps, never a stack trace, and an exit status. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, copyFileSync, existsSync, linkSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { needs, repository } from "../support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../support/scratch.ts";
import { layerArguments, ordinaryUser, runHoldfast, ServerProcess, startServer } from "../support/server-process.ts";
import { atTerminal } from "../support/terminal.ts";
import { assertSameTree, snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root");

function assertRefused(args: readonly string[], sentence: RegExp, options: Parameters<typeof runHoldfast>[1] = {}): void {
	const run = runHoldfast(args, options);
	assert.notEqual(run.code, 0, `it should refuse: ${args.join(" ")}\n${run.stdout}`);
	assert.notEqual(run.code, null, `it neither served nor ended: ${args.join(" ")}\n${run.stderr}`);
	assert.match(run.stderr, sentence);
	assert.doesNotMatch(run.stderr, /^\s+at .*:\d+:\d+\)?$/m, "a stack trace is no sentence");
	assert.doesNotMatch(run.stdout, /^ready/m);
}

function serve(...args: string[]): string[] {
	return ["serve", ...args, "--listen", "127.0.0.1:0"];
}

function layers(made: Scratch): { lower: string; upper: string; state: string; args: string[] } {
	const lower = plant(made.folder("lower"), { "dir/file": "contents" });
	const upper = made.folder("upper");
	const state = made.folder("state");
	return { lower, upper, state, args: serve("--lower", lower, "--upper", upper, "--state-dir", state) };
}

test("folders that are not there, or are none", { skip }, (t) => {
	const made = scratch(t);
	const { lower, upper } = layers(made);
	const file = made.file("file", "");
	const none = join(made.path, "none");
	assertRefused(serve(none), /none/);
	assertRefused(serve("--lower", none, "--upper", upper), /none/);
	assertRefused(serve("--lower", file, "--upper", upper), /file.*director|director.*file/i);
	assertRefused(serve("--lower", lower, "--upper", join(none, "deeper")), /none/);
	assertRefused(serve("--lower", lower, "--upper", file), /director/i);
	assertRefused(serve("--lower", lower, "--upper", upper, "--work", file), /director/i);
});

test("arguments that make no sense", { skip }, (t) => {
	const made = scratch(t);
	const { lower, upper, args } = layers(made);
	assertRefused(["serve"], /DIR|--lower/);
	assertRefused(["no-such-command"], /no-such-command/);
	assertRefused([...args, "--no-such-option"], /no-such-option/);
	assertRefused(serve("--upper", upper), /lower/);
	assertRefused(serve("--lower", lower, "--work", made.folder("work")), /upper/);
	assertRefused([...args, "--sync", "--async"], /sync/);
	assertRefused([...args, "--anon-uid", "nobody?"], /anon-uid|uid/);
	assertRefused([...args, "--anon-gid", "-3"], /anon-gid|gid/);
	for (const address of ["nonsense", "127.0.0.1:99999", "127.0.0.1:x", "127.0.0.1"]) {
		assertRefused(["serve", "--lower", lower, "--upper", upper, "--listen", address], /listen|address|port/i);
	}
	for (const named of ["/a", "/a=", "=/srv", `a=${lower}`]) assertRefused(["serve", "--export", named], /export/i);
	for (const extra of [["--lower", lower], ["--upper", upper], ["--name", "b"], ["--mount-path", "/b"], [lower]])
		assertRefused(["serve", "--export", `/a=${lower}`, ...extra], /--export names trees/);
	const help = runHoldfast(["serve", "--help"]);
	assert.equal(help.code, 0);
	for (const option of ["--lower", "--upper", "--work", "--listen", "--name", "--mount-path", "--export", "--root-squash"])
		assert.match(help.stdout, new RegExp(option));
	assert.match(runHoldfast(["--version"]).stdout, /^\d+\.\d+\.\d+/);
});

test("an empty value is refused, and never taken for the folder that the program was started in", { skip }, (t) => {
	const made = scratch(t);
	const { lower, upper, state } = layers(made);
	const before = snapshotTree(made.path);
	for (const args of [
		serve(""),
		serve(lower, "--upper", "", "--state-dir", state),
		serve(lower, "--state-dir", ""),
		serve("--lower", lower, "--upper", upper, "--work", "", "--state-dir", state),
		serve("--lower", "", "--state-dir", state),
		["check", lower, "--upper", ""],
		["remove", ""],
		["key", "rotate", ""],
		["rebase", "--upper", "", "--lower", lower],
		["unpack", "", ""],
		["list", "--state-dir", ""],
	]) {
		const run = runHoldfast(args, { cwd: upper });
		assert.deepEqual([run.code, run.stdout], [args[0] === "check" ? 16 : 2, ""], args.join(" "));
		assert.match(run.stderr, /^holdfast: One of the arguments, or of the values of options, is empty: [^\n]*\n$/);
	}
	assertSameTree(before, snapshotTree(made.path), "something was made");
});

test("what keeps a socket, an address, a name or a folder from being used is told as it is", { skip }, (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const { lower, state } = layers(made);
	const listen = (address: string) => ["serve", lower, "--state-dir", state, "--listen", address];
	assertRefused(listen(`unix:${join(made.path, "none/socket")}`), /: there is no folder \S*\/none \(ENOENT\)\.$/m);
	assertRefused(listen("unknown.invalid:0"), /Cannot listen at unknown\.invalid:0: no address is known of that name/);
	assertRefused(serve(lower, made.folder("a tree")), /too many arguments.*\n.*quotes/);
	const closed = made.folder("closed/changes");
	chmodSync(join(made.path, "closed"), 0o700);
	assertRefused(["list", "--state-dir", join(closed, "..")], /Cannot read the sets in \S*closed: user \d+ has no permission/, { user });
	assertRefused(["list", "--state-dir", made.file("file", "")], /Cannot read the sets in \S*file: .* is no directory/);
	// with no home that is there
	const env = { HOME: "/nowhere/at/all", XDG_STATE_HOME: "/dev/null" };
	assertRefused(serve(lower), /has no permission for \/\S*, which is of user 0 .*Choose a folder of your own with --state-dir/, {
		user,
		env,
	});
});

test("a tree that is not named as one, one set for two exports, an upper that is gone, and options without effect", { skip }, async (t) => {
	const made = scratch(t);
	const { lower, upper, state } = layers(made);
	assertRefused([lower], /unknown command .*\nholdfast: To serve a tree: holdfast serve \S*lower\n$/);
	const twice = ["--export", `/a=${lower}`, "--export", `/b=${lower}`, "--state-dir", state];
	assertRefused(
		serve(...twice),
		/The exports \/a and \/b would have one set of changes, lower\. .* --name ANOTHER --new; .*--export \/b=ANOTHER/,
	);
	assert.equal(runHoldfast(["list", "--names", "--state-dir", state]).stdout, "", "no set was made");
	assertRefused(
		["rebase", "--upper", join(made.path, "none"), "--lower", lower],
		/Cannot open the upper \S*none: there is no such directory/,
	);
	const options = { lowers: [lower], upper, args: ["--state-dir", state, "--handles", "kernel", "--fake-root"] };
	const server = await startServer(made, options);
	await server.terminate();
	assert.match(server.stderr, /^holdfast: --fake-root is of use with portable handles only, and changes nothing here/m);
	rmSync(upper, { recursive: true });
	const before = snapshotTree(made.path);
	assertRefused(
		serve(...layerArguments(options), "--state-dir", state),
		/Cannot find the upper \S*upper, which the work folder \S*upper\.work belongs to/,
	);
	assertSameTree(before, snapshotTree(made.path), "something was made");
});

test("a folder cannot be made on a file system that is read-only, or full, and the reason is that", {
	skip: skip || cannotMount("tmpfs"),
}, (t) => {
	const made = scratch(t);
	const { lower } = layers(made);
	const small = made.mount("tmpfs", "small", 1);
	assert.throws(() => writeFileSync(join(small, "all of it"), Buffer.alloc(2 ** 21)), /ENOSPC/);
	assertRefused(serve(lower, "--state-dir", join(small, "state")), /Cannot (write to|make) \S*small\/state\S*: there is no room/);
	execFileSync("mount", ["-o", "remount,ro", small]);
	assertRefused(serve(lower, "--state-dir", join(small, "other/state")), /Cannot make .*: its file system is read-only \(EROFS\)/);
});

test("a port alone, and a port behind a colon, are of the loopback interface", { skip }, async (t) => {
	const made = scratch(t);
	const { lower } = layers(made);
	const listen = ["--listen", "0", "--listen", ":0"];
	const server = await startServer(made, { directory: lower, args: ["--state-dir", made.folder("changes"), ...listen] });
	assert.match(server.stdout, /^ready 127\.0\.0\.1:\d+ 127\.0\.0\.1:\d+$/m);
	await server.terminate();
});

test("an upper that is not there is made and told of, but with --create alone where it looks mistyped and nobody can be asked", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const { lower, state } = layers(made);
	const [upper, mistyped] = [join(made.path, "changes"), join(made.path, "chagnes")];
	const server = await startServer(made, { lowers: [lower], upper, args: ["--state-dir", state] });
	assert.match(server.stdout, /^This upper is new/m);
	await server.restart();
	assert.equal(server.stdout.match(/^This upper is new/gm)?.length, 1);
	await server.terminate();
	assertRefused(
		serve("--lower", lower, "--upper", mistyped, "--state-dir", state),
		/There is no upper .*chagnes, but .*changes is there\. .*--create/,
	);
	assert.ok(!existsSync(mistyped) && !existsSync(`${mistyped}.work`), "nothing was made");
	const asked = await startServer(made, { lowers: [lower], upper: mistyped, args: ["--state-dir", state, "--create"] });
	assert.match(asked.stdout, /^This upper is new/m);
	await asked.terminate();
});

test("at a terminal a new upper is asked about", { skip: skip || needs("script") }, (t) => {
	const made = scratch(t);
	const { lower, state } = layers(made);
	const upper = join(made.path, "new");
	const args = ["serve", "--lower", lower, "--upper", upper, "--state-dir", state, "--listen", "127.0.0.1:0"];
	const no = atTerminal([process.execPath, join(repository, "dist/src/cli/main.js"), ...args], "n\n");
	assert.match(no, /There is no upper .*new\. Make a new, empty one\? \[y\/N\]/);
	assert.match(no, /Nothing was done\./);
	assert.ok(!existsSync(upper));
});

test("an empty mount point of /etc/fstab is served only with --empty", { skip }, async (t) => {
	const made = scratch(t);
	const [point, state] = [made.folder("mount point"), made.folder("state")];
	const table = made.file("fstab", `# a comment\nUUID=1234 ${point.replace(" ", "\\040")} ext4 defaults 0 2\n`);
	// this process has a mount namespace of its own
	execFileSync("mount", ["--bind", table, "/etc/fstab"]);
	made.beforeRemoval(() => execFileSync("umount", ["/etc/fstab"]));
	assertRefused(serve(point, "--state-dir", state), /is empty, and \/etc\/fstab has a mount for it.*--empty/);
	assert.deepEqual(readdirSync(state), []);
	const server = await startServer(made, { directory: point, args: ["--state-dir", state, "--empty"] });
	await server.terminate();
	plant(point, { file: "" });
	const full = await startServer(made, { directory: point, args: ["--state-dir", state] });
	await full.terminate();
});

test("layers inside one another, or given twice", { skip }, (t) => {
	const made = scratch(t);
	const outer = plant(made.folder("outer"), { "inner/deep/f": "", g: "" });
	const inner = join(outer, "inner");
	const apart = plant(made.folder("apart"), { f: "" });
	const upper = made.folder("upper");
	const state = ["--state-dir", made.folder("state")];
	assertRefused(serve("--lower", outer, "--upper", inner, ...state), /inside|overlap|within|same/i);
	assertRefused(serve("--lower", inner, "--upper", outer, ...state), /inside|overlap|within|same/i);
	assertRefused(serve("--lower", outer, "--upper", outer, ...state), /inside|overlap|within|same/i);
	assertRefused(serve("--lower", outer, "--lower", inner, "--upper", upper, ...state), /inside|overlap|within|same/i);
	assertRefused(serve("--lower", outer, "--lower", outer, "--upper", upper, ...state), /inside|overlap|within|same|twice/i);
	assertRefused(serve("--lower", apart, "--upper", upper, "--work", join(upper, "work"), ...state), /inside|overlap|within/i);
	assertRefused(serve("--lower", apart, "--upper", upper, "--work", upper, ...state), /inside|overlap|within|same/i);
	assertRefused(serve("--lower", apart, "--upper", upper, "--work", join(apart, "work"), ...state), /inside|overlap|within/i);
	assertRefused(serve("--lower", apart, "--state-dir", join(apart, "state")), /inside|overlap|within/i);
	assert.deepEqual([...snapshotTree(outer).keys()].sort(), [".", "g", "inner", "inner/deep", "inner/deep/f"]);
	assert.deepEqual([...snapshotTree(apart).keys()].sort(), [".", "f"]);
});

test("serve $HOME: the state folder would lie inside the tree", { skip }, (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const home = plant(made.folder("home"), { "Documents/letter": "dear" });
	chownSync(home, user.uid, user.gid);
	const before = snapshotTree(home);
	assertRefused(serve(home), /state|inside|within/i, { env: { HOME: home, XDG_STATE_HOME: "" }, user });
	assertSameTree(before, snapshotTree(home), "the home folder was written to");
});

test("a work folder on another file system than its upper", { skip: skip || cannotMount("tmpfs") }, (t) => {
	const made = scratch(t);
	const { lower, upper, state } = layers(made);
	const elsewhere = made.mount("tmpfs");
	assertRefused(serve("--lower", lower, "--upper", upper, "--work", join(elsewhere, "work"), "--state-dir", state), /file ?system/i);
});

test("an upper that is a cp -al of its lower, whose inodes would be written through", { skip }, (t) => {
	const made = scratch(t);
	const { lower, state } = layers(made);
	const upper = join(made.path, "linked");
	execFileSync("cp", ["-al", lower, upper]);
	assertRefused(serve("--lower", lower, "--upper", upper, "--state-dir", state), /inode|hard.?link|cp -al/i);
	assert.equal(readFileSync(join(lower, "dir/file"), "utf8"), "contents");
});

test("an upper with overlay marks that are not ours, and a lower that was an upper", {
	skip: needs("root", "setfattr", "getfattr"),
}, (t) => {
	const made = scratch(t);
	const { lower, state } = layers(made);
	const whiteout = plant(made.folder("whiteout"), { gone: { node: ["c", "0", "0"] } });
	const opaque = plant(made.folder("opaque"), { "dir/f": "" });
	execFileSync("setfattr", ["-n", "trusted.overlay.opaque", "-v", "y", join(opaque, "dir")]);
	const origin = plant(made.folder("origin"), { f: "" });
	execFileSync("setfattr", ["-n", "trusted.overlay.origin", "-v", "0sAPsdAAEAAAAAAAAAAAAAAAAAAAAAAgAAAAEAAAA=", origin]);
	for (const upper of [whiteout, opaque, origin]) {
		const before = snapshotTree(upper);
		assertRefused(serve("--lower", lower, "--upper", upper, "--state-dir", state), /overlay|adopt/i);
		assertSameTree(before, snapshotTree(upper), `${upper} was changed`);
	}
	assertRefused(serve("--lower", origin, "--upper", made.folder("clean"), "--state-dir", state), /overlay|adopt/i);
});

test("an upper of ours whose marker is missing", { skip }, async (t) => {
	const made = scratch(t);
	const { lower, upper, state } = layers(made);
	const work = made.folder("work");
	const server = await startServer(made, { lowers: [lower], upper, work, args: ["--state-dir", state] });
	const marker = join(work, "work/incompat/holdfast");
	assert.ok(existsSync(marker), "the marker stands while the server runs");
	const client = await server.client();
	await client.createFile(await client.root(), "mine", "x");
	client.close();
	await server.terminate();
	assert.ok(existsSync(marker), "the marker stands after the server has ended");
	rmSync(marker, { recursive: true });
	// whoever removed it may have mounted upper; it is looked through and taken back
	const again = await startServer(made, { lowers: [lower], upper, work, args: ["--state-dir", state] });
	assert.ok(existsSync(marker), "the marker stands again");
	const other = await again.client();
	assert.equal((await other.lookup(await other.root(), "mine")).status, 0);
	other.close();
	await again.terminate();
	assert.ok(!existsSync(join(work, "holdfast/adopting")));
});

test("a volatile kernel overlay's work folder", { skip }, (t) => {
	const made = scratch(t);
	const { args } = layers(made);
	const work = plant(made.folder("work"), { "work/incompat/volatile/dirty": "" });
	assertRefused([...args, "--work", work], /volatile/);
});

test("a second server on the same upper", { skip }, async (t) => {
	const made = scratch(t);
	const { lower, upper, state, args } = layers(made);
	const server = await startServer(made, { lowers: [lower], upper, args: ["--state-dir", state] });
	assertRefused(args, new RegExp(`\\b${server.pid}\\b`));
	const client = await server.client();
	await client.createFile(await client.root(), "still-served", "x");
	client.close();
	await server.terminate();
	const next = new ServerProcess({ lowers: [lower], upper, args: ["--state-dir", state] });
	made.beforeRemoval(() => next.kill());
	await next.start();
	await next.terminate();
});

test("an address that is in use", { skip }, async (t) => {
	const made = scratch(t);
	const { lower, upper, state } = layers(made);
	const taken = createServer();
	await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
	t.after(() => taken.close());
	const { port } = taken.address() as { port: number };
	assertRefused(
		["serve", "--lower", lower, "--upper", upper, "--state-dir", state, "--listen", `127.0.0.1:${port}`],
		new RegExp(`${port}`),
	);
});

test("an ordinary user who asks for kernel handles is told what is missing", { skip }, (t) => {
	const made = scratch(t);
	const { lower, upper, state, args } = layers(made);
	for (const folder of [made.path, lower, upper, state]) chownSync(folder, 65534, 65534);
	assertRefused([...args, "--handles", "kernel"], /CAP_SYS_ADMIN.*as root, or with --handles portable/, { uid: 65534 });
});

test("who may not do what is told with the user and the folder that keeps that one out", { skip }, (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const { lower, state } = layers(made);
	const closed = made.folder("closed");
	plant(closed, { "tree/file": "" });
	chmodSync(closed, 0o700);
	const readOnly = made.folder("read-only");
	chmodSync(readOnly, 0o755);
	chownSync(state, user.uid, user.gid);
	const said = (...args: string[]) => runHoldfast([...serve("--state-dir", state), ...args], { user }).stderr;
	const isRoots = (mode: string) => `which is of user 0 and has mode ${mode} \\(EACCES\\)\\.\n$`;
	assert.match(said(join(closed, "tree")), new RegExp(`: user ${user.uid} may not enter the folder ${closed}, ${isRoots("0700")}`));
	const upper = join(readOnly, "upper");
	assert.match(
		said("--create", "--lower", lower, "--upper", upper),
		new RegExp(`Cannot make the upper ${upper}: user ${user.uid} has no permission for ${readOnly}, ${isRoots("0755")}`),
	);
	const archive = made.file("archive.tar", "");
	chmodSync(archive, 0o600);
	const unpacked = runHoldfast(["unpack", "--fake-root", archive, join(made.path, "none")], { user }).stderr;
	assert.match(unpacked, new RegExp(`user ${user.uid} has no permission for ${archive}, ${isRoots("0600")}`));
});

test("two file systems with one uuid, with kernel handles", { skip: skip || cannotMount("ext4") }, (t) => {
	const made = scratch(t);
	const one = made.mount("ext4", "one", 64);
	plant(one, { "lower/f": "one" });
	made.unmount(one);
	copyFileSync(join(made.path, "one.img"), join(made.path, "two.img"));
	const [first, second] = [made.mountImage("one"), made.mountImage("two")];
	assertRefused(
		serve(
			"--lower",
			join(first, "lower"),
			"--lower",
			join(second, "lower"),
			"--upper",
			made.folder("upper"),
			"--state-dir",
			made.folder("state"),
			"--handles",
			"kernel",
		),
		/uuid/i,
	);
});

test("a file system without generations, with kernel handles", { skip: skip || needs("mksquashfs") || cannotMount("squashfs") }, (t) => {
	const made = scratch(t);
	const contents = plant(made.folder("contents"), { f: "x" });
	execFileSync("mksquashfs", [contents, join(made.path, "squash.img"), "-quiet", "-no-progress"], { stdio: "ignore" });
	const lower = made.mountImage("squash");
	assertRefused(
		serve("--lower", lower, "--upper", made.folder("upper"), "--handles", "kernel", "--state-dir", made.folder("state")),
		/squashfs.*generation.*portable/i,
	);
});

test("handle: explains a handle; a forged one is no good; a removed object is stale", { skip }, async (t) => {
	const made = scratch(t);
	const { lower, upper, state } = layers(made);
	linkSync(join(lower, "dir/file"), join(lower, "dir/second"));
	const options = { lowers: [lower], upper, args: ["--async", "--state-dir", state] };
	const server = await startServer(made, options);
	const client = await server.client();
	const root = await client.root();
	const dir = await client.walk(root, "dir");
	const born = await client.createFile(root, "born", "");
	const gone = await client.createFile(root, "gone", "");
	await client.remove(root, "gone");
	client.close();
	await server.terminate();
	const explain = (handle: Buffer) => runHoldfast(["handle", handle.toString("hex"), ...layerArguments(options), "--state-dir", state]);
	assert.match(explain(dir).stdout, /dir/);
	assert.match(explain(dir).stdout, /signature.*good|good.*signature/i);
	assert.match(explain(born).stdout, /born/);
	assert.match(explain(gone).stdout, /stale/i);
	const forged = Buffer.from(dir);
	forged[forged.length - 1] = (forged[forged.length - 1] as number) ^ 1;
	const answer = explain(forged);
	assert.match(answer.stdout + answer.stderr, /signature/i);
	assert.doesNotMatch(answer.stdout, /signature[^\n]*good/i);
	assert.deepEqual([answer.code, explain(dir).code, explain(gone).code], [1, 0, 0]);
	const nonsense = runHoldfast(["handle", "not-hex", ...layerArguments(options), "--state-dir", state]);
	assert.notEqual(nonsense.code, 0);
	assert.match(nonsense.stderr, /hex/i);
});

test("release gives the upper back: the marker goes, and a later serve is a first one or a refusal", { skip }, async (t) => {
	const made = scratch(t);
	const { lower, upper, state } = layers(made);
	const work = made.folder("work");
	const options = { lowers: [lower], upper, work, args: ["--async", "--state-dir", state] };
	const server = await startServer(made, options);
	const client = await server.client();
	const root = await client.root();
	const file = await client.walk(root, "dir/file");
	await client.writeFile(file, "CON");
	client.close();
	const trial = runHoldfast(["release", "--dry-run", ...layerArguments(options), "--state-dir", state]);
	assert.equal(trial.code, 0, `beside a server: ${trial.stderr}`);
	assert.match(trial.stdout, /nothing was changed\n$/);
	const busy = runHoldfast(["release", ...layerArguments(options), "--state-dir", state]);
	assert.notEqual(busy.code, 0, "release while a server runs");
	assert.match(busy.stderr, new RegExp(`\\b${server.pid}\\b`));
	await server.terminate();
	const done = runHoldfast(["release", ...layerArguments(options), "--state-dir", state]);
	assert.equal(done.code, 0, done.stderr);
	assert.ok(!existsSync(join(work, "work/incompat/holdfast")), "the marker is gone");
	const mounts = `mount -t overlay overlay -o lowerdir=${lower},upperdir=${upper},workdir=${work},index=on,nfs_export=on,redirect_dir=on /mnt`;
	assert.equal(done.stdout.trimEnd().split("\n").at(-1), mounts);
	assert.equal(readFileSync(join(upper, "dir/file"), "utf8"), "CONtents");
});
