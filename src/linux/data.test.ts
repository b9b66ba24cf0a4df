// Calls on the content of files, with holes, ends and errors.

import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { cannotMount, scratch } from "../../test/support/scratch.ts";
import {
	allocateRange,
	cloneFile,
	cloneFileRange,
	copyRange,
	countExtents,
	RWF_NOWAIT,
	readAhead,
	readInto,
	readVector,
	seekData,
	seekHole,
	syncFile,
	syncFileData,
	syncFileSystem,
	truncateFile,
	writeFrom,
	writeInPlace,
	writeVector,
} from "./data.ts";
import { ERRNO } from "./errno.ts";
import { allocate } from "./memory.ts";
import { makeNode } from "./names.ts";
import { close, O, openPath } from "./open.ts";

const GIB = 2 ** 30;
/** Beyond 4 GiB, in the midst of a block. */
const FAR = 5 * GIB + 12345;
const TEXT = Buffer.from("a few bytes");

function fixture(context: TestContext) {
	const folder = scratch(context);
	const open = (path: string, flags: number) => {
		const fd = openPath(path, flags, 0o600);
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	return {
		folder,
		open,
		at: (name: string) => join(folder.path, name),
		make: (name: string) => open(join(folder.path, name), O.creat | O.excl | O.rdwr),
	};
}

function read(fd: number, length: number, offset: number): Buffer {
	const memory = allocate(length);
	const count = readInto(fd, memory.address, length, offset);
	assert.ok(count >= 0, `errno ${-count}`);
	return memory.bytes.subarray(0, count);
}

test("what writeFrom writes beyond 4 GiB is read there by readInto, and nowhere else", (t) => {
	const { make, at } = fixture(t);
	const fd = make("file");
	assert.equal(writeFrom(fd, TEXT, FAR), TEXT.length);
	assert.equal(statSync(at("file")).size, FAR + TEXT.length);
	assert.deepEqual(read(fd, TEXT.length, FAR), TEXT);
	assert.deepEqual(read(fd, 16, FAR % 2 ** 32), Buffer.alloc(16));
	assert.ok(statSync(at("file")).blocks < 100);
});

test("readInto fills only what there is, says 0 at the end, and does not touch the memory behind", (t) => {
	const { make } = fixture(t);
	const fd = make("file");
	writeFrom(fd, TEXT, 0);
	const memory = allocate(64);
	memory.bytes.fill(0x55);
	assert.equal(readInto(fd, memory.address + 4, 60, 2), TEXT.length - 2);
	assert.deepEqual(memory.bytes.subarray(4, 4 + TEXT.length - 2), TEXT.subarray(2));
	assert.ok(memory.bytes.subarray(0, 4).every((byte) => byte === 0x55));
	assert.ok(memory.bytes.subarray(4 + TEXT.length - 2).every((byte) => byte === 0x55));
	assert.equal(readInto(fd, memory.address, 60, TEXT.length), 0);
	assert.equal(readInto(fd, memory.address, 60, FAR), 0);
	assert.equal(readInto(fd, memory.address, 60, Number.MAX_SAFE_INTEGER), 0);
});

test("reading and writing answer with negated error numbers", (t) => {
	const { open, folder, at } = fixture(t);
	const memory = allocate(16);
	writeFileSync(at("file"), "x");
	const directory = open(folder.path, O.rdonly);
	const readable = open(at("file"), O.rdonly);
	const writable = open(at("file"), O.wronly);
	assert.equal(readInto(-1, memory.address, 16, 0), -ERRNO.EBADF);
	assert.equal(readInto(writable, memory.address, 16, 0), -ERRNO.EBADF);
	assert.equal(readInto(directory, memory.address, 16, 0), -ERRNO.EISDIR);
	assert.equal(readInto(readable, memory.address, 16, -1), -ERRNO.EINVAL);
	assert.equal(readVector(writable, memory.address, 16, 0, 0), -ERRNO.EBADF);
	assert.equal(writeFrom(readable, TEXT, 0), -ERRNO.EBADF);
	assert.equal(writeFrom(writable, TEXT, -1), -ERRNO.EINVAL);
	assert.equal(writeVector(readable, memory.address, 16, 0, 0), -ERRNO.EBADF);
	assert.equal(truncateFile(readable, 0), -ERRNO.EINVAL);
	assert.equal(truncateFile(writable, -1), -ERRNO.EINVAL);
	assert.equal(seekData(-1, 0), -ERRNO.EBADF);
	assert.equal(seekHole(-1, 0), -ERRNO.EBADF);
	assert.equal(copyRange(readable, -1, 0, 1), -ERRNO.EBADF);
	assert.equal(cloneFile(-1, writable), -ERRNO.EBADF);
	for (const sync of [syncFile, syncFileData, syncFileSystem]) assert.equal(sync(-1), -ERRNO.EBADF);
});

test("writeVector and readVector carry address, length, offset beyond 4 GiB and flags", (t) => {
	const { make } = fixture(t);
	const fd = make("file");
	const memory = allocate(64);
	TEXT.copy(memory.bytes, 8);
	const RWF_DSYNC = 2;
	const RWF_APPEND = 16;
	assert.equal(writeVector(fd, memory.address + 8, TEXT.length, FAR, RWF_DSYNC), TEXT.length);
	assert.deepEqual(read(fd, 64, FAR), TEXT);
	assert.equal(writeVector(fd, memory.address + 8, 3, 0, RWF_APPEND), 3);
	assert.deepEqual(read(fd, 64, FAR), Buffer.concat([TEXT, TEXT.subarray(0, 3)]));
	memory.bytes.fill(0);
	assert.equal(readVector(fd, memory.address + 1, TEXT.length, FAR, 0), TEXT.length);
	assert.deepEqual(memory.bytes.subarray(1, 1 + TEXT.length), TEXT);
	assert.equal(readVector(fd, memory.address, 8, 0, 1 << 30), -ERRNO.EOPNOTSUPP);
});

test("with RWF_NOWAIT what is in memory is read, and what is not says EAGAIN", { skip: cannotMount("ext4") }, (t) => {
	const { folder, open } = fixture(t);
	const first = folder.mount("ext4", "ext4", 16);
	writeFileSync(join(first, "file"), Buffer.alloc(1 << 20, 1));
	const memory = allocate(4096);
	const written = openPath(join(first, "file"), O.rdonly);
	assert.equal(readVector(written, memory.address, 4096, 8192, RWF_NOWAIT), 4096);
	close(written);
	folder.unmount(first);
	// a new mount has nothing in memory
	const fd = open(join(folder.mountImage("ext4"), "file"), O.rdonly);
	assert.equal(readVector(fd, memory.address, 4096, 8192, RWF_NOWAIT), -ERRNO.EAGAIN);
	assert.equal(readVector(fd, memory.address, 4096, 8192, 0), 4096);
	assert.equal(readVector(fd, memory.address, 4096, 8192, RWF_NOWAIT), 4096);
});

test("truncateFile shortens, and lengthens by a hole far beyond 4 GiB", (t) => {
	const { make, at } = fixture(t);
	const fd = make("file");
	writeFrom(fd, TEXT, 0);
	assert.equal(truncateFile(fd, 3), 0);
	assert.equal(readFileSync(at("file"), "latin1"), "a f");
	assert.equal(truncateFile(fd, 2 ** 43 + 7), 0);
	assert.equal(statSync(at("file")).size, 2 ** 43 + 7);
	assert.deepEqual(read(fd, 16, 2 ** 43), Buffer.alloc(7));
});

test("allocateRange reserves, keeps the size if told, and punches holes beyond 4 GiB", { skip: cannotMount("ext4") }, (t) => {
	const { folder, open } = fixture(t);
	const path = join(folder.mount("ext4", "ext4", 16), "file");
	const fd = open(path, O.creat | O.rdwr);
	const start = 5 * GIB;
	assert.equal(allocateRange(fd, 0, start, 65536), 0);
	assert.equal(statSync(path).size, start + 65536);
	assert.ok(statSync(path).blocks >= 128);
	assert.equal(allocateRange(fd, 1, start + 65536, 65536), 0);
	assert.equal(statSync(path).size, start + 65536);
	writeFrom(fd, Buffer.alloc(65536, 7), start);
	assert.equal(allocateRange(fd, 3, start + 4096, 4096), 0);
	assert.deepEqual(read(fd, 4096, start + 4096), Buffer.alloc(4096));
	assert.deepEqual(read(fd, 4096, start), Buffer.alloc(4096, 7));
	assert.equal(allocateRange(fd, 0, 0, 0), -ERRNO.EINVAL);
	assert.equal(allocateRange(fd, 0, 0, 2 ** 40), -ERRNO.ENOSPC);
	assert.equal(allocateRange(open(path, O.rdonly), 0, 0, 1), -ERRNO.EBADF);
	assert.equal(truncateFile(fd, Number.MAX_SAFE_INTEGER), -ERRNO.EFBIG);
});

test("writeInPlace lets a file of a full btrfs be written that has its room, where others cannot be", {
	skip: cannotMount("btrfs"),
}, (t) => {
	const folder = scratch(t);
	const disk = folder.mount("btrfs", "disk", 128);
	const open = (name: string) => {
		const fd = openPath(join(disk, name), O.rdwr | O.creat, 0o600);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	const [inPlace, copied, filler] = [open("in place"), open("copied"), open("filler")];
	const page = Buffer.alloc(4096, "x");
	assert.deepEqual([writeInPlace(inPlace), writeInPlace(inPlace)], [0, 0]);
	for (const fd of [inPlace, copied]) {
		assert.equal(allocateRange(fd, 0, 0, page.length), 0);
		assert.equal(writeFrom(fd, page, 0), page.length);
		assert.equal(syncFile(fd), 0);
	}
	let size = 0;
	for (let piece = 1 << 24; piece >= 4096; piece /= 4) while (allocateRange(filler, 0, size, piece) === 0) size += piece;
	assert.equal(writeFrom(copied, page, 0), -ERRNO.ENOSPC);
	assert.equal(writeFrom(inPlace, TEXT, 100), TEXT.length);
	assert.equal(writeInPlace(-1), -ERRNO.EBADF);
	assert.equal(writeInPlace(openPath(scratch(t).mount("tmpfs"), O.rdonly)), -ERRNO.EOPNOTSUPP);
});

test("seekData and seekHole tell data from holes beyond 4 GiB, and ENXIO at the end", { skip: cannotMount("ext4") }, (t) => {
	const { folder, open } = fixture(t);
	const fd = open(join(folder.mount("ext4", "ext4", 16), "file"), O.creat | O.rdwr);
	const start = 5 * GIB;
	writeFrom(fd, Buffer.alloc(8192, 1), start);
	truncateFile(fd, start + 65536);
	assert.equal(seekData(fd, 0), start);
	assert.equal(seekHole(fd, 0), 0);
	assert.equal(seekHole(fd, start), start + 8192);
	assert.equal(seekData(fd, start + 8192), -ERRNO.ENXIO);
	assert.equal(seekHole(fd, start + 65536), -ERRNO.ENXIO);
	assert.equal(seekData(fd, start + 100), start + 100);
});

test("copyRange copies from and to the same offset beyond 4 GiB and moves no file position", (t) => {
	const { make } = fixture(t);
	const from = make("from");
	const to = make("to");
	writeFrom(from, TEXT, FAR);
	assert.equal(copyRange(from, to, FAR, TEXT.length), TEXT.length);
	assert.deepEqual(read(to, 64, FAR), TEXT);
	assert.equal(copyRange(from, to, FAR + TEXT.length, 100), 0);
	assert.equal(copyRange(from, from, FAR, 4), -ERRNO.EINVAL);
});

for (const kind of ["xfs", "btrfs"] as const) {
	test(`cloneFile shares the extents of a file on ${kind}, and is no link to it`, { skip: cannotMount(kind) }, (t) => {
		const { folder, open, make } = fixture(t);
		const mounted = folder.mount(kind);
		const from = open(join(mounted, "from"), O.creat | O.rdwr);
		const to = open(join(mounted, "to"), O.creat | O.rdwr);
		writeFrom(from, Buffer.alloc(1 << 20, 9), 0);
		writeFrom(from, TEXT, FAR);
		assert.equal(cloneFile(from, to), 0);
		assert.equal(statSync(join(mounted, "to")).size, FAR + TEXT.length);
		assert.deepEqual(read(to, 64, FAR), TEXT);
		writeFrom(from, Buffer.from("other"), FAR);
		assert.deepEqual(read(to, 64, FAR), TEXT);
		assert.equal(cloneFile(from, make("elsewhere")), -ERRNO.EXDEV);
		const directory = open(mounted, O.rdonly);
		assert.equal(cloneFile(directory, to), -ERRNO.EISDIR);
	});
}

for (const kind of ["xfs", "btrfs"] as const) {
	test(`cloneFileRange shares a range of a file on ${kind} at other offsets beyond 4 GiB`, { skip: cannotMount(kind) }, (t) => {
		const { folder, open, make } = fixture(t);
		const mounted = folder.mount(kind);
		const from = open(join(mounted, "from"), O.creat | O.rdwr);
		const to = open(join(mounted, "to"), O.creat | O.rdwr);
		writeFrom(from, Buffer.alloc(8192, 9), 6 * GIB);
		writeFrom(to, TEXT, 0);
		assert.equal(cloneFileRange(from, 6 * GIB, 4096, to, 5 * GIB), 0);
		assert.equal(statSync(join(mounted, "to")).size, 5 * GIB + 4096);
		assert.deepEqual(read(to, 5000, 5 * GIB), Buffer.alloc(4096, 9));
		assert.deepEqual(read(to, TEXT.length, 0), TEXT);
		assert.equal(cloneFileRange(from, 6 * GIB, 0, to, 0), 0);
		assert.deepEqual(read(to, 8192, 0), Buffer.alloc(8192, 9));
		assert.equal(cloneFileRange(from, 6 * GIB + 1, 4096, to, 0), -ERRNO.EINVAL);
		assert.equal(cloneFileRange(from, 0, 4096, make("elsewhere"), 0), -ERRNO.EXDEV);
	});
}

test("cloneFile says EOPNOTSUPP where no extents are shared", { skip: cannotMount("ext4") }, (t) => {
	const { folder, open } = fixture(t);
	const mounted = folder.mount("ext4", "ext4", 16);
	const from = open(join(mounted, "from"), O.creat | O.rdwr);
	assert.equal(cloneFile(from, open(join(mounted, "to"), O.creat | O.rdwr)), -ERRNO.EOPNOTSUPP);
});

test("syncFile, syncFileData and syncFileSystem flush files and directories, and say EINVAL where there is nothing to flush", (t) => {
	const { make, open, folder, at } = fixture(t);
	const fd = make("file");
	writeFrom(fd, TEXT, 0);
	const directory = open(folder.path, O.rdonly);
	for (const sync of [syncFile, syncFileData, syncFileSystem]) {
		assert.equal(sync(fd), 0);
		assert.equal(sync(directory), 0);
	}
	assert.equal(makeNode(directory, "fifo", 0o010600, 0, 0), 0);
	const fifo = openSync(at("fifo"), O.rdonly | O.nonblock);
	t.after(() => closeSync(fifo));
	assert.equal(syncFile(fifo), -ERRNO.EINVAL);
	assert.equal(syncFileData(fifo), -ERRNO.EINVAL);
	assert.equal(syncFile(open(at("file"), O.path)), -ERRNO.EBADF);
});

test("readAhead takes a range beyond the end of a file, and says EBADF", (t) => {
	const folder = scratch(t);
	folder.file("file", "content");
	const fd = openPath(join(folder.path, "file"), O.rdonly);
	t.after(() => close(fd));
	assert.equal(readAhead(fd, 0, 1 << 20), 0);
	assert.equal(readAhead(fd, 5 * 2 ** 32, 1 << 20), 0);
	assert.equal(readAhead(-1, 0, 1), -ERRNO.EBADF);
});

test("countExtents counts up to what is asked for, and says where a file system does not tell", {
	skip: cannotMount("ext4") || cannotMount("tmpfs"),
}, (t) => {
	const { folder, open } = fixture(t);
	const fd = open(join(folder.mount("ext4"), "file"), O.creat | O.excl | O.rdwr);
	for (let i = 0; i < 10; i++) assert.equal(writeFrom(fd, Buffer.alloc(4096, "x"), i * 8192), 4096);
	assert.equal(syncFile(fd), 0);
	assert.equal(countExtents(fd, 20), 10);
	assert.equal(countExtents(fd, 3), 3);
	assert.throws(() => countExtents(fd, 100_000), RangeError);
	assert.equal(countExtents(open(join(folder.mount("tmpfs"), "file"), O.creat | O.excl | O.rdwr), 1), -ERRNO.EOPNOTSUPP);
});
