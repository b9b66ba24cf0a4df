// The list of POSIX behaviour, names: what makes, removes, moves and lists them.

import assert from "node:assert/strict";
import { type PosixCase, refused, textOf, writeText } from "./ground.ts";

const directory = { type: "directory" } as const;
const file = (text = "") => ({ type: "file", text }) as const;
const LONGEST = "n".repeat(255);
const TOO_LONG = "n".repeat(256);

const MAKING: readonly PosixCase[] = [
	{
		name: "a new file is empty, its maker's, and has the mode that was asked for and one name",
		tree: {},
		async run({ alice }) {
			await alice.create("new", 0o640);
			const { type, mode, uid, gid, nlink, size } = await alice.stat("new");
			assert.deepEqual({ type, mode, uid, gid, nlink, size }, { type: "file", mode: 0o640, uid: 1001, gid: 1001, nlink: 1, size: 0n });
		},
	},
	{
		name: "an exclusive create of any name that is there says EEXIST",
		tree: { dir: directory, file: file("old"), symlink: { type: "symlink", text: "nowhere" }, fifo: { type: "fifo" } },
		async run({ root }) {
			for (const name of ["dir", "file", "symlink", "fifo"]) {
				await refused(root.create(name), "EEXIST");
				await refused(root.mkdir(name), "EEXIST");
				await refused(root.symlink("x", name), "EEXIST");
				await refused(root.mknod(name, "fifo", 0o644), "EEXIST");
				await refused(root.link("file", name), "EEXIST");
			}
			assert.equal(await textOf(root, "file"), "old");
		},
	},
	{
		name: "making below what is not there says ENOENT, below a file ENOTDIR",
		tree: { file: file() },
		async run({ root }) {
			for (const [path, errno] of [
				["none/new", "ENOENT"],
				["file/new", "ENOTDIR"],
			] as const) {
				await refused(root.create(path), errno);
				await refused(root.mkdir(path), errno);
				await refused(root.symlink("x", path), errno);
				await refused(root.mknod(path, "fifo", 0o644), errno);
				await refused(root.link("file", path), errno);
				await refused(root.rename("file", path), errno, "EINVAL");
				await refused(root.stat(path), errno);
			}
		},
	},
	{
		name: "a name of 255 bytes is one, of 256 is ENAMETOOLONG",
		tree: { file: file("text"), dir: directory },
		async run({ root }) {
			await refused(root.stat(TOO_LONG), "ENAMETOOLONG");
			await refused(root.create(TOO_LONG), "ENAMETOOLONG");
			await refused(root.mkdir(TOO_LONG), "ENAMETOOLONG");
			await refused(root.symlink("x", TOO_LONG), "ENAMETOOLONG");
			await refused(root.link("file", TOO_LONG), "ENAMETOOLONG");
			await refused(root.rename("file", TOO_LONG), "ENAMETOOLONG");
			await refused(root.unlink(TOO_LONG), "ENAMETOOLONG");
			await refused(root.rmdir(TOO_LONG), "ENAMETOOLONG");
			await root.create(LONGEST);
			await root.unlink(LONGEST);
			await root.mkdir(LONGEST);
			await root.rename("file", `${LONGEST}/${LONGEST}`);
			assert.equal(await textOf(root, `${LONGEST}/${LONGEST}`), "text");
		},
	},
	{
		name: "names are bytes: spaces, newlines, quotes and letters of all scripts are found and listed as they were made",
		tree: { " ": file("space"), "a\nb": file("newline") },
		async run({ root }) {
			const names = ["-rf", "*", "'\"\\", "ü ß", "日本", "...", ".hidden"];
			for (const name of names) await root.create(name);
			assert.deepEqual(await root.list(""), [...names, " ", "a\nb"].sort());
			assert.equal(await textOf(root, "a\nb"), "newline");
		},
	},
	{
		name: "upper and lower case are different names",
		tree: { name: file("small") },
		async run({ root }) {
			await root.create("NAME");
			assert.equal((await root.stat("NAME")).size, 0n);
			assert.equal(await textOf(root, "name"), "small");
		},
	},
	{
		name: "a symlink keeps any target, is as long as that, and is not followed",
		tree: { file: file(), old: { type: "symlink", text: "file" } },
		async run({ root }) {
			for (const [name, target] of [
				["to file", "file"],
				["to nothing", "../no/where"],
				["to itself", "to itself"],
				["long", "t".repeat(1000)],
			] as const) {
				await root.symlink(target, name);
				assert.equal(await root.readlink(name), target);
				const { type, size } = await root.stat(name);
				assert.deepEqual([type, size], ["symlink", BigInt(target.length)]);
			}
			assert.equal(await root.readlink("old"), "file");
			await refused(root.readlink("file"), "EINVAL");
			await refused(root.readlink("none"), "ENOENT");
		},
	},
	{
		name: "fifos, sockets and devices have their type, mode and number",
		tree: {},
		async run({ root, alice }) {
			await root.mknod("fifo", "fifo", 0o620);
			await root.mknod("socket", "socket", 0o600);
			await root.mknod("character", "character", 0o444, 1, 300);
			await root.mknod("block", "block", 0o660, 259, 5);
			for (const [name, mode] of [
				["fifo", 0o620],
				["socket", 0o600],
				["character", 0o444],
				["block", 0o660],
			] as const) {
				const stat = await root.stat(name);
				assert.deepEqual([stat.type, stat.mode, stat.nlink, stat.uid], [name, mode, 1, 0]);
			}
			assert.deepEqual((await root.stat("character")).rdev, [1, 300]);
			assert.deepEqual((await root.stat("block")).rdev, [259, 5]);
			await alice.mknod("alice's", "fifo", 0o600);
			await refused(alice.mknod("device", "character", 0o600, 1, 3), "EPERM");
		},
	},
	{
		name: "whatever is made sets the times of its directory",
		tree: { dir: directory, file: file() },
		async run({ root, tick }) {
			const makers: [string, () => Promise<void>][] = [
				["create", () => root.create("dir/file")],
				["mkdir", () => root.mkdir("dir/dir")],
				["symlink", () => root.symlink("x", "dir/symlink")],
				["mknod", () => root.mknod("dir/fifo", "fifo", 0o600)],
				["link", () => root.link("file", "dir/link")],
				["rename into", () => root.rename("file", "dir/renamed")],
				["rename within", () => root.rename("dir/renamed", "dir/again")],
				["rename out", () => root.rename("dir/again", "again")],
				["unlink", () => root.unlink("dir/link")],
				["rmdir", () => root.rmdir("dir/dir")],
			];
			for (const [what, make] of makers) {
				const before = await root.stat("dir");
				await tick();
				await make();
				const after = await root.stat("dir");
				assert.ok(after.mtime > before.mtime && after.ctime > before.ctime, what);
				assert.equal(after.atime, before.atime, what);
			}
		},
	},
];

const REMOVING: readonly PosixCase[] = [
	{
		name: "unlink removes one name of any kind, which then is not there",
		tree: { file: file("x"), symlink: { type: "symlink", text: "file" }, fifo: { type: "fifo" } },
		async run({ root }) {
			for (const name of ["symlink", "fifo", "file"]) {
				await root.unlink(name);
				await refused(root.stat(name), "ENOENT");
				await refused(root.unlink(name), "ENOENT");
			}
			assert.deepEqual(await root.list(""), []);
		},
	},
	{
		name: "unlink of a directory and rmdir of anything else are refused",
		tree: { dir: directory, file: file(), symlink: { type: "symlink", text: "dir" } },
		async run({ root }) {
			await refused(root.unlink("dir"), "EISDIR", "EPERM");
			await refused(root.rmdir("file"), "ENOTDIR");
			await refused(root.rmdir("symlink"), "ENOTDIR");
			assert.deepEqual(await root.list(""), ["dir", "file", "symlink"]);
		},
	},
	{
		name: "rmdir of a directory that holds anything says ENOTEMPTY, until all of it is gone",
		tree: { dir: directory, "dir/file": file(), "dir/sub": directory },
		async run({ root }) {
			await refused(root.rmdir("dir"), "ENOTEMPTY", "EEXIST");
			await root.unlink("dir/file");
			await refused(root.rmdir("dir"), "ENOTEMPTY", "EEXIST");
			await root.rmdir("dir/sub");
			await root.rmdir("dir");
			await refused(root.stat("dir"), "ENOENT");
		},
	},
	{
		name: "what is made in the place of something removed is new and empty",
		tree: { file: file("old"), dir: directory, "dir/old": file("old") },
		async run({ root }) {
			await root.unlink("file");
			await root.create("file");
			assert.equal(await textOf(root, "file"), "");
			await root.unlink("dir/old");
			await root.rmdir("dir");
			await root.mkdir("dir");
			assert.deepEqual(await root.list("dir"), []);
			await root.unlink("file");
			await root.mkdir("file");
			assert.equal((await root.stat("file")).type, "directory");
		},
	},
	{
		name: '"." and ".." can be neither removed, nor made, nor renamed',
		tree: { dir: directory, "dir/sub": directory },
		async run({ root }) {
			await refused(root.rmdir("dir/sub/."), "EINVAL");
			await refused(root.rmdir("dir/sub/.."), "ENOTEMPTY", "EEXIST", "EINVAL");
			await refused(root.mkdir("dir/."), "EEXIST");
			await refused(root.mkdir("dir/.."), "EEXIST");
			await refused(root.rename("dir/.", "other"), "EBUSY", "EINVAL");
			await refused(root.rename("dir/sub", "dir/sub/.."), "EBUSY", "EINVAL", "ENOTEMPTY", "EEXIST");
		},
	},
	{
		name: "an open file that loses its last name is read on, or said to be stale where the protocol has no open files",
		tree: { file: file("text") },
		async run({ root, frontEnd }) {
			const open = await root.open("file", true);
			await root.unlink("file");
			if (frontEnd.keepsUnlinked) {
				await open.write(4, " more");
				assert.equal(await open.read(), "text more");
				assert.equal((await open.stat()).nlink, 0);
			} else {
				await refused(open.read(), "ESTALE");
				await refused(open.write(0, "x"), "ESTALE");
			}
			await open.close();
			assert.deepEqual(await root.list(""), []);
		},
	},
	{
		name: "an open file is the same one by whatever name it gets, and by none of its old ones",
		tree: { file: file("text"), dir: directory },
		async run({ root }) {
			const open = await root.open("file", true);
			await root.rename("file", "dir/moved");
			await root.create("file");
			await open.write(0, "TEXT");
			await open.close();
			assert.equal(await textOf(root, "dir/moved"), "TEXT");
			assert.equal(await textOf(root, "file"), "");
		},
	},
];

const LINKING: readonly PosixCase[] = [
	{
		name: "names of one file share contents, attributes and number, and count themselves",
		tree: { one: file("text"), two: { type: "link", text: "one" }, dir: directory },
		async run({ root }) {
			await root.link("two", "dir/three");
			for (const name of ["one", "two", "dir/three"]) assert.equal((await root.stat(name)).nlink, 3, name);
			await writeText(root, "dir/three", "T");
			await root.chmod("one", 0o600);
			const { ino } = await root.stat("one");
			for (const name of ["one", "two", "dir/three"]) {
				assert.equal(await textOf(root, name), "Text");
				const stat = await root.stat(name);
				assert.deepEqual([stat.mode, stat.ino], [0o600, ino]);
			}
			await root.unlink("one");
			await root.unlink("dir/three");
			assert.deepEqual([(await root.stat("two")).nlink, await textOf(root, "two")], [1, "Text"]);
		},
	},
	{
		name: "symlinks and fifos can have several names, directories cannot",
		tree: { symlink: { type: "symlink", text: "x" }, fifo: { type: "fifo" }, dir: directory },
		async run({ root }) {
			for (const name of ["symlink", "fifo"]) {
				await root.link(name, `${name}2`);
				assert.deepEqual([(await root.stat(`${name}2`)).type, (await root.stat(name)).nlink], [name, 2]);
			}
			await refused(root.link("dir", "dir2"), "EPERM", "EISDIR");
			await refused(root.link("none", "none2"), "ENOENT");
		},
	},
	{
		name: "a link and an unlink set the change time of the file, and neither its modification time nor its contents",
		tree: { file: file("text") },
		async run({ root, tick }) {
			for (const change of [() => root.link("file", "name"), () => root.unlink("name")]) {
				const before = await root.stat("file");
				await tick();
				await change();
				const after = await root.stat("file");
				assert.ok(after.ctime > before.ctime);
				assert.deepEqual([after.mtime, after.size], [before.mtime, before.size]);
			}
		},
	},
	{
		name: "a directory counts the directories in it, or says 1 where that is not kept",
		tree: { dir: directory, "dir/sub": directory, "dir/file": file() },
		async run({ root }) {
			const counts = async (expected: number) => {
				const { nlink } = await root.stat("dir");
				assert.ok(nlink === expected || nlink === 1, `${nlink} links, expected ${expected}`);
			};
			await counts(3);
			await root.mkdir("dir/sub2");
			await counts(4);
			await root.rename("dir/sub", "sub");
			await counts(3);
			await root.rmdir("dir/sub2");
			await counts(2);
		},
	},
];

const RENAMING: readonly PosixCase[] = [
	{
		name: "rename keeps the object, its number, its contents and its modification time",
		tree: {
			file: file("text"),
			dir: directory,
			"dir/sub": directory,
			"dir/sub/deep": file("deep"),
			symlink: { type: "symlink", text: "t" },
		},
		async run({ root }) {
			const before = await Promise.all(["file", "dir/sub", "symlink"].map((path) => root.stat(path)));
			await root.rename("file", "dir/file2");
			await root.rename("dir/sub", "sub2");
			await root.rename("symlink", "sub2/symlink2");
			const after = await Promise.all(["dir/file2", "sub2", "sub2/symlink2"].map((path) => root.stat(path)));
			for (const [index, stat] of after.entries()) {
				assert.deepEqual([stat.ino, stat.type], [before[index]?.ino, before[index]?.type]);
				if (stat.type !== "directory") assert.equal(stat.mtime, before[index]?.mtime);
			}
			assert.equal(await textOf(root, "sub2/deep"), "deep");
			assert.equal(await root.readlink("sub2/symlink2"), "t");
			assert.deepEqual(await root.list(""), ["dir", "sub2"]);
		},
	},
	{
		name: "rename replaces a file by a file, and an empty directory by a directory",
		tree: {
			one: file("one"),
			two: file("two"),
			three: { type: "symlink", text: "x" },
			dir: directory,
			"dir/in": file("in"),
			empty: directory,
		},
		async run({ root }) {
			await root.rename("one", "two");
			assert.equal(await textOf(root, "two"), "one");
			await root.rename("two", "three");
			assert.equal(await textOf(root, "three"), "one");
			await root.rename("dir", "empty");
			assert.deepEqual([await root.list(""), await root.list("empty")], [["empty", "three"], ["in"]]);
		},
	},
	{
		name: "rename does not replace a directory by a file, a file by a directory, or a directory that holds anything",
		tree: { file: file("f"), dir: directory, full: directory, "full/in": file("in") },
		async run({ root }) {
			await refused(root.rename("file", "dir"), "EISDIR");
			await refused(root.rename("dir", "file"), "ENOTDIR");
			await refused(root.rename("dir", "full"), "ENOTEMPTY", "EEXIST");
			await refused(root.rename("none", "file"), "ENOENT");
			assert.deepEqual(await root.list(""), ["dir", "file", "full"]);
			assert.equal(await textOf(root, "file"), "f");
		},
	},
	{
		name: "a directory cannot move below itself",
		tree: { dir: directory, "dir/sub": directory, "dir/sub/deep": directory },
		async run({ root }) {
			await refused(root.rename("dir", "dir/new"), "EINVAL");
			await refused(root.rename("dir", "dir/sub/new"), "EINVAL");
			await refused(root.rename("dir", "dir/sub/deep"), "EINVAL");
			assert.deepEqual(await root.list("dir/sub"), ["deep"]);
		},
	},
	{
		name: "a rename to the same name, or between two names of one file, changes nothing",
		tree: { one: file("text"), two: { type: "link", text: "one" }, dir: directory, "dir/in": file() },
		async run({ root }) {
			await root.rename("one", "one");
			await root.rename("one", "two");
			await root.rename("dir", "dir");
			assert.deepEqual(await root.list(""), ["dir", "one", "two"]);
			assert.equal((await root.stat("one")).nlink, 2);
			assert.deepEqual(await root.list("dir"), ["in"]);
		},
	},
	{
		name: "a name that a rename replaces is one less of its file",
		tree: { new: file("new"), old: file("old"), "old 2": { type: "link", text: "old" } },
		async run({ root }) {
			await root.rename("new", "old");
			assert.deepEqual([await textOf(root, "old"), await textOf(root, "old 2")], ["new", "old"]);
			assert.equal((await root.stat("old 2")).nlink, 1);
		},
	},
	{
		name: "three directories change places",
		tree: { a: directory, "a/in-a": file(), b: directory, "b/in-b": file(), c: directory, "c/in-c": file() },
		async run({ root }) {
			await root.rename("a", "t");
			await root.rename("b", "a");
			await root.rename("c", "b");
			await root.rename("t", "c");
			assert.deepEqual([await root.list("a"), await root.list("b"), await root.list("c")], [["in-b"], ["in-c"], ["in-a"]]);
		},
	},
	{
		name: "forty directories in each other are made, moved, walked, and removed from the bottom up",
		tree: { top: directory, "top/planted": directory },
		async run({ root }) {
			const path = Array.from({ length: 40 }, (_, depth) => `d${depth}`);
			for (let depth = 1; depth <= path.length; depth++) await root.mkdir(`top/${path.slice(0, depth).join("/")}`);
			await root.create(`top/${path.join("/")}/leaf`);
			await root.rename("top", "moved");
			assert.deepEqual(await root.list(`moved/${path.join("/")}`), ["leaf"]);
			await root.unlink(`moved/${path.join("/")}/leaf`);
			for (let depth = path.length; depth > 0; depth--) await root.rmdir(`moved/${path.slice(0, depth).join("/")}`);
			assert.deepEqual(await root.list("moved"), ["planted"]);
		},
	},
	{
		name: "a listing has each of 300 names once, over removals",
		tree: { dir: directory, "dir/planted": file() },
		async run({ root }) {
			const names = Array.from({ length: 300 }, (_, index) => `name ${index}`);
			for (const name of names) await root.create(`dir/${name}`);
			assert.deepEqual(await root.list("dir"), [...names, "planted"].sort());
			for (const name of names.filter((_, index) => index % 3 === 0)) await root.unlink(`dir/${name}`);
			assert.deepEqual(await root.list("dir"), [...names.filter((_, index) => index % 3 !== 0), "planted"].sort());
		},
	},
];

export const NAME_CASES: readonly PosixCase[] = [...MAKING, ...REMOVING, ...LINKING, ...RENAMING];
