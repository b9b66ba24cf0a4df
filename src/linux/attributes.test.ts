// chmod(2), chown(2) and utimensat(2) on every kind of inode.

import assert from "node:assert/strict";
import { lstatSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { changeMode, changeOwner, changeTimes, changeTimesAt, moveChangeTime } from "./attributes.ts";
import { ERRNO } from "./errno.ts";
import { makeNode } from "./names.ts";
import { close, O, openAt, openPath } from "./open.ts";
import { fstat, Stat } from "./stat.ts";

const KINDS = ["file", "directory", "fifo", "link"];

/** One of each kind, each by an O_PATH descriptor. */
function fixture(context: TestContext, onTmpfs = false) {
	const folder = scratch(context);
	const keep = (fd: number) => {
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	const path = onTmpfs ? folder.mount("tmpfs", "tmpfs", 1) : folder.folder("plain");
	const directory = keep(openPath(path, O.rdonly | O.directory));
	writeFileSync(join(path, "file"), "");
	folder.folder(`${onTmpfs ? "tmpfs" : "plain"}/directory`);
	assert.equal(makeNode(directory, "fifo", 0o010600, 0, 0), 0);
	symlinkSync("file", join(path, "link"));
	const open = (name: string) => keep(openAt(directory, name, O.path | O.nofollow));
	return { path, directory, open, stat: (name: string) => lstatSync(join(path, name), { bigint: true }) };
}

function timesOf(fd: number) {
	const stat = new Stat();
	assert.equal(fstat(fd, stat), 0);
	return { atime: { sec: stat.atimeSec, nsec: stat.atimeNsec }, mtime: { sec: stat.mtimeSec, nsec: stat.mtimeNsec } };
}

test("changeMode sets all twelve bits of files, directories and fifos by an O_PATH descriptor", (t) => {
	const { open, stat } = fixture(t);
	for (const name of ["file", "directory", "fifo"]) {
		const fd = open(name);
		for (const mode of [0o7777, 0o000, 0o1701, 0o644]) {
			assert.equal(changeMode(fd, mode), 0);
			assert.equal(Number(stat(name).mode) & 0o7777, mode, name);
		}
	}
	assert.equal(changeMode(-1, 0o600), -ERRNO.ENOENT);
});

test("changeOwner sets owner and group of all kinds, a symlink itself too, and leaves what is 0xffffffff", { skip: needs("root") }, (t) => {
	const { open, stat } = fixture(t);
	for (const name of KINDS) {
		const fd = open(name);
		assert.equal(changeOwner(fd, 0xfffffffe, 1234), 0);
		assert.deepEqual([stat(name).uid, stat(name).gid], [0xfffffffen, 1234n], name);
		assert.equal(changeOwner(fd, 0xffffffff, 70000), 0);
		assert.deepEqual([stat(name).uid, stat(name).gid], [0xfffffffen, 70000n], name);
		assert.equal(changeOwner(fd, 5, 0xffffffff), 0);
		assert.deepEqual([stat(name).uid, stat(name).gid], [5n, 70000n], name);
	}
	assert.equal(changeOwner(-1, 0, 0), -ERRNO.EBADF);
});

test("changeTimes keeps nanoseconds, and seconds before 1970, of all kinds and of a symlink itself", (t) => {
	const { open, stat } = fixture(t);
	const pairs = [
		{ atime: { sec: 0, nsec: 0 }, mtime: { sec: 1_700_000_000, nsec: 999_999_999 } },
		{ atime: { sec: -1, nsec: 999_999_999 }, mtime: { sec: -2_000_000_000, nsec: 1 } },
		{ atime: { sec: 0x7fffffff, nsec: 123_456_789 }, mtime: { sec: 0x80000001, nsec: 5 } },
	];
	for (const name of KINDS) {
		const fd = open(name);
		for (const pair of pairs) {
			assert.equal(changeTimes(fd, pair.atime, pair.mtime), 0);
			assert.deepEqual(timesOf(fd), pair, name);
		}
	}
	// the target of the link has been changed by its own name only, and last
	assert.equal(stat("link").mtimeNs, 0x80000001n * 1_000_000_000n + 5n);
});

test("seconds are 64 bits wide in both directions", { skip: needs("root") }, (t) => {
	const { open } = fixture(t, true);
	const fd = open("file");
	const times = { atime: { sec: 2 ** 40 + 5, nsec: 7 }, mtime: { sec: -(2 ** 40) - 5, nsec: 8 } };
	assert.equal(changeTimes(fd, times.atime, times.mtime), 0);
	assert.deepEqual(timesOf(fd), times);
	const edges = { atime: { sec: 2 ** 32, nsec: 0 }, mtime: { sec: -(2 ** 32), nsec: 0 } };
	assert.equal(changeTimes(fd, edges.atime, edges.mtime), 0);
	assert.deepEqual(timesOf(fd), edges);
});

test("an absent time stays, and now is the clock of this machine", (t) => {
	const { open } = fixture(t);
	const fd = open("file");
	const old = { sec: 1000, nsec: 1 };
	assert.equal(changeTimes(fd, old, old), 0);
	assert.equal(changeTimes(fd, undefined, { sec: 2000, nsec: 2 }), 0);
	assert.deepEqual(timesOf(fd), { atime: old, mtime: { sec: 2000, nsec: 2 } });
	assert.equal(changeTimes(fd, { sec: 3000, nsec: 3 }, undefined), 0);
	assert.deepEqual(timesOf(fd), { atime: { sec: 3000, nsec: 3 }, mtime: { sec: 2000, nsec: 2 } });
	assert.equal(changeTimes(fd, "now", undefined), 0);
	const { atime, mtime } = timesOf(fd);
	assert.ok(Math.abs(atime.sec - Date.now() / 1000) < 60);
	assert.deepEqual(mtime, { sec: 2000, nsec: 2 });
});

test("changeTimes refuses nanoseconds that are none, and bad descriptors", (t) => {
	const { open } = fixture(t);
	assert.equal(changeTimes(open("file"), { sec: 0, nsec: 1_000_000_000 }, undefined), -ERRNO.EINVAL);
	assert.equal(changeTimes(-1, "now", "now"), -ERRNO.EBADF);
});

test("changeTimesAt sets the times of a name of any bytes, its link not followed", (t) => {
	const { directory, open } = fixture(t);
	const name = Buffer.concat([Buffer.from([0xff]), Buffer.alloc(254, 0x81)]);
	close(openAt(directory, name, O.creat | O.wronly, 0o600));
	const times = { atime: { sec: -5, nsec: 6 }, mtime: { sec: 7, nsec: 8 } };
	assert.equal(changeTimesAt(directory, name, times.atime, times.mtime), 0);
	const fd = openAt(directory, name, O.path);
	assert.deepEqual(timesOf(fd), times);
	close(fd);
	const before = timesOf(open("file"));
	assert.equal(changeTimesAt(directory, "link", times.atime, times.mtime), 0);
	assert.deepEqual(timesOf(open("link")), times);
	assert.deepEqual(timesOf(open("file")), before);
	assert.equal(changeTimesAt(directory, "nothing", "now", "now"), -ERRNO.ENOENT);
	assert.equal(changeTimesAt(directory, Buffer.alloc(256, "n"), "now", "now"), -ERRNO.ENAMETOOLONG);
});

test("moveChangeTime moves the ctime of every kind of inode, and nothing else", (t) => {
	const { open } = fixture(t);
	for (const kind of KINDS) {
		const fd = open(kind);
		const [before, after] = [new Stat(), new Stat()];
		assert.equal(fstat(fd, before), 0);
		// a tick of the clock later at the most
		do {
			assert.equal(moveChangeTime(fd), 0, kind);
			assert.equal(fstat(fd, after), 0);
		} while (after.ctimeSec === before.ctimeSec && after.ctimeNsec === before.ctimeNsec);
		for (const key of ["atimeSec", "atimeNsec", "mtimeSec", "mtimeNsec", "mode", "uid", "gid", "nlink"] as const)
			assert.equal(after[key], before[key], `${kind}: ${key}`);
	}
	assert.equal(moveChangeTime(-1), -ERRNO.EBADF);
});
