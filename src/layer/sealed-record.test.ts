// Records with digests: what is written is read, and no flipped bit of it is.

import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "../../test/support/scratch.ts";
import { ERRNO, EUCLEAN } from "../linux/errno.ts";
import { close, O, openPath } from "../linux/open.ts";
import type { Damage } from "../vfs/damage.ts";
import { asideName, readRecord, recordOrNone, seal, unseal, writeRecord } from "./sealed-record.ts";

test("no flipped bit of a record, and no record under another name, is taken for a value", () => {
	const values = ["1", "65000", "-", "00ff+", "all", `${"0".repeat(32)}/a name`, "k03aabb:1:2:3", "/redirect"].map((text) =>
		Buffer.from(text),
	);
	for (const value of values) {
		const kept = seal("name", value);
		assert.deepEqual(unseal("name", kept), value);
		assert.equal(unseal("other", kept), null);
		// what there was before digests
		assert.deepEqual(unseal("name", value), value);
		for (let bit = 0; bit < kept.length * 8; bit++) {
			const flipped = Buffer.from(kept);
			flipped[bit >> 3] ^= 1 << (bit & 7);
			assert.equal(unseal("name", flipped), null, `bit ${bit} of ${kept}`);
		}
		for (let length = 1; length < kept.length; length++) assert.equal(unseal("name", kept.subarray(0, length)), null);
	}
});

test("a record is what was written last, none is none, and what is damaged is told by its path", (t) => {
	const { path } = scratch(t);
	const folder = openPath(path, O.rdonly | O.directory);
	t.after(() => close(folder));
	const told: string[] = [];
	const listener = (damage: unknown) => void told.push((damage as Damage).what);
	subscribe("holdfast:damage", listener);
	t.after(() => unsubscribe("holdfast:damage", listener));
	const any = () => true;
	assert.equal(readRecord(folder, "a"), -ERRNO.ENOENT);
	assert.equal(readRecord(folder, "a".repeat(300)), -ERRNO.ENOENT);
	assert.equal(recordOrNone(folder, "a", any), null);
	// left by a kill
	symlinkSync("rest", join(path, asideName("a")));
	for (const value of ["1", "2"]) {
		assert.equal(writeRecord(folder, "a", Buffer.from(value)), 0);
		assert.equal(recordOrNone(folder, "a", any), value);
	}
	assert.deepEqual(readdirSync(path), ["a"]);
	assert.equal(told.length, 0);
	assert.throws(() => recordOrNone(folder, "a", (text) => text === "3"), { code: "io", message: new RegExp(`${path}/a: it is damaged`) });
	symlinkSync("~aaaaaa1", join(path, "b"));
	mkdirSync(join(path, "c"));
	for (const name of ["b", "c"]) assert.equal(readRecord(folder, name), -EUCLEAN);
	assert.deepEqual(
		told.map((what) => what.split(" ")[2]),
		["a", "b", "c"].map((name) => `${path}/${name}`),
	);
});
