// Content copied with its holes, on each file system and by each way.

import assert from "node:assert/strict";
import { readFileSync, readSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { cannotMount, type FileSystem, scratch } from "../../test/support/scratch.ts";
import { seekData, truncateFile, writeFrom } from "../linux/data.ts";
import { ERRNO } from "../linux/errno.ts";
import { close, O, openPath } from "../linux/open.ts";
import { copyCached, copyData, copyRanges } from "./copy-data.ts";

const GIB = 2 ** 30;
const BLOCK = 4096;

function fixture(context: TestContext) {
	const folder = scratch(context);
	const open = (path: string, flags = O.creat | O.rdwr) => {
		const fd = openPath(path, flags, 0o600);
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	return { folder, open };
}

/** By sharing extents, within the kernel, and through memory, as the pair of file systems allows. */
const PAIRS: readonly (readonly [FileSystem, FileSystem])[] = [
	["ext4", "ext4"],
	["xfs", "xfs"],
	["btrfs", "btrfs"],
	["tmpfs", "tmpfs"],
	["tmpfs", "ext4"],
	["ext4", "xfs"],
];

for (const [from, to] of PAIRS) {
	const skip = cannotMount(from) || cannotMount(to);

	test(`a copy from ${from} to ${to} has the bytes, the length and the holes of its source, beyond 4 GiB too`, { skip }, (t) => {
		const { folder, open } = fixture(t);
		const source = folder.mount(from, "from", 320);
		const target = to === from ? source : folder.mount(to, "to", 320);
		const size = 5 * GIB + 77;
		const pieces: [number, Buffer][] = [
			[3, Buffer.from("in the first block")],
			[GIB + BLOCK, Buffer.alloc(3 * BLOCK + 1, "m")],
			[5 * GIB - 10, Buffer.from("over the edge of a block")],
		];
		const fromFd = open(join(source, "source"));
		for (const [offset, bytes] of pieces) assert.equal(writeFrom(fromFd, bytes, offset), bytes.length);
		assert.equal(truncateFile(fromFd, size), 0);
		const toFd = open(join(target, "copy"));
		assert.equal(copyData(fromFd, toFd, size), 0);
		const stat = statSync(join(target, "copy"));
		assert.equal(stat.size, size);
		assert.ok(stat.blocks <= 64 * 8, `${stat.blocks} blocks`);
		// the data that the copy has, found by what lies in it: each piece and its surroundings
		const copy = open(join(target, "copy"), O.rdonly);
		for (const [offset, bytes] of pieces) {
			const start = Math.max(0, offset - BLOCK);
			assert.deepEqual(readAt(copy, start, bytes.length + 2 * BLOCK, size), readAt(fromFd, start, bytes.length + 2 * BLOCK, size));
			assert.deepEqual(readAt(copy, offset, bytes.length, size), bytes);
		}
		assert.ok(seekData(copy, 2 * BLOCK) >= GIB);
	});
}

/** By Node, not by what is tested. */
function readAt(fd: number, offset: number, length: number, size: number): Buffer {
	const bytes = Buffer.alloc(Math.min(length, size - offset));
	return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, offset));
}

test("whatever the layout of a file, its copy has the same bytes and no more blocks", { skip: cannotMount("ext4") }, (t) => {
	const { folder } = fixture(t);
	const path = folder.mount("ext4", "ext4", 64);
	const extent = fc.record({ at: fc.integer({ min: 0, max: 64 * BLOCK }), length: fc.integer({ min: 1, max: 3 * BLOCK }) });
	fc.assert(
		fc.property(fc.array(extent, { maxLength: 6 }), fc.integer({ min: 0, max: 80 * BLOCK }), (extents, size) => {
			writeFileSync(join(path, "source"), "");
			writeFileSync(join(path, "copy"), "");
			const from = openPath(join(path, "source"), O.rdwr);
			const to = openPath(join(path, "copy"), O.rdwr);
			extents.forEach(({ at, length }, i) => {
				writeFrom(from, Buffer.alloc(length, i + 1), at);
			});
			truncateFile(from, size);
			assert.equal(copyData(from, to, size), 0);
			close(from);
			close(to);
			assert.ok(readFileSync(join(path, "copy")).equals(readFileSync(join(path, "source"))));
			assert.ok(statSync(join(path, "copy")).blocks <= statSync(join(path, "source")).blocks);
		}),
		{ numRuns: 60 },
	);
});

test("ranges that are copied over other bytes have the bytes and the holes of their source, and nothing else changes", {
	skip: cannotMount("ext4") || cannotMount("xfs"),
}, (t) => {
	const { folder, open } = fixture(t);
	for (const kind of ["ext4", "xfs", "tmpfs"] as const) {
		const path = folder.mount(kind);
		const from = open(join(path, "source"));
		const to = open(join(path, "target"));
		truncateFile(from, 40 * BLOCK);
		for (const at of [3, 17 * BLOCK, 30 * BLOCK - 5]) writeFrom(from, Buffer.alloc(2 * BLOCK, "s"), at);
		const before = Buffer.alloc(42 * BLOCK, "t");
		writeFrom(to, before, 0);
		const ranges = [
			[100, 9 * BLOCK],
			[16 * BLOCK, 20 * BLOCK],
			[29 * BLOCK, 40 * BLOCK],
		] as const;
		assert.equal(copyRanges(from, to, ranges), 0);
		const source = readFileSync(join(path, "source"));
		for (const [start, end] of ranges) source.copy(before, start, start, end);
		assert.ok(readFileSync(join(path, "target")).equals(before), kind);
		// what is a hole in the source is one now
		assert.ok(seekData(to, 33 * BLOCK) >= 40 * BLOCK, kind);
	}
});

test("of a file that is longer only the first bytes are copied, in the midst of data or behind it", { skip: cannotMount("ext4") }, (t) => {
	const { folder, open } = fixture(t);
	const path = folder.mount("ext4", "ext4", 16);
	writeFileSync(join(path, "source"), Buffer.alloc(100_000, 5));
	truncateSync(join(path, "source"), 300_000);
	for (const size of [1, 4096, 50_000, 100_001, 200_000]) {
		writeFileSync(join(path, "copy"), "");
		assert.equal(copyData(open(join(path, "source"), O.rdonly), open(join(path, "copy")), size), 0);
		assert.ok(readFileSync(join(path, "copy")).equals(readFileSync(join(path, "source")).subarray(0, size)), `${size}`);
	}
});

test("an empty file, and one that is all hole, are copied as they are", (t) => {
	const { folder, open } = fixture(t);
	for (const size of [0, 1, 10 * GIB]) {
		truncateSync(folder.file("source", ""), size);
		folder.file("copy", "");
		assert.equal(copyData(open(join(folder.path, "source")), open(join(folder.path, "copy")), size), 0);
		assert.equal(statSync(join(folder.path, "copy")).size, size);
		assert.equal(statSync(join(folder.path, "copy")).blocks, 0);
	}
});

test("a copy that finds no space says ENOSPC, within a file system and from another", { skip: cannotMount("tmpfs") }, (t) => {
	const { folder, open } = fixture(t);
	const small = folder.mount("tmpfs", "small", 2);
	folder.file("source", Buffer.alloc(3 << 20, 1));
	const source = open(join(folder.path, "source"));
	assert.equal(copyData(source, open(join(small, "copy")), 3 << 20), -ERRNO.ENOSPC);
	writeFileSync(join(small, "copy"), Buffer.alloc(3 << 19, 1));
	assert.equal(copyData(open(join(small, "copy")), open(join(small, "second")), 3 << 19), -ERRNO.ENOSPC);
});

test("what the kernel has in memory is copied at once, and a file that is shorter than it should be is left to others", (t) => {
	const { folder, open } = fixture(t);
	const content = Buffer.alloc(100_000, "in memory");
	folder.file("source", content);
	const source = open(join(folder.path, "source"), O.rdonly);
	assert.equal(copyCached(source, open(join(folder.path, "copy")), content.length, true), content.length);
	assert.deepEqual(readFileSync(join(folder.path, "copy")), content);
	assert.equal(copyCached(source, open(join(folder.path, "other")), content.length + 1, true), content.length);
	assert.equal(readFileSync(join(folder.path, "other")).length, 0);
	assert.equal(copyCached(-1, open(join(folder.path, "other")), 7, false), -ERRNO.EBADF);
});

test("a copy from or to a descriptor that does not allow it is refused with a negated error number", (t) => {
	const { folder, open } = fixture(t);
	folder.file("source", "content");
	folder.file("copy", "");
	const readable = open(join(folder.path, "source"), O.rdonly);
	assert.ok(copyData(readable, open(join(folder.path, "copy"), O.rdonly), 7) < 0);
	assert.equal(readFileSync(join(folder.path, "copy")).length, 0);
	assert.equal(copyData(-1, open(join(folder.path, "copy")), 7), -ERRNO.EBADF);
});
