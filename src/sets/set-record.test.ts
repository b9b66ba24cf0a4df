// The record of a set: each damage to it is noticed.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { RECORD_FILE, RecordError, readRecord, type SetRecord, writeRecord } from "./set-record.ts";

const RECORD: SetRecord = {
	tree: { path: "/srv/golden", uuid: null, device: "8:1", inode: "12", handle: "1:0c00", birth: null, names: null },
	made: "2026-01-01T00:00:00.000Z",
	served: null,
	isDefault: true,
	isEphemeral: false,
};

test("a record is read as it was written, and each altered byte of it is noticed", (t) => {
	const folder = mkdtempSync(join(tmpdir(), "holdfast-record-"));
	t.after(() => rmSync(folder, { recursive: true }));
	assert.equal(readRecord(folder), null);
	writeRecord(folder, RECORD);
	assert.deepEqual(readRecord(folder), RECORD);
	const path = join(folder, RECORD_FILE);
	const bytes = readFileSync(path);
	for (let at = 0; at < bytes.length; at++) {
		const altered = Buffer.from(bytes);
		altered[at] ^= 1;
		writeFileSync(path, altered);
		assert.throws(() => readRecord(folder), RecordError, `byte ${at}`);
	}
	for (const length of [0, 1, bytes.length - 1]) {
		writeFileSync(path, bytes.subarray(0, length));
		assert.throws(() => readRecord(folder), RecordError);
	}
});

test("fields of other types are refused, whatever their digest", (t) => {
	const folder = mkdtempSync(join(tmpdir(), "holdfast-record-"));
	t.after(() => rmSync(folder, { recursive: true }));
	const odd: object[] = [
		{ ...RECORD, isDefault: "yes" },
		{ ...RECORD, served: 3 },
		{ ...RECORD, tree: { ...RECORD.tree, path: null } },
		{ ...RECORD, tree: { ...RECORD.tree, inode: "x" } },
		{ ...RECORD, tree: null },
	];
	for (const record of odd) {
		writeRecord(folder, record as SetRecord);
		assert.throws(() => readRecord(folder), RecordError, JSON.stringify(record));
	}
});
