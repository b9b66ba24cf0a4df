// Records of change attributes that are ahead of their object.

import assert from "node:assert/strict";
import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "../../../test/support/scratch.ts";
import { type ChangeHead, ChangeRecord } from "./change-record.ts";

const head = (raises: number): ChangeHead => ({
	raises,
	isClean: raises % 2 === 0,
	run: Buffer.alloc(16, raises),
	time: 1_800_000_000_123 + raises,
});
const inode = (number: number) => ({
	handle: { type: number, bytes: Buffer.alloc(8 + number, number) },
	ceiling: 1_800_000_000_123_456 + number,
});

test("a record tells the head and the inodes that were written last, also to the next process", (t) => {
	const { path } = scratch(t);
	const record = new ChangeRecord(path);
	assert.equal(record.read(), null);
	for (const raises of [1, 2, 3]) {
		record.write(head(raises));
		assert.deepEqual(record.read(), head(raises));
	}
	record.writeInode(0, inode(1));
	record.writeInode(2, inode(2));
	record.writeInode(0, inode(3));
	record.close();
	const next = new ChangeRecord(path);
	assert.deepEqual(next.read(), head(3));
	assert.deepEqual(next.inodes(), [inode(3), inode(2)]);
	next.write(head(4));
	assert.deepEqual(next.read(), head(4));
	next.forgetInodes();
	assert.deepEqual(next.inodes(), []);
	assert.deepEqual(next.read(), head(4));
	next.close();
});

test("a head that was written in part leaves the one before; where none is sound the values move far on", (t) => {
	const { path } = scratch(t);
	const record = new ChangeRecord(path);
	record.write(head(5));
	record.write(head(6));
	const damage = (at: number) => {
		const fd = openSync(join(path, "change"), "r+");
		writeSync(fd, Buffer.of(0x5a), 0, 1, at);
		closeSync(fd);
	};
	// the second one is in the first slot
	damage(14);
	assert.deepEqual(record.read(), head(5));
	damage(2048 + 14);
	assert.equal(record.read()?.raises, 2048);
	assert.equal(record.read()?.isClean, false);
	record.close();
});
