// Objects that live long keep the hidden class with which they were made, so that what V8 compiled while the server warmed up stays good.

import assert from "node:assert/strict";
import { mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { fstat, Stat } from "../linux/stat.ts";
import { identityKey, Node } from "../overlay/nodes/node.ts";
import { LargeBuffers, RecordReceiver } from "../rpc/record-receiver.ts";
import { CurrentRecord, RecordSlots } from "../rpc/record-slots.ts";
import { Line, Slices } from "../rpc/slices.ts";
import { FileType } from "../vfs/operations.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";

setFlagsFromString("--allow-natives-syntax");
const haveSameShape = new Function("a", "b", "return %HaveSameMap(a, b)") as (a: object, b: object) => boolean;

test("attributes that were read are kept as small integers", { skip: needs("root") }, (t) => {
	const path = join(scratch(t).mount("tmpfs"), "folder");
	mkdirSync(path);
	const [before, read] = [new Stat(), new Stat()];
	assert.equal(fstat(openSync(path, "r"), read), 0);
	assert.ok(read.ctimeSec > 0 && read.inoLo > 0);
	assert.ok(haveSameShape(before, read));
});

test("a connection that has received a record, and the reader of its arguments, are as before", () => {
	const [idle, busy] = [new RecordReceiver(new LargeBuffers()), new RecordReceiver(new LargeBuffers())];
	const [unused, args] = [new XdrReader(), new XdrReader()];
	const record = Buffer.from([0x80, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2]);
	for (let i = 0; i < 2; i++) {
		busy.target().set(record);
		busy.received(record.length);
		assert.ok(busy.next());
		args.reset(busy.recordBytes, busy.recordView, busy.recordStart, busy.recordEnd);
		assert.deepEqual([args.u32(), args.u32()], [1, 2]);
	}
	assert.ok(haveSameShape(idle, busy));
	assert.ok(haveSameShape(unused, args));
});

test("an object whose change attribute was given out is as before", () => {
	const id = { type: 1, bytes: Buffer.from([1]) };
	const fields = { type: FileType.dir, handle: id.bytes, key: identityKey(1, id), home: 1, id, fileidHi: 0, fileidLo: 1, reals: [] };
	const [idle, used] = [new Node(fields), new Node(fields)];
	used.change = Date.now() * 1000;
	assert.ok(haveSameShape(idle, used));
});

test("a record is executed by one hidden class, as it arrived and from wherever it waited", () => {
	const slots = new RecordSlots();
	const shown = (length: number) => {
		const bytes = Buffer.alloc(length, 7);
		return { recordBytes: bytes, recordView: new DataView(bytes.buffer, bytes.byteOffset, length), recordStart: 0, recordEnd: length };
	};
	const [idle, arrived, short, long] = Array.from({ length: 4 }, () => new CurrentRecord());
	arrived.of(new RecordReceiver(new LargeBuffers()));
	for (const [waited, length] of [[short, 40] as const, [long, 4000] as const]) {
		waited.of(slots.keep(shown(length)));
		assert.equal(waited.recordEnd - waited.recordStart, length);
		assert.equal(waited.recordView.getUint8(waited.recordStart), 7);
	}
	for (const used of [arrived, short, long]) assert.ok(haveSameShape(idle, used));
});

test("slices that have begun are as before", async () => {
	const [idle, busy] = [new Slices(), new Slices()];
	busy.run(new Line(), () => {});
	await new Promise((resolve) => setImmediate(resolve));
	assert.ok(haveSameShape(idle, busy));
});
