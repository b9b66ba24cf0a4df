/** --fake-root: an ordinary user serves what only the superuser may make, to clients who say that they are root. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { giveTo } from "../support/held-tree.ts";
import { plant } from "../support/lower-tree.ts";
import { FileType3, type Nfs3Client, ok, refused, statusName } from "../support/nfs3-client.ts";
import { assertSame, assertSameFind, describe, plantOddities, plantRealFiles, type Tree } from "../support/real-image.ts";
import { full, needs, onlyInAll } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { ordinaryUser, runHoldfast, startServer } from "../support/server-process.ts";
import { readXattrs } from "../support/tree-snapshot.ts";
import { assertQuiet, runVm } from "../support/virtual-machine.ts";

const skip = needs("root", "getfattr", "find", "tar");
const files = full ? 20_000 : 500;

function place(made: Scratch, base = made.path) {
	const user = ordinaryUser(made);
	const lower = plant(join(base, "lower"), {
		"dir/file": "lower",
		"dir/link": { link: "file" },
		"dir/fifo": { node: ["p"] },
		"dir/null": { node: ["c", "1", "3"] },
		"of root/file": "root's",
		"of root/disk": { node: ["b", "8", "1"] },
	});
	const upper = join(base, "upper");
	for (const folder of [upper, join(base, "work"), join(base, "state")]) mkdirSync(folder, { recursive: true });
	giveTo(user, lower, upper, join(base, "work"), join(base, "state"));
	execFileSync("chown", ["-hR", "0:5", join(lower, "of root")]);
	return {
		user,
		lower,
		upper,
		options: {
			lowers: [lower],
			upper,
			work: join(base, "work"),
			args: ["--async", "--state-dir", join(base, "state"), "--fake-root"],
			user,
		},
	};
}

test("chown, chmod and mknod of a client who is root are shown, over restarts", { skip }, async (t) => {
	const made = scratch(t);
	const { user, options, upper } = place(made);
	const server = await startServer(made, options);
	assert.match(server.stdout, /^Handles: portable/m);
	let client = await server.client();
	const root = await client.root();
	const expected = new Map<string, { handle: Buffer; shown: (string | number)[] }>();
	const shownOf = async (one: Nfs3Client, handle: Buffer) => {
		const { type, mode, uid, gid, rdev } = await one.attributesOf(handle);
		const device = type === FileType3.chr || type === FileType3.blk ? rdev.join(":") : "";
		return [type, (mode & 0o7777).toString(8), uid, gid, device];
	};
	const expect = (name: string, handle: Buffer, type: number, mode: number, uid: number, gid: number, device = "") =>
		expected.set(name, { handle, shown: [type, mode.toString(8), uid, gid, device] });
	const { reg, dir, chr, blk, fifo, sock, lnk } = FileType3;

	const plain = await client.createFile(root, "plain", "mine", 0o644);
	expect("plain", plain, reg, 0o644, 0, 0);
	const setuid = await client.createFile(root, "setuid", "program", 0o755);
	await ok(client.setattr(setuid, { uid: 0, gid: 12, mode: 0o6755 }), "chown and chmod");
	expect("setuid", setuid, reg, 0o6755, 0, 12);
	const secret = await client.createFile(root, "secret", "of 1234", 0o600);
	await ok(client.setattr(secret, { uid: 1234, gid: 99 }), "chown");
	await ok(client.setattr(secret, { mode: 0 }), "chmod");
	expect("secret", secret, reg, 0, 1234, 99);
	const directory = await client.makeDirectory(root, "directory", 0o2755);
	await ok(client.setattr(directory, { uid: 4294967293, gid: 77, mode: 0o3575 }), "chown of a directory");
	expect("directory", directory, dir, 0o3575, 4294967293, 77);
	const inside = await client.createFile(directory, "inside", "", 0o664);
	expect("directory/inside", inside, reg, 0o664, 0, 77);
	const devices: [string, number, number, readonly [number, number], string][] = [
		["chr", chr, 0o666, [1, 3], "1:3"],
		["blk", blk, 0o640, [8, 17], "8:17"],
		["large", chr, 0o600, [4095, 1048575], "4095:1048575"],
		["fifo", fifo, 0o644, [0, 0], ""],
		["sock", sock, 0o755, [0, 0], ""],
	];
	for (const [name, type, mode, device, shown] of devices) {
		const { handle } = await ok(client.mknod(root, name, type, { mode, uid: 5, gid: 6 }, device), `MKNOD ${name}`);
		expect(name, handle as Buffer, type, mode, 5, 6, shown);
	}
	const symlink = await ok(client.symlink(root, "symlink", "plain"), "SYMLINK");
	await ok(client.setattr(symlink.handle as Buffer, { uid: 1000, gid: 1001 }), "lchown");
	expect("symlink", symlink.handle as Buffer, lnk, 0o777, 1000, 1001);
	for (const [path, mode, uid, gid, type] of [
		["dir/file", 0o4711, 3, 4, reg],
		["dir/link", 0o777, 7, 8, lnk],
		["dir/fifo", 0o620, 9, 10, fifo],
		["dir/null", 0o666, 13, 14, chr],
		["of root/file", 0o600, 0, 5, reg],
		["of root/disk", 0o660, 0, 6, blk],
		["of root", 0o755, 1, 5, dir],
		["dir", 0o700, 11, 12, dir],
	] as const) {
		const handle = await client.walk(root, path);
		await ok(client.setattr(handle, { uid, gid, ...(type === lnk ? {} : { mode }) }), `SETATTR ${path}`);
		expect(path, handle, type, mode, uid, gid, type === chr ? "1:3" : type === blk ? "8:1" : "");
	}
	// a whiteout is no device that a client may make
	const zero = await client.mknod(root, "zero", chr, { mode: 0o600 }, [0, 0]);
	assert.notEqual(zero.status, 0);

	const check = async (when: string) => {
		const tree = await client.tree(root);
		for (const [path, { handle, shown }] of expected) {
			assert.deepEqual(await shownOf(client, handle), shown, `${when}: ${path}`);
			const listed = tree.get(path);
			assert.deepEqual(listed?.handle, handle, `${when}: ${path}`);
			assert.ok(listed);
			const { type, mode, uid, gid } = listed.attributes;
			assert.deepEqual([type, (mode & 0o7777).toString(8), uid, gid], shown.slice(0, 4), `${when}: ${path} by READDIRPLUS`);
			assert.deepEqual(await client.walk(root, path), handle);
		}
		// what is shown is what counts
		const own = client.as(1234, 1234);
		await ok(own.read(secret, 0n, 10), `${when}: the owner reads`);
		await refused(client.as(4321, 4321).read(secret, 0n, 10), "acces", `${when}: another reads`);
		assert.equal((await client.readFile(secret)).toString(), "of 1234", `${when}: root reads`);
		await refused(client.as(1234, 1234).setattr(plain, { mode: 0o777 }), "perm", `${when}: chmod of root's file`);
		await refused(client.as(1234, 1234).setattr(secret, { uid: 4321 }), "perm", `${when}: chown by the owner`);
		const device = await client.as(1234, 1234).mknod(root, "device", chr, { mode: 0o666 }, [1, 3]);
		assert.match(statusName(device.status), /^(perm|acces)$/, `${when}: mknod in root's directory`);
		await refused(client.as(1234, 1234).lookup(await client.walk(root, "dir"), "file"), "acces", `${when}: look-up in 0700 of another`);
	};
	await check("at first");
	for (const kill of [false, true]) {
		client.close();
		if (kill) await server.kill();
		else await server.terminate();
		await server.start();
		client = await server.client();
		await check(kill ? "after SIGKILL" : "after SIGTERM");
	}
	// moved, linked and removed as what they are shown as
	await ok(client.rename(root, "chr", directory, "chr"), "RENAME of a device");
	const device = (expected.get("chr") as { handle: Buffer }).handle;
	await ok(client.link(device, root, "link to chr"), "LINK of a device");
	assert.equal((await client.attributesOf(device)).nlink, 2);
	await ok(client.setattr(device, { mode: 0o600, uid: 1, gid: 2 }), "SETATTR of a device");
	assert.deepEqual(await shownOf(client, device), [chr, "600", 1, 2, "1:3"]);
	await refused(client.read(device, 0n, 10), "inval", "READ of a device");
	await refused(client.write(device, 0n, Buffer.from("x")), "inval", "WRITE of a device");
	const users = client.as(1234, 99);
	const home = await client.makeDirectory(root, "home", 0o777);
	const by = await users.createFile(home, "by 1234", "x");
	assert.deepEqual(await shownOf(client, by), [reg, "644", 1234, 99, ""]);
	assert.notEqual((await users.mknod(home, "device", chr, { mode: 0o666 }, [1, 3])).status, 0, "who is not root makes no device");
	for (const name of ["blk", "sock", "fifo", "large", "link to chr", "symlink"]) await ok(client.remove(root, name), `REMOVE ${name}`);
	await refused(client.getattr((expected.get("blk") as { handle: Buffer }).handle), "stale");
	assert.equal((await shownOf(client, device))[0], chr);
	client.close();
	await server.terminate();

	const kept = readXattrs(upper);
	const value = (path: string) =>
		Buffer.from(/user\.containers\.override_stat=0x([0-9a-f]+)/.exec(kept.get(path) ?? "")?.[1] ?? "", "hex").toString();
	assert.equal(value("setuid"), "0:12:06755");
	assert.equal(value("directory/chr"), "1:2:0600:char-1-3");
	const real = statSync(join(upper, "setuid"));
	assert.deepEqual([real.uid, real.mode & 0o6000], [user.uid, 0], "the real file has no such rights");
	assert.ok(statSync(join(upper, "directory/chr")).isFile());
});

test("fake-root stays with its export", { skip }, async (t) => {
	const made = scratch(t);
	const { user, options, lower } = place(made);
	const server = await startServer(made, options);
	const client = await server.client();
	const file = await client.createFile(await client.root(), "f", "x");
	await ok(client.setattr(file, { uid: 17 }));
	client.close();
	await server.terminate();
	const kernel = runHoldfast(
		[
			"serve",
			"--lower",
			lower,
			"--upper",
			made.folder("other"),
			"--fake-root",
			"--handles",
			"kernel",
			"--state-dir",
			join(made.path, "state"),
		],
		{ user },
	);
	assert.notEqual(kernel.code, 0);
	// without the option clients see what this user has; with it again what was kept
	const plain = await startServer(made, { ...options, args: options.args.filter((arg) => arg !== "--fake-root") });
	const other = await plain.client();
	assert.equal((await other.attributesOf(file)).uid, user.uid);
	other.close();
	await plain.terminate();
	await server.start();
	const again = await server.client();
	assert.equal((await again.attributesOf(file)).uid, 17);
	again.close();
	await server.terminate();
});

test("what stands in for a device in a lower keeps its handle: after a restart, and copied up", {
	skip: skip || needs("setfattr"),
}, async (t) => {
	const made = scratch(t);
	const { user, options, lower } = place(made);
	const kept = { tty: "3:4:0620:char-5-0", disk: "0:6:0660:block-8-1", pipe: "0:0:0600:pipe", file: "7:8:04755" };
	for (const [name, value] of Object.entries(kept)) {
		plant(lower, { [`standing in/${name}`]: "" });
		execFileSync("setfattr", ["-n", "user.containers.override_stat", "-v", value, join(lower, "standing in", name)]);
	}
	giveTo(user, join(lower, "standing in"));
	const server = await startServer(made, options);
	let client = await server.client();
	const shown = async (handle: Buffer) => {
		const { type, mode, uid, gid, rdev, fileid } = await client.attributesOf(handle);
		return { type, mode: mode & 0o7777, uid, gid, rdev: rdev.join(":"), fileid };
	};
	const handles = new Map<string, Buffer>();
	const before = new Map<string, Awaited<ReturnType<typeof shown>>>();
	for (const name of Object.keys(kept)) {
		const handle = await client.walk(await client.root(), `standing in/${name}`);
		handles.set(name, handle);
		before.set(name, await shown(handle));
	}
	assert.deepEqual(
		[...before.values()].map(({ type }) => type),
		[FileType3.chr, FileType3.blk, FileType3.fifo, FileType3.reg],
	);
	client.close();
	await server.restart();
	client = await server.client();
	for (const [name, handle] of handles) assert.deepEqual(await shown(handle), before.get(name), name);
	for (const [name, handle] of handles) {
		await ok(client.setattr(handle, { gid: 99 }), name);
		assert.deepEqual(await shown(handle), { ...before.get(name), gid: 99, ...(name === "file" ? { mode: 0o755 } : {}) }, name);
	}
	client.close();
	await server.terminate();
});

/** Without xattrs, which NFS version 3 does not carry, and links between devices, which tar does not. */
function withoutXattrs(tree: Tree): Tree {
	return new Map(
		[...tree].map(([path, line]) => [
			path,
			line
				.replace(/ (user|trusted|security|system)\.\S+=\S*/g, "")
				.replace(/ sparse=\w+/, "")
				.replace(/^([126]0000 .*) same-file-as=.*$/, "$1"),
		]),
	);
}

test(`cp -a of an image of ${files} files by the Linux client into a --fake-root export, and tar back out, is the identity`, {
	skip: skip || onlyInAll || needs("vm", "setfacl", "setfattr"),
}, async (t) => {
	const made = scratch(t);
	const memory = made.mount("tmpfs", "memory", 1600);
	const image = join(memory, "image");
	const count = plantRealFiles(image, files);
	if (count < files) {
		t.skip(`needs ${files} files below /etc and /usr; there are ${count}`);
		return;
	}
	// each of these is copied by itself
	const oneName = 'find . -type f -links +1 -print0 | xargs -0r -n 1 sh -c \'cp -p "$0" "$0.new" && mv "$0.new" "$0"\'';
	execFileSync("bash", ["-c", oneName], { cwd: image });
	plantOddities(image);
	// what the protocol or an archive does not carry, and holes
	execFileSync("setfacl", ["-bR", "-P", image]);
	for (const name of ["sparse", "hole", "times/before-1970", "a/null", "dev/fifo2"]) rmSync(join(image, name));
	execFileSync(
		"bash",
		["-c", "find . -type f -newermt 1970-01-01 -print0 | awk 'BEGIN { RS = ORS = \"\\0\" } NR % 7 == 0' | xargs -0 chown -h 1234:567"],
		{ cwd: image },
	);
	execFileSync("bash", ["-c", "chmod 4755 modes/suid; chmod 6755 owned/suid; mknod -m 620 owned/null c 1 3; chown 12:13 owned/null"], {
		cwd: image,
	});
	execFileSync("touch", ["-hd", "2001-02-03T04:05:06", "owned", "owned/null", "times", "modes", "links", "dev"], { cwd: image });
	const before = withoutXattrs(describe(image));
	const { options, user } = place(made, join(memory, "export"));
	execFileSync("find", [options.lowers[0] as string, "-mindepth", "1", "-delete"]);
	const server = await startServer(made, options);
	const results = made.folder("results");
	const archive = join(memory, "image.tar");
	execFileSync("tar", ["--format=posix", "-cf", archive, "-C", image, "."]);
	const vm = await runVm(made, "fake-root.sh", {
		env: { TOP: made.folder("mount"), PORT: String(server.port), RESULTS: results, IMAGE: archive, LANES: "8" },
		memory: full ? "3G" : "1G",
		writable: [results],
	});
	assertQuiet(t, vm, server.stderr);
	t.diagnostic(`${before.size} objects; virtual machine: ${vm.seconds.toFixed(1)} s`);
	await server.terminate();

	assertSameFind(join(results, "find"), image, "%y %m %U %G %n %s %T@ %l\t%P\\0", "find on the client and in the image");

	const out = join(memory, "out");
	mkdirSync(out);
	execFileSync("tar", ["-xp", "--numeric-owner", "-f", join(results, "out.tar"), "-C", out]);
	assertSame(before, withoutXattrs(describe(out)), "what came back");
	assert.ok(
		[...before.values()].some((line) => line.startsWith("20000 ")),
		"there are devices among it",
	);
	assert.equal(readFileSync(join(results, "complaints"), "utf8"), "");
	// on the disk nothing is anybody else's, or a device
	const odd = execFileSync("find", [
		options.upper,
		"!",
		"-user",
		String(user.uid),
		"-o",
		"-type",
		"c",
		"-o",
		"-type",
		"b",
		"-o",
		"-perm",
		"/6000",
	]);
	assert.equal(odd.toString(), "");
});
