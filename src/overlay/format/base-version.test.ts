// What is recorded of a lower object: it is read as it was written, fits beside the record, and damage of it is seen.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { recordIn } from "../../layer/origin-record.ts";
import { Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { type BaseVersion, compareBase, decodeBase, encodeBase, originMovedTo, originWith, versionIn } from "./base-version.ts";
import { encodeRecord } from "./identity.ts";

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const nsec = fc.integer({ min: 0, max: 999_999_999 });
const sec = fc.integer({ min: -(2 ** 31), max: 2 ** 34 - 2 ** 31 - 1 });
const versions: fc.Arbitrary<BaseVersion> = fc.record({
	type: fc.constantFrom(...(Object.values(FileType) as number[])),
	sizeHi: fc.oneof(fc.constant(0), u32),
	sizeLo: u32,
	mtimeSec: sec,
	mtimeNsec: nsec,
	ctimeSec: sec,
	ctimeNsec: nsec,
	inoHi: fc.oneof(fc.constant(0), u32),
	inoLo: u32,
});

function statOf({ type, ...fields }: BaseVersion): Stat {
	return Object.assign(new Stat(), fields, { mode: type << 12 });
}

const RECORD = encodeRecord(Buffer.alloc(16, 7), { type: 1, bytes: Buffer.from("deadbeef") }, false);
const HOWS = [false, true].flatMap((isPortable) => [false, true].map((isRemoved) => ({ isPortable, isRemoved })));

test("a version is read as it was written, behind any record, and is unchanged to itself", () => {
	fc.assert(
		fc.property(versions, fc.boolean(), (drawn, isOneTime) => {
			const version = { ...drawn };
			const { mtimeSec, mtimeNsec } = version;
			const written = isOneTime ? { ...version, ctimeSec: mtimeSec, ctimeNsec: mtimeNsec } : version;
			const bytes = encodeBase(statOf(written));
			assert.deepEqual(decodeBase(bytes), written);
			const origin = originWith(RECORD, bytes);
			assert.deepEqual([recordIn(origin), versionIn(origin)], [RECORD, bytes]);
			const other = encodeRecord(Buffer.alloc(16, 9), { type: 0xe1, bytes: Buffer.alloc(37, 3) }, false);
			assert.deepEqual(originMovedTo(other, origin), originWith(other, bytes));
			for (const how of HOWS) assert.equal(compareBase(written, statOf(written), how), "unchanged");
			for (let length = 0; length < bytes.length; length++) assert.equal(decodeBase(bytes.subarray(0, length)), null);
		}),
	);
	assert.deepEqual([recordIn(RECORD), versionIn(RECORD)], [RECORD, null]);
	assert.deepEqual([recordIn(Buffer.alloc(0)), versionIn(Buffer.alloc(0))], [Buffer.alloc(0), null]);
});

test("a flipped bit of a version is damage, and the record is none the worse for it", () => {
	const origin = originWith(RECORD, encodeBase(statOf({ ...FILE, ctimeNsec: 5 })));
	for (let bit = RECORD.length * 8; bit < origin.length * 8; bit++) {
		const flipped = Buffer.from(origin);
		flipped[bit >> 3] ^= 1 << (bit & 7);
		assert.deepEqual([recordIn(flipped), versionIn(flipped)], [RECORD, "damaged"], `bit ${bit}`);
	}
	for (let length = RECORD.length + 1; length < origin.length; length++) assert.equal(versionIn(origin.subarray(0, length)), "damaged");
});

const FILE: BaseVersion = {
	type: FileType.reg,
	sizeHi: 0,
	sizeLo: 1_000_000,
	mtimeSec: 1_764_000_000,
	mtimeNsec: 123_456_789,
	ctimeSec: 1_764_000_001,
	ctimeNsec: 0,
	inoHi: 0,
	inoLo: 200_000_000,
};

test("with the record of ext4 it leaves the attributes of a file of a megabyte within its inode", () => {
	// 88 bytes for entries and values: an entry has 16 and the name, and all are padded to 4
	const { length } = originWith(RECORD, encodeBase(statOf(FILE)));
	assert.ok(16 + 16 + length <= 88, `${length} bytes`);
});

test("what differs is changed; with portable handles another inode that looks the same is unknown", () => {
	const states = (now: Partial<BaseVersion>, was: BaseVersion = FILE) =>
		HOWS.map((how) => compareBase(was, statOf({ ...was, ...now }), how)).join(" ");
	const changed = "changed changed changed changed";
	for (const now of [{ sizeLo: 1 }, { sizeHi: 1 }, { mtimeSec: 1 }, { mtimeNsec: 1 }, { ctimeSec: 1 }, { ctimeNsec: 1 }]) {
		assert.equal(states(now), changed, JSON.stringify(now));
	}
	assert.equal(states({ type: FileType.lnk }), changed);
	assert.equal(states({ inoLo: 1, ctimeSec: 2 }), "changed changed unknown unknown");
	assert.equal(states({ inoLo: 1, sizeLo: 2 }), changed);
	const directory = { ...FILE, type: FileType.dir };
	// names below it have come and gone
	assert.equal(states({ mtimeSec: 1, sizeLo: 5 }, directory), "unchanged changed unchanged changed");
	assert.equal(states({ inoLo: 1 }, directory), "changed changed unknown unknown");
	for (const how of HOWS) assert.equal(compareBase(null, statOf(FILE), how), "unknown");
});
