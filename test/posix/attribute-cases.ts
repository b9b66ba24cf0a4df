// The list of POSIX behaviour, attributes: modes, owners, times, sizes and contents.

import assert from "node:assert/strict";
import { ALICE, BOB, type PosixCase, refused, STAFF, textOf, writeText } from "./ground.ts";

const directory = { type: "directory" } as const;
const file = (text = "") => ({ type: "file", text }) as const;
const KINDS = { file: file("text"), dir: directory, fifo: { type: "fifo" } } as const;
const SECOND = 1_000_000_000n;

const MODES: readonly PosixCase[] = [
	{
		name: "chmod sets all twelve bits of a file and a directory, and the change time alone",
		tree: KINDS,
		async run({ root, tick }) {
			for (const name of ["file", "dir", "fifo"]) {
				for (const mode of [0, 0o777, 0o4755, 0o2755, 0o1777, 0o7777, 0o644]) {
					const before = await root.stat(name);
					await tick();
					await root.chmod(name, mode);
					const after = await root.stat(name);
					assert.equal(after.mode, mode, name);
					assert.ok(after.ctime > before.ctime, name);
					assert.equal(after.mtime, before.mtime, name);
				}
			}
		},
	},
	{
		name: "chmod is for the owner and the superuser",
		tree: { file: { type: "file", uid: 1001, gid: 1001 }, dir: { type: "directory", uid: 1001, gid: 1001 } },
		async run({ root, alice, bob }) {
			for (const name of ["file", "dir"]) {
				await refused(bob.chmod(name, 0o777), "EPERM");
				await alice.chmod(name, 0o700);
				await root.chmod(name, 0o755);
				assert.equal((await root.stat(name)).mode, 0o755);
			}
			await refused(root.chmod("none", 0o755), "ENOENT");
		},
	},
	{
		name: "an owner outside of a file's group cannot make it set that group's id",
		tree: { file: { type: "file", uid: 1001, gid: STAFF, mode: 0o755 } },
		async run({ root, alice, as }) {
			await alice.chmod("file", 0o2755);
			assert.equal((await root.stat("file")).mode, 0o755);
			await as({ ...ALICE, gids: [STAFF] }).chmod("file", 0o2755);
			assert.equal((await root.stat("file")).mode, 0o2755);
		},
	},
	{
		name: "a new object has the mode that was asked for, whatever the directory's is",
		tree: { dir: { type: "directory", mode: 0o700 } },
		async run({ root }) {
			await root.create("dir/file", 0o6751);
			await root.mkdir("dir/dir", 0o1750);
			await root.mknod("dir/fifo", "fifo", 0o604);
			const modes = await Promise.all(["file", "dir", "fifo"].map(async (name) => (await root.stat(`dir/${name}`)).mode));
			assert.deepEqual(modes, [0o6751, 0o1750, 0o604]);
		},
	},
];

const OWNERS: readonly PosixCase[] = [
	{
		name: "the superuser gives anything to anybody, each of owner and group by itself, and a symlink too",
		tree: { ...KINDS, symlink: { type: "symlink", text: "file" } },
		async run({ root, tick }) {
			for (const name of ["file", "dir", "fifo", "symlink"]) {
				const before = await root.stat(name);
				await tick();
				await root.chown(name, 1001, null);
				await root.chown(name, null, STAFF);
				const after = await root.stat(name);
				assert.deepEqual([after.uid, after.gid], [1001, STAFF], name);
				assert.ok(after.ctime > before.ctime, name);
				assert.equal(after.mtime, before.mtime, name);
			}
			const { uid } = await root.stat("file");
			assert.equal(uid, 1001, "what the symlink names has its own owner");
		},
	},
	{
		name: "an owner gives a file to a group of theirs, to no other group, and to no other user",
		tree: { file: { type: "file", uid: 1001, gid: 1001 } },
		async run({ root, bob, as }) {
			const alice = as({ ...ALICE, gids: [STAFF] });
			await alice.chown("file", null, STAFF);
			assert.equal((await root.stat("file")).gid, STAFF);
			await refused(alice.chown("file", null, 2002), "EPERM");
			await refused(alice.chown("file", 1002, null), "EPERM");
			await alice.chown("file", 1001, 1001);
			await refused(bob.chown("file", null, 1002), "EPERM");
		},
	},
	{
		name: "a change of owner takes setuid and the group's setgid of a program, and leaves a directory's",
		tree: {
			program: { type: "file", mode: 0o6755 },
			"no program": { type: "file", mode: 0o2644 },
			dir: { type: "directory", mode: 0o2755 },
		},
		async run({ root }) {
			for (const [name, mode] of [
				["program", 0o755],
				["dir", 0o2755],
			] as const) {
				await root.chown(name, 1001, 1001);
				assert.equal((await root.stat(name)).mode, mode, name);
			}
		},
	},
	{
		name: "content that somebody else changes takes setuid and the group's setgid of a program",
		tree: {
			written: { type: "file", text: "text", uid: 1001, gid: 1001, mode: 0o6777 },
			cut: { type: "file", text: "text", uid: 1001, gid: 1001, mode: 0o6777 },
		},
		async run({ root, bob }) {
			await writeText(bob, "written", "T");
			await bob.truncate("cut", 1n);
			for (const name of ["written", "cut"]) assert.equal((await root.stat(name)).mode, 0o777, name);
		},
	},
];

const TIMES: readonly PosixCase[] = [
	{
		name: "utimes sets each time by itself, to the microsecond, and the change time to now",
		tree: { ...KINDS, symlink: { type: "symlink", text: "file" } },
		async run({ root, tick }) {
			for (const name of ["file", "dir", "fifo", "symlink"]) {
				const before = await root.stat(name);
				await tick();
				await root.utimes(name, 1_111_111_111n * SECOND + 250_000_000n, null);
				await root.utimes(name, null, 1_222_222_222n * SECOND + 500_000_000n);
				const after = await root.stat(name);
				assert.equal(after.atime, 1_111_111_111n * SECOND + 250_000_000n, name);
				assert.equal(after.mtime, 1_222_222_222n * SECOND + 500_000_000n, name);
				assert.ok(after.ctime > before.ctime, name);
			}
		},
	},
	{
		name: "times from 1970 to beyond 2038 are kept",
		tree: { file: file() },
		async run({ root }) {
			for (const time of [0n, 1n, 2_147_483_647n, 2_147_483_648n, 4_000_000_000n]) {
				await root.utimes("file", time * SECOND, time * SECOND);
				const { atime, mtime } = await root.stat("file");
				assert.deepEqual([atime, mtime], [time * SECOND, time * SECOND]);
			}
		},
	},
	{
		name: "both times to now are for who may write, any other time for the owner",
		tree: { shared: { type: "file", uid: 1001, mode: 0o666 }, closed: { type: "file", uid: 1001, mode: 0o644 } },
		async run({ root, alice, bob }) {
			const before = await root.stat("shared");
			await bob.utimes("shared", "now", "now");
			assert.ok((await root.stat("shared")).mtime > before.mtime);
			await refused(bob.utimes("shared", 5n * SECOND, 5n * SECOND), "EPERM");
			await refused(bob.utimes("closed", "now", "now"), "EACCES", "EPERM");
			await alice.utimes("closed", 5n * SECOND, 6n * SECOND);
			const { atime, mtime } = await root.stat("closed");
			assert.deepEqual([atime, mtime], [5n * SECOND, 6n * SECOND]);
		},
	},
	{
		name: "a write and a truncation set the modification and the change time, a read neither",
		tree: { file: file("text") },
		async run({ root, tick }) {
			const before = await root.stat("file");
			await tick();
			assert.equal(await textOf(root, "file"), "text");
			const read = await root.stat("file");
			assert.deepEqual([read.mtime, read.ctime], [before.mtime, before.ctime]);
			await writeText(root, "file", "T");
			const written = await root.stat("file");
			assert.ok(written.mtime > before.mtime && written.ctime > before.ctime);
			await tick();
			await root.truncate("file", 2n);
			const cut = await root.stat("file");
			assert.ok(cut.mtime > written.mtime && cut.ctime > written.ctime);
		},
	},
	{
		name: "a rename of a directory leaves its own modification time",
		tree: { dir: directory, "dir/in": file(), to: directory },
		async run({ root }) {
			const { mtime } = await root.stat("dir");
			await root.rename("dir", "moved");
			assert.equal((await root.stat("moved")).mtime, mtime);
			await root.rename("moved", "to/moved");
			assert.equal((await root.stat("to/moved")).mtime, mtime);
		},
	},
];

const CONTENTS: readonly PosixCase[] = [
	{
		name: "a write changes its bytes alone, and one behind the end leaves zeros between",
		tree: { file: file("0123456789") },
		async run({ root }) {
			await writeText(root, "file", "ab", 3);
			assert.equal(await textOf(root, "file"), "012ab56789");
			await writeText(root, "file", "end", 12);
			assert.equal(await textOf(root, "file"), "012ab56789\0\0end");
			assert.equal((await root.stat("file")).size, 15n);
		},
	},
	{
		name: "what a truncation cuts off does not come back when the file grows",
		tree: { file: file("0123456789") },
		async run({ root }) {
			await root.truncate("file", 4n);
			assert.equal(await textOf(root, "file"), "0123");
			await root.truncate("file", 8n);
			assert.equal(await textOf(root, "file"), "0123\0\0\0\0");
			await root.truncate("file", 0n);
			assert.equal((await root.stat("file")).size, 0n);
			await root.truncate("file", 3n);
			assert.equal(await textOf(root, "file"), "\0\0\0");
		},
	},
	{
		name: "a file of a terabyte of nothing is one",
		tree: { file: file("text") },
		async run({ root }) {
			await root.truncate("file", 1n << 40n);
			assert.equal((await root.stat("file")).size, 1n << 40n);
			await root.truncate("file", 4n);
			assert.equal(await textOf(root, "file"), "text");
		},
	},
	{
		name: "only a regular file has a size to set, and contents to open for writing",
		tree: { dir: directory, file: { type: "file", mode: 0o444, uid: 1001, text: "t" }, "bob's": { type: "file", mode: 0o600, uid: 1002 } },
		async run({ root, alice }) {
			await refused(root.truncate("dir", 0n), "EISDIR");
			await refused(root.open("dir", true), "EISDIR");
			await refused(root.truncate("none", 0n), "ENOENT");
			await refused(alice.truncate("file", 0n), "EACCES");
			await refused(alice.open("file", true), "EACCES");
			await refused(alice.open("bob's", false), "EACCES");
			assert.equal(await textOf(alice, "file"), "t");
		},
	},
	{
		name: "what one open file writes another one reads",
		tree: { file: file("text") },
		async run({ root, as }) {
			const [one, other] = [await root.open("file", true), await as({ ...BOB, uid: 0 }).open("file", false)];
			await one.write(0, "TEXT, and more");
			assert.equal(await other.read(), "TEXT, and more");
			await one.close();
			await other.close();
		},
	},
];

export const ATTRIBUTE_CASES: readonly PosixCase[] = [...MODES, ...OWNERS, ...TIMES, ...CONTENTS];
