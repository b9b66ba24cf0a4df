/** A server that an ordinary user runs, with handles that need no privilege and no kernel handles. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
	appendFileSync,
	chmodSync,
	chownSync,
	existsSync,
	linkSync,
	lstatSync,
	mkdirSync,
	readdirSync,
	renameSync,
	rmSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Ending, giveTo, HeldTree } from "../support/held-tree.ts";
import { plant, type TreeDescription } from "../support/lower-tree.ts";
import { Access3, FileType3, ok, refused } from "../support/nfs3-client.ts";
import { full, needs, onlyInAll, volume } from "../support/requirements.ts";
import { cannotMount, type FileSystem, type Scratch, scratch } from "../support/scratch.ts";
import { layerArguments, NOBODY, type OrdinaryUser, ordinaryUser, runHoldfast, startServer } from "../support/server-process.ts";
import { assertSameTree, readXattrs, snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root", "getfattr", "setfattr");
const ENDINGS: readonly Ending[] = ["SIGTERM", "SIGKILL"];

const TOP: TreeDescription = {
	"a/b/file": "of the top",
	"a/b/deep/er/file": "five levels down",
	"a/b/link": { link: "file" },
	"a/fifo": { node: ["p"] },
	"a/write": "to be written",
	"a/cut": "to be truncated",
	"a/mode": "to be chmodded",
	"a/times": "to be touched",
	"a/removed": "to be removed",
	"a/again": "to be removed and made again",
	"merged/top": "top",
	"merged/sub/top": "top of sub",
	"names/one": "several names are several objects",
	"odd \u00fc\n name/f": "x",
};
const BOTTOM: TreeDescription = {
	"a/b/file": "hidden",
	"a/below": "of the bottom",
	"merged/bottom": "bottom",
	"merged/sub/bottom": "bottom of sub",
	"only/below/file": "nothing above",
	"many/": "",
	...Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`many/file ${index}`, `${index}`])),
};

async function held(made: Scratch, fileSystem: FileSystem = "root", args: readonly string[] = []): Promise<HeldTree> {
	const user = ordinaryUser(made);
	const base = made.mount(fileSystem, "layers");
	return await HeldTree.start(made, base, [TOP, BOTTOM], { user, args });
}

function unprivileged(made: Scratch, tree: TreeDescription = { "dir/file": "contents" }) {
	const user = ordinaryUser(made);
	const lower = plant(made.folder("lower"), tree);
	const upper = made.folder("upper");
	const work = made.folder("work");
	const state = made.folder("state");
	giveTo(user, lower, upper, work, state);
	const options = { lowers: [lower], upper, work, args: ["--async", "--state-dir", state], user };
	return { user, lower, upper, work, state, options };
}

function assertRefused(args: readonly string[], sentence: RegExp, user: OrdinaryUser | null, code = 1): void {
	const run = runHoldfast(args, user === null ? {} : { user });
	assert.equal(run.code, code, `${args.join(" ")}\n${run.stdout}${run.stderr}`);
	assert.match(run.stderr, sentence);
	assert.doesNotMatch(run.stderr, /^\s+at .*:\d+:\d+\)?$/m, "a stack trace is no sentence");
	assert.equal(run.stderr.trim().split("\n").length, 1, `one sentence: ${run.stderr}`);
}

function serve(options: { readonly lowers: readonly string[]; readonly upper: string; readonly work: string }, state: string): string[] {
	return ["serve", ...layerArguments(options), "--state-dir", state, "--listen", "127.0.0.1:0"];
}

for (const fileSystem of full ? (["root", "tmpfs", "xfs", "btrfs"] as const) : (["root"] as const)) {
	test(`handles of everything hold over every change and restart on ${fileSystem}, as an ordinary user`, {
		skip: skip || cannotMount(fileSystem),
	}, async (t) => {
		const made = scratch(t);
		const tree = await held(made, fileSystem);
		assert.match(tree.server.stdout, /^Handles: portable \(.+\)$/m);
		await tree.takeAll();
		await tree.checkNames("untouched");
		let turn = 0;
		const step = async (what: string, change: () => Promise<unknown>) => {
			await change();
			await tree.checkHandles(what);
			// one of both after each change, and both after the last
			if (turn++ % volume(5, 1) === 0) await tree.check(what, ENDINGS[turn % 2]);
		};
		const { client } = tree;
		const setattr = async (path: string, change: Parameters<typeof client.setattr>[1]) =>
			void (await ok(tree.client.setattr(tree.get(path).handle, change), `SETATTR ${path}`));

		await step("a restart before anything has changed", async () => {});
		await step("copy up by write", () => tree.write("a/write", "TO BE"));
		await step("copy up by truncate, chmod, utimes", async () => {
			await setattr("a/cut", { size: 5n });
			tree.get("a/cut").contents = "to be";
			await setattr("a/mode", { mode: 0o640 });
			await setattr("a/times", { mtime: { sec: 1_000_000, nsec: 5 } });
			await setattr("a/fifo", { mode: 0o600 });
			await setattr("a/b/deep", { mode: 0o700 });
		});
		await step("rename of a lower file and of a lower symlink", async () => {
			await tree.rename("a/below", "renamed");
			await tree.rename("a/b/link", "a/link");
		});
		await step("rename of its parent, lower and merged", async () => {
			await tree.rename("a/b/deep/er", "a/b/er");
			await tree.rename("merged/sub", "moved sub");
		});
		await step("rename of its grandparent", () => tree.rename("a", "z"));
		await step("rename to and fro, over a file, of a merged directory into another", async () => {
			await tree.rename("z", "a");
			await tree.rename("a", "only/a");
			await tree.rename("only/a/write", "only/a/b/file");
		});
		await step("new objects in old and new directories", async () => {
			await tree.makeDirectory("only/a/new");
			await tree.createFile("only/a/new/file", "born in upper");
			await tree.createFile("merged/born", "");
			const [directory] = tree.at("only/a/x");
			const pipe = await ok(tree.client.mknod(directory, "pipe", FileType3.fifo), "MKNOD fifo");
			await tree.note("only/a/pipe", pipe.handle as Buffer);
			const socket = await ok(tree.client.mknod(directory, "socket", FileType3.sock), "MKNOD sock");
			await tree.note("only/a/socket", socket.handle as Buffer);
			const link = await ok(tree.client.symlink(directory, "symlink", "only/a"), "SYMLINK");
			await tree.note("only/a/symlink", link.handle as Buffer);
			await refused(tree.client.mknod(directory, "device", FileType3.chr, { mode: 0o600 }, [1, 3]), "perm", "MKNOD chr");
		});
		await step("link and unlink", async () => {
			await tree.link("renamed", "only/a/second");
			await tree.link("only/a/new/file", "third");
			await tree.link("only/a/pipe", "pipe too");
			await tree.link("only/a/symlink", "symlink too");
			await tree.remove("renamed");
			await tree.remove("only/a/new/file");
			await tree.remove("only/a/pipe");
			await tree.remove("only/a/symlink");
		});
		await step("rename of what was born here, and of its directory", async () => {
			await tree.rename("third", "only/third");
			await tree.rename("only/a/socket", "socket");
			await tree.rename("pipe too", "merged/pipe");
			await tree.rename("only/a/new", "newer");
		});
		await step("remove, and create again", async () => {
			await tree.remove("only/a/removed");
			await tree.remove("only/a/again");
			await tree.createFile("only/a/again", "another file of that name");
			await tree.remove("only/third");
			await tree.createFile("only/third", "again");
			await tree.remove("symlink too");
			await tree.remove("merged/pipe");
			await tree.remove("socket");
		});
		await step("rmdir of a merged directory, and mkdir of that name", async () => {
			for (const path of ["merged/top", "merged/bottom", "merged/born", "merged"]) await tree.remove(path);
			await tree.makeDirectory("merged");
			await tree.createFile("merged/bottom", "not the one below");
		});
		await step("many names changed at once", async () => {
			for (let index = 0; index < 60; index += 3) {
				await tree.remove(`many/file ${index}`);
				await tree.rename(`many/file ${index + 1}`, `many/moved ${index}`);
				await tree.write(`many/file ${index + 2}`, "x");
			}
		});
		for (const ending of ENDINGS) await tree.check("at the end", ending);
		assert.equal(tree.server.stderr, "", "nothing to complain of");
	});
}

test("modes are shown as clients have set them, and the owner is the server's user", { skip }, async (t) => {
	const made = scratch(t);
	const { user, options, upper } = unprivileged(made);
	const server = await startServer(made, options);
	let client = await server.client();
	t.after(() => client.close());
	const root = await client.root();
	const modes = new Map<Buffer, number>();
	const files: Buffer[] = [];
	for (const mode of [0o444, 0, 0o200, 0o111, 0o4755, 0o2711, 0o640]) {
		const file = await client.createFile(root, `file ${mode.toString(8)}`, "", mode);
		modes.set(file, mode);
		// who writes to a program takes its setuid bit away, as on any file
		if ((mode & 0o6000) !== 0) continue;
		files.push(file);
		await client.writeFile(file, `with mode ${mode.toString(8)}`);
	}
	for (const mode of [0o555, 0, 0o311, 0o1777, 0o2755]) {
		modes.set(await client.makeDirectory(root, `dir ${mode.toString(8)}`, mode), mode);
	}
	const file = await client.walk(root, "dir/file");
	await ok(client.setattr(file, { mode: 0 }));
	modes.set(file, 0);
	files.push(file);
	const directory = await client.walk(root, "dir");
	await client.createFile(directory, "beside", "x");
	await ok(client.setattr(directory, { mode: 0o555 }));
	modes.set(directory, 0o555);
	const inside = await client.lookup(directory, "beside");
	assert.equal(inside.status, 0);

	const check = async (when: string) => {
		for (const [handle, mode] of modes) {
			const is = await client.attributesOf(handle);
			assert.equal((is.mode & 0o7777).toString(8), mode.toString(8), `${when}: mode`);
			assert.deepEqual([is.uid, is.gid], [user.uid, user.gid], `${when}: owner`);
		}
		// the owner of a file may always read and write it: it may have been open when its mode was changed
		for (const handle of files) {
			const before = await client.readFile(handle);
			assert.ok(before.length > 0);
			await client.writeFile(handle, before.subarray(0, 1));
			assert.deepEqual(await client.readFile(handle), before, when);
		}
		const readOnly = await client.walk(root, "file 444");
		const { granted } = await ok(client.access(readOnly, Access3.read | Access3.modify));
		assert.equal(granted, Access3.read, `${when}: ACCESS of 0444`);
		const names = (await client.listPlus(root, { dots: false })).map(({ name, attributes }) => [name, (attributes?.mode ?? 0) & 0o7777]);
		for (const [name, mode] of names)
			if (/ \d+$/.test(String(name))) assert.equal(mode, Number.parseInt(String(name).split(" ")[1] ?? "", 8));
		await refused(client.create(await client.walk(root, "dir 555"), "new"), "acces", `${when}: CREATE in 0555`);
		await refused(client.create(directory, "new"), "acces", `${when}: CREATE in a lower directory of 0555`);
		await refused(client.remove(directory, "beside"), "acces", `${when}: REMOVE in 0555`);
		await refused(client.lookup(await client.walk(root, "dir 0"), "any"), "acces", `${when}: LOOKUP in 0000`);
	};
	await check("at first");
	for (const ending of ["SIGTERM", "SIGKILL"] as const) {
		client.close();
		if (ending === "SIGTERM") await server.terminate();
		else await server.kill();
		await server.start();
		client = await server.client();
		await check(`after ${ending}`);
	}
	const setuid = await client.createFile(root, "setuid", "x", 0o4755);
	assert.equal((await client.attributesOf(setuid)).mode & 0o7777, 0o755);
	// others see nothing of their own: every client is the server's user
	const other = client.as(4321, 4321);
	assert.deepEqual((await other.attributesOf(await other.createFile(root, "by another", "x"))).uid, user.uid);
	await refused(client.as(0, 0).setattr(setuid, { uid: 0 }), "perm", "chown");
	for (const name of ["file 0", "file 444", "dir 555", "dir 0"]) {
		const real = statSync(join(upper, name));
		assert.equal(real.mode & 0o600, 0o600, `${name} can be copied by its owner`);
		assert.equal(real.uid, user.uid);
	}
	await server.terminate();
});

test("what this user may not copy up is refused and stays as it is", { skip }, async (t) => {
	const made = scratch(t);
	const { lower, options, user } = unprivileged(made, {
		device: { node: ["c", "1", "3"] },
		secret: "of root",
		open: "of root",
		"dir/f": "x",
	});
	for (const name of ["device", "secret", "open"]) chownSync(join(lower, name), 0, 0);
	chmodSync(join(lower, "secret"), 0o600);
	chmodSync(join(lower, "open"), 0o666);
	const server = await startServer(made, options);
	const client = await server.client();
	const root = await client.root();
	const [device, secret, open] = [await client.walk(root, "device"), await client.walk(root, "secret"), await client.walk(root, "open")];
	await refused(client.setattr(device, { mode: 0o666 }), "perm", "chmod of a device of root's");
	await refused(client.read(secret, 0n, 10), "acces", "READ of what only root may read");
	await refused(client.write(secret, 0n, Buffer.from("x")), "acces", "WRITE of it");
	// everybody may write that one; its copy is this user's
	await client.writeFile(open, "OF");
	assert.equal((await client.readFile(open)).toString(), "OF root");
	assert.equal((await client.attributesOf(open)).uid, user.uid);
	const link = await client.link(device, root, "device too");
	assert.notEqual(link.status, 0, "a device would have to be copied up for a further name");
	const moved = await client.rename(root, "device", root, "moved");
	assert.notEqual(moved.status, 0, "and for another one");
	await ok(client.remove(root, "device"), "REMOVE of a device of a lower");
	await ok(client.remove(root, "secret"), "REMOVE of what cannot be read");
	assert.deepEqual((await client.listPlus(root, { dots: false })).map(({ name }) => name).sort(), ["dir", "open"]);
	client.close();
	await server.restart();
	const again = await server.client();
	await refused(again.getattr(device), "stale");
	assert.equal((await again.readFile(open)).toString(), "OF root");
	again.close();
	await server.terminate();
});

test("whiteouts are empty files with an xattr, and a copy of the upper by cp -a, rsync -X and tar keeps them", {
	skip: skip || needs("rsync", "tar"),
}, async (t) => {
	const made = scratch(t);
	const { options, upper } = unprivileged(made, { "dir/file": "x", "dir/kept": "x", "gone/f": "y", top: "z", "opaque/f": "1" });
	const server = await startServer(made, options);
	const client = await server.client();
	const root = await client.root();
	await ok(client.remove(await client.walk(root, "dir"), "file"));
	await ok(client.remove(root, "top"));
	await ok(client.remove(await client.walk(root, "gone"), "f"));
	await ok(client.rmdir(root, "gone"));
	await ok(client.remove(await client.walk(root, "opaque"), "f"));
	await ok(client.rmdir(root, "opaque"));
	await client.makeDirectory(root, "opaque");
	client.close();
	await server.terminate();
	for (const path of ["dir/file", "top", "gone"]) {
		const stat = lstatSync(join(upper, path));
		assert.ok(stat.isFile() && stat.size === 0, `${path} is an empty file`);
		assert.match(readXattrs(upper).get(path) ?? "", /user\.overlay\.whiteout=/, path);
	}
	const marks = readXattrs(upper);
	assert.match(marks.get("dir") ?? "", /user\.overlay\.opaque=0x78/, "its directory says that there are such");
	assert.match(marks.get("opaque") ?? "", /user\.overlay\.opaque=0x79/);
	for (const [, line] of marks) assert.doesNotMatch(line, /trusted\./);
	// links go to work; rsync leaves the times of directories as they were when it has made hard links in them
	const known = (snapshot: ReadonlyMap<string, string>) =>
		new Map([...snapshot].map(([path, line]) => [path, line.replace(/ nlink=\d+/, "").replace(/^(dir .*) mtime=\d+/, "$1")]));
	const before = snapshotTree(upper);
	for (const [how, copy] of [
		["cp", (to: string) => execFileSync("cp", ["-a", `${upper}/.`, to])],
		["rsync", (to: string) => execFileSync("rsync", ["-aHX", `${upper}/`, to])],
		[
			"tar",
			(to: string) =>
				execFileSync("sh", ["-c", `tar -C "$1" --xattrs -cf - . | tar -C "$2" --xattrs --xattrs-include='*' -xpf -`, "-", upper, to]),
		],
	] as const) {
		const to = made.folder(`by ${how}`);
		copy(to);
		assertSameTree(known(before), known(snapshotTree(to)), how);
	}
});

test("reads write nothing", { skip }, async (t) => {
	const made = scratch(t);
	const tree = await held(made);
	const base = join(made.path, "layers");
	await tree.takeAll();
	await tree.write("a/write", "TO BE");
	await tree.rename("merged/sub", "moved");
	await tree.remove("a/removed");
	await tree.restart("SIGKILL");
	const folders = [tree.upper, `${tree.upper}.work`, join(made.path, "state"), join(base, "lower0"), join(base, "lower1")];
	const picture = () => folders.map((folder) => snapshotTree(folder, { exact: true }));
	const before = picture();
	await tree.check("a walk");
	const found = await tree.client.tree(tree.root);
	for (const { handle, attributes } of found.values()) {
		if (attributes.type === FileType3.reg) await tree.client.readFile(handle);
		await ok(tree.client.access(handle, 63));
		await ok(tree.client.fsstat(handle));
	}
	for (const [index, after] of picture().entries())
		assertSameTree(before[index] as ReadonlyMap<string, string>, after, folders[index] as string);
});

test("an upper that root has marked, and a work folder of root's, are refused", { skip }, async (t) => {
	const made = scratch(t);
	const { user, options, upper, work, lower, state } = unprivileged(made);
	// with root's marks, which this user cannot see
	const rootServer = await startServer(made, { lowers: [lower], upper, work, args: ["--state-dir", state] });
	assert.match(rootServer.stdout, /^Handles: kernel \(.+\)\nIn copies of the layers no handle holds.* holdfast rebind\.$/m);
	const client = await rootServer.client();
	await client.writeFile(await client.walk(await client.root(), "dir/file"), "CON");
	client.close();
	await rootServer.terminate();
	const marked = snapshotTree(upper);
	assertRefused(serve(options, state), /root|owner|belongs|permission|EACCES/i, user);
	giveTo(user, upper, work, state);
	assertRefused(serve(options, state), /root|trusted|kernel/i, user);
	// and with a fresh work folder
	const fresh = made.folder("fresh");
	giveTo(user, fresh);
	assertRefused(serve({ ...options, work: fresh }, state), /further name|root|trusted|owner|belongs/i, user);
	assert.deepEqual([...snapshotTree(upper).keys()], [...marked.keys()]);
	// work made by the superuser
	const clean = made.folder("clean");
	giveTo(user, clean);
	const rootsWork = made.folder("roots-work");
	mkdirSync(join(rootsWork, "work"));
	chmodSync(rootsWork, 0o777);
	assertRefused(serve({ ...options, upper: clean, work: rootsWork }, state), /root|owner|belongs|permission/i, user);
});

test("an upper of another user is refused, a lower of another user is warned about", { skip }, async (t) => {
	const made = scratch(t);
	const { user, options, lower, upper, state } = unprivileged(made);
	chownSync(upper, 0, 0);
	assertRefused(serve(options, state), /upper/, user);
	giveTo(user, upper);
	chownSync(lower, 0, 0);
	const server = await startServer(made, options);
	assert.match(server.stderr, new RegExp(`The lower ${lower} belongs to another user`));
	const client = await server.client();
	await client.writeFile(await client.walk(await client.root(), "dir/file"), "CON");
	client.close();
	await server.terminate();
});

test("the kind of handles: said at the start, asked for, kept", { skip }, async (t) => {
	const made = scratch(t);
	const { user, options, state, lower } = unprivileged(made);
	assertRefused([...serve(options, state), "--handles", "kernel"], /kernel handles|CAP_|root|privilege/i, user);
	assert.ok(!existsSync(join(options.work, "holdfast/registry.json")), "nothing was begun");
	assertRefused([...serve(options, state), "--handles", "wrong"], /auto, kernel, portable/, user, 2);
	const server = await startServer(made, options);
	assert.match(server.stdout, /^Handles: portable \(.*(privilege|CAP_|root).*\)$/im);
	assert.equal(server.stdout.match(/^Handles:/gm)?.length, 1);
	await server.restart();
	// the reason is kept, and told as that of the first serve: this process may lack nothing
	const said = server.stdout.match(/^Handles: .*$/gm) ?? [];
	const reason = /^Handles: portable \((.+)\)$/.exec(said[0] ?? "")?.[1];
	assert.deepEqual(said, [said[0], `Handles: portable (this export has had them since its first serve; the reason then: ${reason})`]);
	await server.terminate();
	assertRefused([...serve(options, state), "--handles", "kernel"], /portable.*rebind/s, user);
	assertRefused([...serve(options, state), "--handles", "kernel"], /portable.*rebind/s, null);

	// root's, and the other way round
	const other = { lowers: [lower], upper: made.folder("other"), work: made.folder("other.work") };
	const rooted = await startServer(made, { ...other, args: ["--state-dir", state] });
	assert.match(rooted.stdout, /^Handles: kernel \(.+\)$/m);
	await rooted.terminate();
	assertRefused([...serve(other, state), "--handles", "portable"], /kernel.*rebind/s, null);
	const third = { lowers: [lower], upper: made.folder("third"), work: made.folder("third.work") };
	const asked = await startServer(made, { ...third, args: ["--state-dir", state, "--handles", "portable"] });
	assert.match(asked.stdout, /^Handles: portable \(they were asked for\)\nHandles hold in a copy of .+$/m);
	await asked.restart();
	await asked.terminate();
});

test("a lower that was changed although it must not: stale, and named in the log", { skip }, async (t) => {
	const made = scratch(t);
	const { options, lower } = unprivileged(made, { "dir/file": "contents", "dir/same": "same", "dir/other": "other", "dir/deep/f": "f" });
	const server = await startServer(made, options);
	let client = await server.client();
	const root = await client.root();
	const [file, same, other, deep] = [
		await client.walk(root, "dir/file"),
		await client.walk(root, "dir/same"),
		await client.walk(root, "dir/other"),
		await client.walk(root, "dir/deep/f"),
	];
	client.close();
	await server.terminate();
	appendFileSync(join(lower, "dir/file"), " and more");
	execFileSync("rm", [join(lower, "dir/other")]);
	mkdirSync(join(lower, "dir/other"));
	execFileSync("mv", [join(lower, "dir/deep"), join(lower, "dir/deeper")]);
	await server.start();
	client = await server.client();
	await refused(client.getattr(file), "stale", "a longer file");
	await refused(client.read(file, 0n, 10), "stale", "a longer file");
	await refused(client.getattr(other), "stale", "a directory in the place of a file");
	await refused(client.getattr(deep), "stale", "a file whose directory has another name");
	assert.equal((await client.readFile(same)).toString(), "same");
	assert.match(server.stderr, new RegExp(`${lower}/dir/file is not what it was`));
	assert.match(server.stderr, new RegExp(`${lower}/dir/other is not what it was`));
	// what is there now is another object
	const now = await client.walk(root, "dir/file");
	assert.notDeepEqual(now, file);
	assert.equal((await client.readFile(now)).toString(), "contents and more");
	client.close();
	await server.terminate();
});

/** Why an ordinary user has no user namespace of that kind here; false where there is one. */
function cannotUnshare(...options: readonly string[]): string | false {
	if (skip !== false) return skip;
	const { status } = spawnSync("unshare", [...options, "true"], { uid: NOBODY, gid: NOBODY, stdio: "ignore" });
	return status === 0 ? false : `this kernel lets no user unshare ${options.join(" ")}`;
}

for (const [what, ...options] of [
	["without mappings", "-U"],
	["in which it is user 0", "-U", "-r"],
] as const) {
	test(`a server in a user namespace ${what} keeps everything but owners, which it refuses to change`, {
		skip: cannotUnshare(...options),
	}, async (t) => {
		const made = scratch(t);
		const { options: layers } = unprivileged(made, { "dir/file": "contents", "dir/secret": "more" });
		// in there the user of these tests looks as any other
		const args = [...(layers.args ?? []), "--allow-other"];
		const server = await startServer(made, { ...layers, args, within: ["unshare", ...options] });
		assert.match(server.stdout, /^Handles: portable/m);
		let client = await server.client();
		const root = await client.root();
		const handles = [
			await client.walk(root, "dir/file"),
			await client.walk(root, "dir/secret"),
			await client.createFile(root, "new", "made"),
		];
		for (const handle of handles) {
			const { uid, gid } = await client.attributesOf(handle);
			for (const who of [client, client.as(0, 0)]) {
				await refused(who.setattr(handle, { uid: 12 }), "perm", "chown");
				await refused(who.setattr(handle, { gid: 12 }), "perm", "chgrp");
			}
			await ok(client.setattr(handle, { uid, gid, mode: 0 }), "chown to the same owner, and chmod");
		}
		const shown = () => Promise.all(handles.map(async (handle) => [await client.attributesOf(handle), await client.readFile(handle)]));
		const before = await shown();
		client.close();
		await server.restart();
		client = await server.client();
		assert.deepEqual(await shown(), before);
		client.close();
		await server.terminate();
	});
}

test("all names of a lower file are one object, found when the first is met", { skip: skip || onlyInAll }, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const base = made.folder("layers");
	const prepare = ([lower]: readonly string[]) => {
		for (const name of ["names/two", "a/three", "zz"]) linkSync(join(lower as string, "names/one"), join(lower as string, name));
		linkSync(join(lower as string, "a/fifo"), join(lower as string, "names/fifo"));
	};
	const tree = await HeldTree.start(made, base, [TOP, BOTTOM], { user, prepare });
	await tree.takeAll();
	const one = tree.get("names/one");
	assert.deepEqual(tree.namesOf(one).sort(), ["a/three", "names/one", "names/two", "zz"]);
	assert.equal(tree.namesOf(tree.get("a/fifo")).length, 2);
	assert.equal((await tree.client.attributesOf(one.handle)).nlink, 4);
	await tree.check("untouched", "SIGTERM");
	await tree.remove("a/three");
	await tree.check("one name less, which was the least", "SIGKILL");
	await tree.write("zz", "SEVERAL");
	await tree.check("copied up by another", "SIGTERM");
	await tree.link("names/two", "five");
	await tree.rename("names/one", "six");
	await tree.check("a further name, and a rename", "SIGKILL");
	await tree.remove("names/two");
	await tree.remove("zz");
	await tree.remove("six");
	await tree.remove("names/fifo");
	await tree.check("all but one are gone", "SIGTERM");
	await tree.remove("five");
	await tree.remove("a/fifo");
	await tree.check("the last is gone", "SIGKILL");
	await tree.server.terminate();
});

test("names of one lower file are looked for once, when the first is met, and kept: beside leftovers of a walk, over restarts", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const { options, lower, work } = unprivileged(made, { "dir/file": "contents", alone: "1", outside: "2" });
	for (const name of ["dir/again", "second"]) linkSync(join(lower, "dir/file"), join(lower, name));
	linkSync(join(lower, "outside"), join(made.path, "outside of the layer"));
	const kept = join(work, "holdfast/link-names");
	const server = await startServer(made, options);
	let client = await server.client();
	const root = await client.root();
	await client.walk(root, "alone");
	assert.ok(!existsSync(kept), "no file of several names was met");
	const names = ["dir/again", "dir/file", "second"];
	// the first that is met is that of a listing
	const listed = await client.tree(root);
	const [one] = names.map((name) => (listed.get(name) as { handle: Buffer }).handle);
	for (const name of names) assert.deepEqual(await client.walk(root, name), one, name);
	assert.equal((await client.attributesOf(one)).nlink, 3);
	assert.equal((await client.attributesOf(await client.walk(root, "outside"))).nlink, 1);
	const [folder, ...others] = readdirSync(kept);
	assert.deepEqual(others, []);
	assert.equal(readdirSync(join(kept, folder)).length, 3);
	const before = snapshotTree(kept, { exact: true });
	client.close();
	await server.restart();
	client = await server.client();
	assert.deepEqual(await client.walk(root, "dir/file"), one);
	assertSameTree(snapshotTree(kept, { exact: true }), before, "what was found before");
	client.close();
	await server.terminate();
	// as if that walk had been interrupted, and one of an earlier version too
	renameSync(join(kept, folder), join(kept, `${folder}.new`));
	mkdirSync(join(kept, `${folder}.999999999.new`));
	await server.start();
	client = await server.client();
	assert.deepEqual(await client.walk(root, "second"), one);
	await client.writeFile(one, "CON");
	assert.equal((await client.readFile(await client.walk(root, "dir/again"))).toString(), "CONtents");
	assert.deepEqual(readdirSync(kept), [folder]);
	client.close();
	await server.terminate();
});

test("a read-only export looks for names of one file too, also where it may keep nothing", { skip }, async (t) => {
	const made = scratch(t);
	const { user, lower, state } = unprivileged(made);
	linkSync(join(lower, "dir/file"), join(lower, "second"));
	const options = { lowers: [lower], args: ["--state-dir", state], user };
	const server = await startServer(made, options);
	const handles: Buffer[] = [];
	for (const name of ["dir/file", "second", "dir/file"]) {
		const client = await server.client();
		handles.push(await client.walk(await client.root(), name));
		assert.equal((await client.attributesOf(handles[0])).nlink, 2);
		client.close();
		await server.terminate();
		const [folder] = readdirSync(join(state, "read-only"));
		rmSync(join(state, "read-only", folder, "link-names"), { recursive: true, force: true });
		chmodSync(join(state, "read-only", folder), 0o500);
		await server.start();
	}
	assert.deepEqual(handles[1], handles[0]);
	assert.deepEqual(handles[2], handles[0]);
	await server.terminate();
});

test("read-only exports of trees whose roots have the same names are two, and one that is moved stays itself", { skip }, async (t) => {
	const made = scratch(t);
	const one = unprivileged(made, { "dir/file": "one", "dir/only": "1" });
	const state = ["--state-dir", one.state];
	const other = plant(made.folder("other"), { "dir/file": "two" });
	for (const tree of [one.lower, other]) execFileSync("touch", ["-d", "@1000000000", join(tree, "dir/file")]);
	linkSync(join(other, "dir/file"), join(other, "dir/again"));
	giveTo(one.user, other);
	const held = async (lower: string) => {
		const server = await startServer(made, { lowers: [lower], args: state, user: one.user });
		const client = await server.client();
		const handle = await client.walk(await client.root(), "dir/file");
		client.close();
		await server.terminate();
		return handle;
	};
	const [first, second] = [await held(one.lower), await held(other)];
	assert.notDeepEqual(first.subarray(4, 8), second.subarray(4, 8), "the ids of two exports");
	assert.deepEqual(await held(one.lower), first);
	assert.deepEqual(await held(other), second);
	renameSync(other, join(made.path, "moved"));
	assert.deepEqual(await held(join(made.path, "moved")), second);
	assert.deepEqual(await held(one.lower), first);
});

test("with --no-link-names each name is its own object; neither option can be added later", { skip }, async (t) => {
	const made = scratch(t);
	const { user, options, lower, state } = unprivileged(made);
	linkSync(join(lower, "dir/file"), join(lower, "second"));
	const server = await startServer(made, { ...options, args: [...options.args, "--no-link-names"] });
	let client = await server.client();
	const root = await client.root();
	const [one, two] = [await client.walk(root, "dir/file"), await client.walk(root, "second")];
	assert.notDeepEqual(one, two);
	assert.equal((await client.attributesOf(one)).nlink, 1);
	await client.writeFile(one, "CON");
	assert.equal((await client.readFile(two)).toString(), "contents");
	assert.notEqual((await client.attributesOf(one)).fileid, (await client.attributesOf(two)).fileid);
	client.close();
	await server.terminate();
	const again = await startServer(made, options);
	client = await again.client();
	assert.equal((await client.readFile(one)).toString(), "CONtents");
	assert.equal((await client.readFile(two)).toString(), "contents");
	client.close();
	await again.terminate();
	assertRefused([...serve(options, state), "--link-names"], /--link-names/, user);
	const other = unprivileged(scratch(t));
	const followed = await startServer(made, other.options);
	await followed.terminate();
	assertRefused([...serve(other.options, other.state), "--no-link-names"], /--no-link-names/, other.user);
});

test("handle, check, key rotate and settle work as that user, release says why not, and handles hold when it is served again", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const { user, options, state } = unprivileged(made, { "dir/file": "contents", other: "o", gone: "g", "dir/deep/f": "f" });
	const server = await startServer(made, options);
	let client = await server.client();
	const root = await client.root();
	const held = new Map<string, Buffer>();
	for (const path of ["dir/file", "other", "dir", "dir/deep"]) held.set(path, await client.walk(root, path));
	await client.writeFile(held.get("dir/file") as Buffer, "CON");
	await ok(client.rename(held.get("dir") as Buffer, "deep", root, "moved"));
	held.set("born", await client.createFile(root, "born", "x"));
	held.set("symlink", (await ok(client.symlink(root, "symlink", "born"))).handle as Buffer);
	await ok(client.link(held.get("born") as Buffer, root, "born too"));
	const gone = await client.walk(root, "gone");
	await ok(client.remove(root, "gone"));
	const run = (...args: string[]) => {
		const { code, stdout, stderr } = runHoldfast([...args, ...layerArguments(options), "--state-dir", state], { user });
		assert.equal(code, 0, `${args.join(" ")}: ${stdout}${stderr}`);
		return stdout;
	};
	for (const [path, now] of [
		["dir/file", "upper"],
		["other", "lower"],
		["born", "upper"],
	] as const) {
		const said = run("handle", (held.get(path) as Buffer).toString("hex"));
		assert.match(said, /^provider +portable handles$/m);
		assert.match(said, /^handles +portable \(.+\)$/m);
		assert.match(said, /^signature +good$/m);
		assert.match(said, new RegExp(`^now in +${now} `, "m"));
		assert.match(said, new RegExp(`^(path)? +/${path}$`, "m"));
	}
	assert.match(run("handle", gone.toString("hex")), /^stale /m);
	client.close();
	await server.terminate();
	assert.match(run("check"), /^no errors$/m);
	run("key", "rotate");
	run("settle");
	assertRefused(
		["release", ...layerArguments(options), "--state-dir", state],
		/ordinary user cannot be given back to the kernel: .*cp -a /,
		user,
	);
	await server.start();
	client = await server.client();
	for (const [path, handle] of held) assert.equal((await client.getattr(handle)).status, 0, path);
	await refused(client.getattr(gone), "stale");
	assert.equal((await client.readFile(held.get("dir/file") as Buffer)).toString(), "CONtents");
	assert.deepEqual(await client.walk(root, "moved"), held.get("dir/deep"));
	client.close();
	await server.terminate();
	assert.match(run("check"), /^no errors$/m);
});

test("the command line of fork and rebase", { skip }, (t) => {
	const made = scratch(t);
	const { user, lower, upper, work } = unprivileged(made);
	for (const command of ["fork", "rebase"]) {
		const help = runHoldfast([command, "--help"], { user });
		assert.equal(help.code, 0);
		assert.match(help.stdout, new RegExp(`Examples?:\n[^]*holdfast ${command} `));
		assert.match(help.stdout, /--json/);
		assertRefused([command], command === "fork" ? /--upper/ : /--lower/, user, 2);
		assertRefused([command, "--upper"], /--upper/, user, 2);
		assertRefused([command, "--upper", upper, "--no-such"], /no-such/, user, 2);
		const layers = command === "fork" ? [] : ["--lower", lower, "--was", lower];
		assertRefused([command, "--upper", upper, "--work", work, ...layers], /not been served/, user);
		assertRefused([command, "--upper", join(made.path, "none"), ...layers], /none/, user);
	}
	assertRefused(["rebase", "--upper", upper, "--was", lower], /--lower/, user, 2);
	assertRefused(["rebase", "--upper", upper, "--was", lower, "--lower", lower, "--same-by", "name"], /mtime\+size, content/, user, 2);
	const help = runHoldfast(["serve", "--help"], { user });
	for (const option of ["--handles", "--link-names", "--fake-root"]) assert.match(help.stdout, new RegExp(option));
	writeFileSync(join(made.path, "file"), "");
	assertRefused(["fork", "--upper", join(made.path, "file")], /file/, user);
});
