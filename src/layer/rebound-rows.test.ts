// The table of a rebind, written and found again.

import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type ReboundRow, ReboundRows, ReboundWriter } from "./rebound-rows.ts";

const rowOf = (i: number): ReboundRow => ({
	layer: i % 3,
	hash: hash("sha256", `path ${i}`, "buffer").subarray(0, 16),
	// every tenth object has two names
	handle: { type: 1, bytes: hash("sha256", `inode ${i - (i % 10 === 1 ? 1 : 0)}`, "buffer").subarray(0, 8 + (i % 2) * 12) },
	check: Buffer.from([i & 0xff, 1, 2, 3]),
	nlink: 1 + (i % 5),
	birth: { space: 7, inoHi: 0x1234, inoLo: 0xfedcba98 - i },
	path: Buffer.from(`directory ${i % 7}/\xff name ${i}`, "latin1"),
});

test("every row is found by its path and by its handle, and nothing else is", (t) => {
	const folder = mkdtempSync(join(tmpdir(), "holdfast-rows-"));
	t.after(() => rmSync(folder, { recursive: true }));
	const writer = new ReboundWriter(folder);
	const rows = Array.from({ length: 3000 }, (_, i) => rowOf(i));
	for (const row of rows) writer.add(row);
	assert.equal(writer.finish(), 3000);
	const found = new ReboundRows(folder);
	for (const row of rows) {
		assert.deepEqual(found.byPath(row.layer, row.hash), row);
		const byHandle = found.byHandle(row.handle);
		assert.ok(byHandle?.handle.bytes.equals(row.handle.bytes));
		assert.equal(found.byPath(row.layer + 3, row.hash), null);
	}
	assert.equal(found.byHandle({ type: 1, bytes: Buffer.alloc(8) }), null);
	assert.equal(found.byHandle({ type: 2, bytes: rows[0].handle.bytes }), null);
	found.close();
});

test("without rows nothing is found", (t) => {
	const folder = mkdtempSync(join(tmpdir(), "holdfast-rows-"));
	t.after(() => rmSync(folder, { recursive: true }));
	assert.equal(new ReboundWriter(folder).finish(), 0);
	const found = new ReboundRows(folder);
	assert.equal(found.byPath(0, Buffer.alloc(16)), null);
	found.close();
});
