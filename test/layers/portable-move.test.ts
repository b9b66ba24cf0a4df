/** Layers that are copied to another file system while the server is stopped: with portable handles, whatever clients hold goes on. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, linkSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { giveTo, HeldTree } from "../support/held-tree.ts";
import { plant, type TreeDescription } from "../support/lower-tree.ts";
import { FileType3, type Nfs3Client, ok, refused } from "../support/nfs3-client.ts";
import { needs, onlyInAll, sampled } from "../support/requirements.ts";
import { cannotMount, type FileSystem, type Scratch, scratch } from "../support/scratch.ts";
import { type OrdinaryUser, ordinaryUser, runHoldfast, ServerProcess, startServer } from "../support/server-process.ts";
import { runVm } from "../support/virtual-machine.ts";

const skip = needs("root", "getfattr", "rsync", "tar");

const TREES: readonly TreeDescription[] = [
	{
		"a/b/file": "of the top",
		"a/b/link": { link: "file" },
		"a/fifo": { node: ["p"] },
		"a/write": "write",
		"merged/top": "t",
		"gone/f": "f",
	},
	{
		"a/below": "of the bottom",
		"merged/sub/bottom": "b",
		"only/deep/er/file": "below",
		"many/": "",
		...Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`many/file ${index}`, `${index}`])),
	},
];

const COPIES = {
	"cp -a": (from: string, to: string) => [`cp -a "$1/." "$2"`, from, to],
	"rsync -aHAX": (from: string, to: string) => [`rsync -aHAX "$1/" "$2"`, from, to],
	tar: (from: string, to: string) => [`tar -C "$1" --xattrs -cf - . | tar -C "$2" --xattrs --xattrs-include='*' -xpf -`, from, to],
} as const;
type Copy = keyof typeof COPIES;

/** By that user, who may make neither devices nor trusted attributes. */
function copy(how: Copy, from: string, to: string, user: OrdinaryUser): void {
	mkdirSync(to, { recursive: true });
	giveTo(user, to);
	const [script, ...places] = COPIES[how](from, to);
	execFileSync("bash", ["-o", "pipefail", "-c", script as string, "-", ...places], {
		uid: user.uid,
		gid: user.gid,
		cwd: "/",
		stdio: "pipe",
	});
}

function serverAt(made: Scratch, base: string, user: OrdinaryUser, args: readonly string[] = []): ServerProcess {
	const server = new ServerProcess({
		lowers: TREES.map((_, index) => join(base, `lower${index}`)),
		upper: join(base, "upper"),
		args: ["--async", "--state-dir", made.folder("state"), ...args],
		user,
	});
	made.beforeRemoval(() => server.kill());
	return server;
}

/** Something of every kind, copied up, made, moved and removed. */
async function change(tree: HeldTree): Promise<void> {
	await tree.write("a/write", "WR");
	await tree.rename("a/b", "b");
	await tree.rename("merged/sub", "sub");
	await tree.rename("only/deep", "merged/deep");
	await tree.rename("a/fifo", "fifo");
	await tree.link("a/below", "below too");
	await tree.makeDirectory("born");
	await tree.createFile("born/file", "born in upper");
	await tree.link("born/file", "second name");
	const symlink = await ok(tree.client.symlink(tree.directory("born"), "symlink", "file"), "SYMLINK");
	await tree.note("born/symlink", symlink.handle as Buffer);
	const socket = await ok(tree.client.mknod(tree.directory("born"), "socket", FileType3.sock), "MKNOD");
	await tree.note("born/socket", socket.handle as Buffer);
	await tree.createFile("born/gone", "x");
	await tree.remove("born/gone");
	await tree.remove("gone/f");
	await tree.remove("gone");
	await tree.makeDirectory("gone");
	for (let index = 0; index < 50; index += 2) {
		await tree.remove(`many/file ${index}`);
		await tree.write(`many/file ${index + 1}`, "X");
		await tree.createFile(`many/born ${index}`, "y");
	}
	await ok(tree.client.setattr(tree.get("a").handle, { mode: 0o555 }));
	await ok(tree.client.setattr(tree.get("born/file").handle, { mode: 0 }));
}

/** The first names of a large directory, and where a client goes on. */
async function beginListing(client: Nfs3Client, directory: Buffer) {
	const page = await ok(client.readdir(directory, 0n, Buffer.alloc(8), 2000));
	assert.equal(page.eof, false);
	return { names: page.entries.map(({ name }) => name), cookie: page.entries.at(-1)?.cookie ?? 0n, verifier: page.verifier };
}

async function endListing(client: Nfs3Client, directory: Buffer, begun: Awaited<ReturnType<typeof beginListing>>): Promise<string[]> {
	const names = [...begun.names];
	let { cookie, verifier } = begun;
	for (;;) {
		const page = await ok(client.readdir(directory, cookie, verifier, 2000), "READDIR with the cookie of before");
		names.push(...page.entries.map(({ name }) => name));
		verifier = page.verifier;
		cookie = page.entries.at(-1)?.cookie ?? cookie;
		if (page.eof) return names.filter((name) => name !== "." && name !== "..").sort();
	}
}

for (const [how, from, to] of sampled(
	[
		["cp -a", "root", "tmpfs"],
		["rsync -aHAX", "xfs", "ext4"],
		["tar", "ext4", "btrfs"],
	] as const satisfies readonly (readonly [Copy, FileSystem, FileSystem])[],
	1,
)) {
	test(`layers copied by ${how} from ${from} to ${to}: every handle, file id and cookie goes on`, {
		skip: skip || cannotMount(from) || cannotMount(to),
	}, async (t) => {
		const made = scratch(t);
		const user = ordinaryUser(made);
		const first = made.mount(from, "first");
		const tree = await HeldTree.start(made, first, TREES, { user });
		await tree.takeAll();
		await change(tree);
		// which tar does not archive
		if (how === "tar") await tree.remove("born/socket");
		await tree.check("before the move", "SIGTERM");
		const modes = async () =>
			new Map(
				await Promise.all(
					[...tree.objects].map(async ([path, { handle }]) => {
						const { type, mode, uid, gid, size, mtime } = await tree.client.attributesOf(handle);
						return [path, `${mode.toString(8)} ${uid} ${gid} ${type === FileType3.dir ? "" : size} ${mtime.sec}.${mtime.nsec}`] as const;
					}),
				),
			);
		const before = await modes();
		const listing = await beginListing(tree.client, tree.directory("many"));
		if (how === "tar") await tree.server.terminate();
		else await tree.server.kill();

		const second = made.mount(to, "second");
		copy(how, first, join(second, "moved"), user);
		rmSync(join(first, "lower0"), { recursive: true });
		rmSync(join(first, "lower1"), { recursive: true });
		rmSync(join(first, "upper"), { recursive: true });
		rmSync(join(first, "upper.work"), { recursive: true });
		const moved = serverAt(made, join(second, "moved"), user);
		await tree.goOnWith(moved);
		assert.doesNotMatch(moved.stderr, /did not come along/);
		await tree.checkHandles(`after a move by ${how}`);
		const all = [...tree.objects.keys()].filter((path) => path.startsWith("many/")).map((path) => path.slice(5));
		assert.deepEqual(await endListing(tree.client, tree.directory("many"), listing), all.sort());
		await tree.checkNames(`after a move by ${how}`);
		const after = await modes();
		for (const [path, line] of before) assert.equal(after.get(path), line, path);

		// and life goes on there
		await ok(tree.client.setattr(tree.get("a").handle, { mode: 0o755 }));
		await tree.rename("b", "a/b");
		await tree.write("merged/deep/er/file", "B");
		if (how !== "tar") {
			await tree.link("born/socket", "socket too");
			await tree.remove("born/socket");
		}
		await tree.rename("born/symlink", "symlink");
		await tree.remove("second name");
		await tree.remove("born/file");
		await tree.remove("fifo");
		await tree.check("changed where it is now", "SIGKILL");
		await tree.check("and again", "SIGTERM");
		assert.equal(tree.server.stderr.match(/was copied since/g)?.length, 1, tree.server.stderr);
		await tree.server.terminate();
	});
}

test("upper and work copied by two commands: all goes on but what nothing tells apart, and that is named", {
	skip: onlyInAll || skip,
}, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const first = made.folder("first");
	const tree = await HeldTree.start(made, first, TREES, { user });
	await tree.takeAll();
	await change(tree);
	// two that nothing but their ids tells apart
	const twins = ["born/twin", "born/other twin"];
	for (const path of twins) {
		const made3 = await ok(tree.client.symlink(...tree.at(path), "target"), "SYMLINK");
		await tree.note(path, made3.handle as Buffer);
		await ok(tree.client.setattr(tree.get(path).handle, { mtime: { sec: 1_000_000_000, nsec: 7 } }));
	}
	await tree.server.terminate();
	const second = made.folder("second");
	for (const part of ["lower0", "lower1", "upper", "upper.work"]) copy("cp -a", join(first, part), join(second, part), user);
	rmSync(first, { recursive: true });
	const moved = serverAt(made, second, user);
	await tree.goOnWith(moved);
	for (const path of twins) {
		await refused(tree.client.getattr(tree.get(path).handle), "stale", path);
		assert.match(moved.stderr, new RegExp(`did not come along: /${path}`));
		tree.objects.delete(path);
	}
	assert.equal(moved.stderr.match(/did not come along/g)?.length, 2, moved.stderr);
	// as new objects they can be used
	await tree.takeAll();
	await tree.check("after the move");
	await tree.rename("born/twin", "twin");
	await tree.remove("born/other twin");
	await tree.rename("born/socket", "socket");
	await tree.remove("fifo");
	await tree.write("below too", "BELOW");
	await tree.check("changed where it is now", "SIGKILL");
	await tree.restart("SIGTERM");
	assert.equal(moved.stderr.match(/was copied since/g)?.length, 1, moved.stderr);
	await moved.terminate();
});

test("the names of a lower file are one object where the layers are now", { skip: onlyInAll || skip }, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const first = made.folder("first");
	const prepare = ([lower]: readonly string[]) => {
		for (const name of ["a/second", "third"]) linkSync(join(lower as string, "a/b/file"), join(lower as string, name));
		linkSync(join(lower as string, "a/write"), join(lower as string, "written too"));
	};
	const tree = await HeldTree.start(made, first, TREES, { user, prepare });
	await tree.takeAll();
	assert.equal(tree.namesOf(tree.get("third")).length, 3);
	await tree.write("written too", "WR");
	await tree.remove("a/b/file");
	await tree.server.kill();
	const second = made.folder("second");
	copy("cp -a", first, second, user);
	rmSync(first, { recursive: true });
	// the option is not needed again
	await tree.goOnWith(serverAt(made, second, user));
	await tree.check("after the move");
	await tree.write("third", "OF");
	await tree.rename("a", "b");
	await tree.check("changed where it is now", "SIGKILL");
	await tree.server.terminate();
});

test("a read-only export whose lowers moved goes on with the same state folder", { skip }, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const [first, second, state] = [made.folder("first"), made.folder("second"), made.folder("state")];
	const lowers = TREES.map((tree, index) => plant(join(first, `lower${index}`), tree));
	const options = { args: ["--state-dir", state, "--handles", "portable"], user };
	giveTo(user, first, state);
	const server = await startServer(made, { ...options, lowers });
	let client = await server.client();
	const before = await client.tree(await client.root());
	client.close();
	await server.terminate();
	copy("cp -a", first, second, user);
	rmSync(first, { recursive: true });
	const moved = await startServer(made, { ...options, lowers: TREES.map((_, index) => join(second, `lower${index}`)) });
	client = await moved.client();
	for (const [path, { handle, attributes }] of before) {
		const after = await client.attributesOf(handle);
		assert.equal(after.fileid, attributes.fileid, path);
		assert.equal(after.type, attributes.type, path);
	}
	client.close();
	await moved.terminate();
});

test("two copies at once: the second is refused, and holdfast fork gives it an identity of its own", { skip }, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const first = made.folder("first");
	const tree = await HeldTree.start(made, first, TREES, { user });
	await tree.takeAll();
	await change(tree);
	await tree.server.terminate();
	const second = made.folder("second");
	copy("cp -a", first, second, user);
	await tree.server.start();
	const twin = serverAt(made, second, user);
	await assert.rejects(twin.start(), /another process on this machine serves the same export.*holdfast fork/s);
	const { client } = tree;
	tree.client = await tree.server.client();
	client.close();
	await tree.checkHandles("after the refusal");

	const fork = (...args: string[]) => runHoldfast(["fork", "--upper", join(second, "upper"), ...args], { user });
	// an original that is being served keeps its identity
	const busy = runHoldfast(["fork", "--upper", join(first, "upper")], { user });
	assert.equal(busy.code, 1, busy.stdout);
	assert.match(busy.stderr, new RegExp(`\\b${tree.server.pid}\\b.*serving`));
	const ofServer = join(second, "upper.work/holdfast/nfs4");
	assert.ok(existsSync(ofServer), "the copy has the name of the server of the original");
	const done = fork("--json");
	assert.equal(done.code, 0, done.stderr);
	assert.equal(existsSync(ofServer), false);
	const { before, now, upper } = JSON.parse(done.stdout) as { before: number; now: number; upper: string };
	assert.notEqual(before, now);
	assert.equal(upper, join(second, "upper"));
	await twin.start();
	const other = await twin.client();
	const found = await other.tree(await other.root());
	assert.deepEqual([...found.keys()].sort(), [...tree.objects.keys()].sort());
	for (const [path, { handle }] of found) {
		await refused(tree.client.getattr(handle), "badhandle", `the copy's handle of ${path} at the original`);
		await refused(other.getattr(tree.get(path).handle), "badhandle", `the original's handle of ${path} at the copy`);
	}
	// each has its own changes
	await other.writeFile((found.get("a/write") as { handle: Buffer }).handle, "other");
	await tree.checkHandles("beside its copy");
	await tree.check("restarted beside its copy", "SIGKILL");
	other.close();
	await twin.restart();
	const again = await twin.client();
	assert.equal((await again.readFile((found.get("a/write") as { handle: Buffer }).handle)).toString(), "other");
	again.close();
	await twin.terminate();
	const second2 = fork();
	assert.match(second2.stdout, /is export [0-9a-f]{8} now, and no longer [0-9a-f]{8}\n/);
	assert.match(second2.stdout, new RegExp(`no longer ${now.toString(16).padStart(8, "0")}\n`));

	// kernel handles do not go along
	const kernel = { lowers: [made.folder("kl")], upper: made.folder("kernel"), work: made.folder("kernel.work") };
	const rooted = await startServer(made, { ...kernel, args: ["--state-dir", made.folder("root-state")] });
	await rooted.terminate();
	const refusal = runHoldfast(["fork", "--upper", kernel.upper]);
	assert.equal(refusal.code, 1);
	assert.match(refusal.stderr, /kernel.*rebind/);
});

test("a Linux client keeps its mount, with an open file and a working place, while all layers move", {
	skip: skip || onlyInAll || needs("vm") || cannotMount("xfs"),
}, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const first = made.folder("first");
	const trees = [
		{ "work/place/file": "in the working place\n", "work/lower": "lower\n", "work/log": "log\n", "old/name": "by handle\n" },
		{ below: "x" },
	];
	for (const [index, tree] of trees.entries()) plant(join(first, `lower${index}`), tree);
	mkdirSync(join(first, "upper"));
	mkdirSync(join(first, "upper.work"));
	giveTo(user, first, made.folder("state"));
	const server = serverAt(made, first, user);
	await server.start();
	const second = made.mount("xfs", "second");
	let moving: Promise<void> | undefined;
	let moved: ServerProcess | undefined;
	const move = async () => {
		await server.terminate();
		copy("rsync -aHAX", first, join(second, "moved"), user);
		rmSync(first, { recursive: true });
		const { port } = server;
		moved = new ServerProcess({
			lowers: [0, 1].map((index) => join(second, "moved", `lower${index}`)),
			upper: join(second, "moved/upper"),
			args: ["--state-dir", made.folder("state")],
			user,
			port,
		});
		made.beforeRemoval(() => moved?.kill());
		await moved.start();
		const client = await moved.client();
		await client.createFile(await client.root(), "moved", "");
		client.close();
	};
	const vm = await runVm(made, "portable-move.sh", {
		env: { TOP: made.folder("mount"), PORT: String(server.port) },
		onLine: (line) => {
			if (line === "@move") moving = move();
		},
	});
	await moving;
	assert.equal(vm.status, 0, `${vm.output}\n${server.stderr}\n${moved?.stderr}`);
	assert.deepEqual(
		vm.output.split("\n").filter((line) => line !== "" && !line.startsWith("@")),
		[],
		"nothing was complained of",
	);
	t.diagnostic(`virtual machine: ${vm.seconds.toFixed(1)} s`);
	assert.ok(moved);
	const client = await moved.client();
	const root = await client.root();
	const text = async (path: string) => (await client.readFile(await client.walk(root, path))).toString();
	assert.equal(await text("work/log"), "log\nbefore\nafter\n");
	assert.equal(await text("renamed/born"), "begun, went on\n");
	assert.equal(await text("work/place/new"), "made in the working place\n");
	client.close();
	await moved.terminate();
});
