// The list of POSIX behaviour, permissions: who may do what in directories.

import assert from "node:assert/strict";
import { ALICE, BOB, type PosixCase, refused, STAFF, textOf } from "./ground.ts";

const file = (uid: number, mode = 0o644) => ({ type: "file", text: "text", uid, gid: uid, mode }) as const;
const directory = (uid: number, mode: number, gid = uid) => ({ type: "directory", uid, gid, mode }) as const;

const RIGHTS: readonly PosixCase[] = [
	{
		name: "names are made, removed and moved by who may write to the directory and search it",
		tree: { closed: directory(1001, 0o755), "closed/file": file(1002), "closed/dir": directory(1002, 0o755), open: directory(1001, 0o777) },
		async run({ alice, bob }) {
			await refused(bob.create("closed/new"), "EACCES");
			await refused(bob.mkdir("closed/new"), "EACCES");
			await refused(bob.symlink("x", "closed/new"), "EACCES");
			await refused(bob.mknod("closed/new", "fifo", 0o644), "EACCES");
			await refused(bob.link("closed/file", "closed/new"), "EACCES");
			await refused(bob.unlink("closed/file"), "EACCES");
			await refused(bob.rmdir("closed/dir"), "EACCES");
			await refused(bob.rename("closed/file", "open/file"), "EACCES");
			await refused(bob.rename("closed/file", "closed/new"), "EACCES");
			await alice.unlink("closed/file");
			await alice.rmdir("closed/dir");
			await bob.create("open/new");
			await alice.unlink("open/new");
		},
	},
	{
		name: "a directory that may be read and not searched is listed, and one that may be searched and not read is walked through",
		tree: {
			listed: directory(1001, 0o744),
			"listed/file": file(1002),
			walked: directory(1001, 0o711),
			"walked/file": file(1002),
		},
		async run({ bob }) {
			assert.deepEqual(await bob.list("listed"), ["file"]);
			await refused(bob.stat("listed/file"), "EACCES");
			await refused(bob.open("listed/file", false), "EACCES");
			await refused(bob.list("walked"), "EACCES");
			assert.equal(await textOf(bob, "walked/file"), "text");
		},
	},
	{
		name: "the first of owner, group and others that fits decides, and the superuser may",
		tree: {
			"not owner": file(1001, 0o077),
			"not group": { type: "file", text: "text", uid: 1002, gid: STAFF, mode: 0o707 },
			others: file(1002, 0o704),
		},
		async run({ alice, root, as }) {
			await refused(alice.open("not owner", false), "EACCES");
			const member = as({ ...ALICE, gids: [STAFF] });
			await refused(member.open("not group", false), "EACCES");
			assert.equal(await textOf(alice, "not group"), "text");
			assert.equal(await textOf(alice, "others"), "text");
			await refused(alice.open("others", true), "EACCES");
			for (const name of ["not owner", "not group", "others"]) assert.equal(await textOf(root, name), "text");
		},
	},
	{
		name: "a directory moves to another parent for who may write to it",
		tree: {
			from: directory(1002, 0o777),
			"from/alice's": directory(1001, 0o755),
			"from/bob's": directory(1002, 0o755),
			to: directory(1002, 0o777),
		},
		async run({ bob }) {
			await refused(bob.rename("from/alice's", "to/moved"), "EACCES");
			await bob.rename("from/alice's", "from/within");
			await bob.rename("from/bob's", "to/moved");
			assert.deepEqual([await bob.list("from"), await bob.list("to")], [["within"], ["moved"]]);
		},
	},
];

const SPECIAL_BITS: readonly PosixCase[] = [
	{
		name: "in a sticky directory names are removed and moved by the owner of the object, of the directory, and the superuser",
		tree: {
			sticky: directory(1001, 0o1777),
			"sticky/alice's": file(1001),
			"sticky/bob's": file(1002),
			"sticky/root's": file(0),
			"sticky/root's dir": directory(0, 0o777),
			elsewhere: directory(1003, 0o1777),
			"elsewhere/bob's": file(1002),
			"elsewhere/carol's": file(1003),
		},
		async run({ root, alice, bob }) {
			await refused(bob.unlink("sticky/alice's"), "EPERM", "EACCES");
			await refused(bob.rename("sticky/alice's", "sticky/mine"), "EPERM", "EACCES");
			await refused(bob.rename("sticky/bob's", "sticky/alice's"), "EPERM", "EACCES");
			await refused(bob.rmdir("sticky/root's dir"), "EPERM", "EACCES");
			await refused(bob.rename("elsewhere/carol's", "elsewhere/mine"), "EPERM", "EACCES");
			await bob.rename("sticky/bob's", "sticky/mine");
			await bob.unlink("sticky/mine");
			await alice.unlink("sticky/root's");
			await alice.rmdir("sticky/root's dir");
			await refused(alice.unlink("elsewhere/bob's"), "EPERM", "EACCES");
			await root.unlink("elsewhere/bob's");
			assert.deepEqual([await root.list("sticky"), await root.list("elsewhere")], [["alice's"], ["carol's"]]);
		},
	},
	{
		name: "a setgid directory hands its group on, and the bit to new directories",
		tree: { dir: directory(1001, 0o2777, STAFF), plain: directory(1001, 0o777, STAFF) },
		async run({ bob }) {
			await bob.create("dir/file", 0o644);
			await bob.mkdir("dir/sub", 0o755);
			await bob.symlink("x", "dir/symlink");
			await bob.mknod("dir/fifo", "fifo", 0o644);
			await bob.mkdir("dir/sub/deeper", 0o700);
			for (const name of ["file", "sub", "symlink", "fifo", "sub/deeper"]) {
				const { uid, gid } = await bob.stat(`dir/${name}`);
				assert.deepEqual([uid, gid], [BOB.uid, STAFF], name);
			}
			assert.deepEqual([(await bob.stat("dir/sub")).mode, (await bob.stat("dir/sub/deeper")).mode], [0o2755, 0o2700]);
			assert.equal((await bob.stat("dir/file")).mode, 0o644);
			await bob.create("plain/file");
			assert.equal((await bob.stat("plain/file")).gid, BOB.gid);
		},
	},
	{
		name: "what moves into a setgid directory keeps its group",
		tree: { dir: directory(1001, 0o2777, STAFF), file: file(1002), sub: directory(1002, 0o755) },
		async run({ root }) {
			await root.rename("file", "dir/file");
			await root.rename("sub", "dir/sub");
			for (const name of ["file", "sub"]) assert.equal((await root.stat(`dir/${name}`)).gid, 1002, name);
			assert.equal((await root.stat("dir/sub")).mode, 0o755);
		},
	},
];

export const PERMISSION_CASES: readonly PosixCase[] = [...RIGHTS, ...SPECIAL_BITS];
