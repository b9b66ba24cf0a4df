// Names made, moved, linked and removed.

import assert from "node:assert/strict";
import {
	existsSync,
	lstatSync,
	mkdirSync,
	readFileSync,
	readlinkSync,
	readSync,
	statSync,
	symlinkSync,
	writeFileSync,
	writeSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { ERRNO } from "./errno.ts";
import {
	linkDescriptor,
	linkName,
	makeDirectory,
	makeFile,
	makeNode,
	makeSymlink,
	RENAME,
	readLink,
	removeDirectory,
	renameName,
	unlinkName,
} from "./names.ts";
import { close, O, openAt, openPath } from "./open.ts";
import { Stat, statAt } from "./stat.ts";

function fixture(context: TestContext) {
	const folder = scratch(context);
	const keep = (fd: number) => {
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	const at = (name: string) => join(folder.path, name);
	return { folder, keep, at, directory: keep(openPath(folder.path, O.rdonly | O.directory)) };
}

const NAMES = [Buffer.from([0xfe, 0x01, 0xff]), Buffer.alloc(255, 0xe9), Buffer.from("naïve\n")];
const TOO_LONG = Buffer.alloc(256, "n");
const asBytes = (path: string, name: Buffer) => Buffer.concat([Buffer.from(`${path}/`), name]);

test("linkName gives an inode a second name, and never replaces one", (t) => {
	const { directory, at } = fixture(t);
	writeFileSync(at("a"), "");
	assert.equal(linkName(directory, "a", directory, "b"), 0);
	assert.equal(statSync(at("b")).ino, statSync(at("a")).ino);
	assert.equal(statSync(at("a")).nlink, 2);
	assert.equal(linkName(directory, "a", directory, "b"), -ERRNO.EEXIST);
	assert.equal(linkName(directory, "nothing", directory, "c"), -ERRNO.ENOENT);
	mkdirSync(at("d"));
	assert.equal(linkName(directory, "d", directory, "e"), -ERRNO.EPERM);
});

test("linkName links a symlink itself", (t) => {
	const { directory, at } = fixture(t);
	symlinkSync("nowhere", at("link"));
	assert.equal(linkName(directory, "link", directory, "second"), 0);
	assert.equal(readlinkSync(at("second")), "nowhere");
});

test("linkDescriptor names an open inode, O_PATH or of a symlink, and says ENOENT once its last name is gone", {
	skip: needs("root"),
}, (t) => {
	const { directory, at, keep } = fixture(t);
	writeFileSync(at("a"), "content");
	const file = keep(openAt(directory, "a", O.path));
	assert.equal(linkDescriptor(file, directory, NAMES[0]), 0);
	assert.equal(readFileSync(asBytes(at("."), NAMES[0]), "utf8"), "content");
	assert.equal(linkDescriptor(file, directory, "a"), -ERRNO.EEXIST);
	symlinkSync("target", at("link"));
	assert.equal(linkDescriptor(keep(openAt(directory, "link", O.path | O.nofollow)), directory, "link2"), 0);
	assert.equal(readlinkSync(at("link2")), "target");
	assert.equal(unlinkName(directory, "a"), 0);
	assert.equal(unlinkName(directory, NAMES[0]), 0);
	assert.equal(linkDescriptor(file, directory, "again"), -ERRNO.ENOENT);
});

test("renameName moves, replaces, exchanges, or with noReplace refuses", (t) => {
	const { directory, at } = fixture(t);
	writeFileSync(at("a"), "a");
	writeFileSync(at("b"), "b");
	mkdirSync(at("d"));
	assert.equal(renameName(directory, "a", directory, "b", RENAME.noReplace), -ERRNO.EEXIST);
	assert.equal(renameName(directory, "a", directory, "d", RENAME.exchange), 0);
	assert.ok(statSync(at("a")).isDirectory());
	assert.equal(readFileSync(at("d"), "utf8"), "a");
	assert.equal(renameName(directory, "d", directory, "b"), 0);
	assert.equal(readFileSync(at("b"), "utf8"), "a");
	assert.equal(renameName(directory, "d", directory, "b"), -ERRNO.ENOENT);
	assert.equal(renameName(directory, "b", directory, "nothing", RENAME.exchange), -ERRNO.ENOENT);
	assert.equal(renameName(directory, "b", directory, "a"), -ERRNO.EISDIR);
	assert.equal(renameName(directory, "a", directory, "b"), -ERRNO.ENOTDIR);
	assert.equal(renameName(directory, "a", directory, "a/inside"), -ERRNO.EINVAL);
	assert.equal(renameName(directory, "b", directory, "c", RENAME.noReplace | RENAME.exchange), -ERRNO.EINVAL);
});

test("renameName between two names of one inode changes nothing and succeeds, so that its callers must look", (t) => {
	const { directory, at } = fixture(t);
	writeFileSync(at("a"), "");
	assert.equal(linkName(directory, "a", directory, "b"), 0);
	assert.equal(renameName(directory, "a", directory, "b"), 0);
	assert.equal(statSync(at("a")).nlink, 2);
});

test("unlinkName and removeDirectory each remove their kind only", (t) => {
	const { directory, at } = fixture(t);
	writeFileSync(at("file"), "");
	mkdirSync(at("full/inside"), { recursive: true });
	assert.equal(unlinkName(directory, "full"), -ERRNO.EISDIR);
	assert.equal(removeDirectory(directory, "file"), -ERRNO.ENOTDIR);
	assert.equal(removeDirectory(directory, "full"), -ERRNO.ENOTEMPTY);
	assert.equal(removeDirectory(directory, "full/inside"), 0);
	assert.equal(removeDirectory(directory, "full"), 0);
	assert.equal(unlinkName(directory, "file"), 0);
	assert.equal(unlinkName(directory, "file"), -ERRNO.ENOENT);
	assert.equal(removeDirectory(directory, "full"), -ERRNO.ENOENT);
});

test("makeDirectory makes a directory of exactly that mode under the umask", (t) => {
	const { directory, at } = fixture(t);
	const former = process.umask(0);
	t.after(() => process.umask(former));
	assert.equal(makeDirectory(directory, "d", 0o1751), 0);
	assert.equal(lstatSync(at("d")).mode & 0o7777, 0o1751);
	assert.equal(makeDirectory(directory, "d", 0o700), -ERRNO.EEXIST);
	assert.equal(makeDirectory(directory, "nothing/d", 0o700), -ERRNO.ENOENT);
});

test("every call that makes, moves or removes takes names of any bytes up to 255, and says ENAMETOOLONG beyond", (t) => {
	const { directory, folder } = fixture(t);
	const stat = new Stat();
	for (const name of NAMES) {
		assert.equal(makeDirectory(directory, name, 0o700), 0);
		assert.ok(lstatSync(asBytes(folder.path, name)).isDirectory());
		assert.equal(removeDirectory(directory, name), 0);
		assert.equal(makeNode(directory, name, 0o010600, 0, 0), 0);
		assert.ok(lstatSync(asBytes(folder.path, name)).isFIFO());
		assert.equal(unlinkName(directory, name), 0);
		assert.equal(makeSymlink("plain", directory, "plain"), 0);
		assert.equal(linkName(directory, "plain", directory, name), 0);
		assert.equal(renameName(directory, name, directory, "moved"), 0);
		// the other name of the same inode: a rename alone would do nothing
		assert.equal(unlinkName(directory, "plain"), 0);
		assert.equal(renameName(directory, "moved", directory, name), 0);
		assert.equal(statAt(directory, name, stat), 0);
		assert.equal(unlinkName(directory, name), 0);
		assert.equal(statAt(directory, name, stat), -ERRNO.ENOENT);
	}
	assert.equal(makeDirectory(directory, TOO_LONG, 0o700), -ERRNO.ENAMETOOLONG);
	assert.equal(makeNode(directory, TOO_LONG, 0o010600, 0, 0), -ERRNO.ENAMETOOLONG);
	assert.equal(makeSymlink("x", directory, TOO_LONG), -ERRNO.ENAMETOOLONG);
	assert.equal(unlinkName(directory, TOO_LONG), -ERRNO.ENAMETOOLONG);
	assert.equal(removeDirectory(directory, TOO_LONG), -ERRNO.ENAMETOOLONG);
	folder.file("a", "");
	assert.equal(linkName(directory, "a", directory, TOO_LONG), -ERRNO.ENAMETOOLONG);
	assert.equal(renameName(directory, "a", directory, TOO_LONG), -ERRNO.ENAMETOOLONG);
});

test("symlink targets are kept byte by byte up to 4,095 bytes and read back by name and by descriptor", (t) => {
	const { directory, keep, folder } = fixture(t);
	for (const [i, target] of [Buffer.from([0xff, 0x0a, 0x80]), Buffer.from("../é"), Buffer.alloc(4095, 0xfd)].entries()) {
		assert.equal(makeSymlink(target, directory, `link${i}`), 0);
		assert.deepEqual(readLink(directory, `link${i}`), target);
		assert.deepEqual(readLink(keep(openAt(directory, `link${i}`, O.path | O.nofollow)), ""), target);
		assert.deepEqual(readlinkSync(join(folder.path, `link${i}`), "buffer"), target);
	}
	assert.equal(makeSymlink(Buffer.alloc(4096, "t"), directory, "long"), -ERRNO.ENAMETOOLONG);
	assert.equal(makeSymlink("t", directory, "link0"), -ERRNO.EEXIST);
	assert.equal(makeSymlink("", directory, "empty"), -ERRNO.ENOENT);
});

test("readLink of what is no symlink, or not there, is null", (t) => {
	const { directory, folder } = fixture(t);
	folder.file("file", "");
	assert.equal(readLink(directory, "file"), null);
	assert.equal(readLink(directory, "nothing"), null);
	assert.equal(readLink(directory, ""), null);
});

/** makedev(3) of the C library, in integers of any size. */
function makedev(major: bigint, minor: bigint): bigint {
	return ((major & 0xfffff000n) << 32n) | ((major & 0xfffn) << 8n) | ((minor & 0xffffff00n) << 12n) | (minor & 0xffn);
}

test("makeNode keeps majors up to 4,095 and minors up to 1,048,575, as statx and Node's stat both show", { skip: needs("root") }, (t) => {
	const { directory, at } = fixture(t);
	const numbers = [
		[1, 3],
		[255, 255],
		[256, 256],
		[4095, 0],
		[0, 1048575],
		[0xabc, 0xabcde],
		[4095, 1048575],
	];
	const stat = new Stat();
	for (const type of [0o020000, 0o060000]) {
		for (const [major, minor] of numbers) {
			const name = `${type}-${major}-${minor}`;
			assert.equal(makeNode(directory, name, type | 0o600, major, minor), 0, name);
			assert.equal(statAt(directory, name, stat), 0);
			assert.deepEqual([stat.rdevMajor, stat.rdevMinor, stat.type], [major, minor, type >> 12]);
			assert.equal(lstatSync(at(name), { bigint: true }).rdev, makedev(BigInt(major), BigInt(minor)));
		}
	}
	assert.equal(makeNode(directory, "beyond", 0o020600, 4096, 0), -ERRNO.EINVAL);
	assert.equal(makeNode(directory, "0-1-3", 0o170000, 0, 0), -ERRNO.EINVAL);
	assert.equal(makeNode(directory, `${0o020000}-1-3`, 0o020600, 1, 3), -ERRNO.EEXIST);
});

test("makeNode makes fifos, sockets, and the whiteout 0:0", { skip: needs("root") }, (t) => {
	const { directory, at } = fixture(t);
	assert.equal(makeNode(directory, "fifo", 0o010640, 0, 0), 0);
	assert.ok(lstatSync(at("fifo")).isFIFO());
	assert.equal(makeNode(directory, "socket", 0o140640, 0, 0), 0);
	assert.ok(lstatSync(at("socket")).isSocket());
	assert.equal(makeNode(directory, "whiteout", 0o020000, 0, 0), 0);
	assert.ok(lstatSync(at("whiteout")).isCharacterDevice());
	assert.equal(lstatSync(at("whiteout")).rdev, 0);
});

test("makeFile makes a file to read and write with its whole mode, never takes a name that is there, and follows no link", (t) => {
	const { at, directory } = fixture(t);
	const before = process.umask(0);
	t.after(() => process.umask(before));
	const fd = makeFile(directory, "new", 0o2751);
	assert.ok(fd >= 0, `errno ${-fd}`);
	assert.equal(statSync(at("new")).mode & 0o7777, 0o2751);
	assert.equal(writeSync(fd, "text"), 4);
	assert.equal(readSync(fd, Buffer.alloc(4), 0, 4, 0), 4);
	close(fd);
	assert.equal(makeFile(directory, "new", 0o600), -ERRNO.EEXIST);
	symlinkSync("nowhere", at("link"));
	assert.equal(makeFile(directory, "link", 0o600), -ERRNO.EEXIST);
	assert.equal(existsSync(at("nowhere")), false);
});
