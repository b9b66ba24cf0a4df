// Records of partial files: headers, bits and runs.

import assert from "node:assert/strict";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "../../../test/support/scratch.ts";
import { bitmapBytes, granuleBytesFor, PartialRecords } from "./partial-record.ts";

const HEADER = { granuleBytes: 65_536, granules: 100_000, dataSize: 6_553_500_000, lowerEnd: 6_553_499_999 };
const RUN = Buffer.alloc(16, 1);
const OTHER = Buffer.alloc(16, 2);

test("a record says what was written to it; what is present counts in its own run only", (t) => {
	const folder = scratch(t).path;
	const records = new PartialRecords(folder, RUN);
	records.create("aa", HEADER);
	const bits = Buffer.alloc(bitmapBytes(HEADER.granules), 0);
	bits[5000] = 0x5a;
	bits[5001] = 0xff;
	records.writePresent("aa", HEADER, bits, 5000, 5002);
	const stable = Buffer.alloc(bits.length);
	stable[5000] = 0x12;
	records.writeStable("aa", stable, 5000, 5001);
	records.close();
	const again = new PartialRecords(folder, RUN);
	assert.deepEqual(again.names(), ["aa"]);
	const found = again.read("aa");
	assert.deepEqual(found?.header, HEADER);
	assert.ok(Buffer.from(found.bits.present).equals(bits));
	assert.ok(Buffer.from(found.bits.stable).equals(stable));
	again.close();
	const later = new PartialRecords(folder, OTHER);
	assert.ok(Buffer.from(later.read("aa")?.bits.present ?? []).equals(stable));
	later.close();
	const back = new PartialRecords(folder, RUN);
	assert.ok(Buffer.from(back.read("aa")?.bits.present ?? []).equals(stable), "what another run has not seen is forgotten");
	back.remove("aa");
	assert.deepEqual(back.names(), []);
	back.close();
});

test("of two headers the newer sound one counts, and a record without one says nothing", (t) => {
	const folder = scratch(t).path;
	const path = join(folder, "partial", "aa");
	const records = new PartialRecords(folder, RUN);
	records.create("aa", HEADER);
	records.writeHeader("aa", { ...HEADER, lowerEnd: 77 });
	records.close();
	const read = () => {
		const one = new PartialRecords(folder, RUN);
		const found = one.read("aa");
		one.close();
		return found?.header.lowerEnd;
	};
	assert.equal(read(), 77);
	const bytes = readFileSync(path);
	for (const at of [10, 36, 66]) {
		const torn = Buffer.from(bytes);
		torn[at] ^= 0x40;
		writeFileSync(path, torn);
		assert.equal(read(), HEADER.lowerEnd, `byte ${at} of the newer one`);
	}
	const both = Buffer.from(bytes);
	both[36] ^= 1;
	both[2048 + 36] ^= 1;
	writeFileSync(path, both);
	assert.equal(read(), undefined);
	writeFileSync(path, bytes);
	truncateSync(path, 5000);
	assert.equal(read(), undefined, "cut off");
	truncateSync(path, 0);
	assert.equal(read(), undefined, "empty");
});

test("many records are kept with few descriptors", (t) => {
	const records = new PartialRecords(scratch(t).path, RUN);
	const name = (i: number) => i.toString(16).padStart(4, "0");
	for (let i = 0; i < 300; i++) records.create(name(i), { ...HEADER, lowerEnd: i });
	for (let i = 0; i < 300; i++) records.writeHeader(name(i), { ...HEADER, lowerEnd: i + 1 });
	for (let i = 0; i < 300; i++) assert.equal(records.read(name(i))?.header.lowerEnd, i + 1);
	records.close();
});

test("the record of a file of any size has at most a megabyte", () => {
	for (const [size, granule] of [
		[1, 65_536],
		[2 ** 38, 65_536],
		[2 ** 38 + 1, 131_072],
		[2 ** 50, 2 ** 28],
	]) {
		assert.equal(granuleBytesFor(size, 65_536), granule);
		assert.ok(bitmapBytes(Math.ceil(size / granule)) <= 512 * 1024);
	}
});
