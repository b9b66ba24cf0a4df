// Calls into the C library, and memory for their arguments.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "../../test/support/scratch.ts";
import { arena, arenaAddress, interceptChanges, PLACE, putPath } from "./libc.ts";
import { allocate } from "./memory.ts";
import { makeDirectory } from "./names.ts";
import { close, O, openAt, openPath } from "./open.ts";

test("a path is put into the arena as it is and ends with NUL, whatever stood there", () => {
	arena.fill(0xff, PLACE.path, PLACE.openHow);
	for (const path of [Buffer.from([0xff, 0x80, 1]), "été", "", Buffer.alloc(0)]) {
		assert.equal(putPath(PLACE.otherPath, path), arenaAddress + PLACE.otherPath);
		const bytes = Buffer.from(path);
		assert.deepEqual(arena.subarray(PLACE.otherPath, PLACE.otherPath + bytes.length + 1), Buffer.concat([bytes, Buffer.alloc(1)]));
	}
});

test("a path that would run into the next place is refused", () => {
	arena[PLACE.otherPath] = 0x5a;
	putPath(PLACE.path, Buffer.alloc(8191, "p"));
	assert.equal(arena[PLACE.otherPath], 0x5a);
	assert.throws(() => putPath(PLACE.path, Buffer.alloc(8192, "p")), RangeError);
	// three bytes for each of these
	assert.throws(() => putPath(PLACE.path, "€".repeat(2731)), RangeError);
});

test("memory of allocate does not move, and its address is that of its first byte", () => {
	const one = allocate(4096);
	const two = allocate(4096);
	assert.ok(Math.abs(one.address - two.address) >= 4096);
	assert.equal(one.bytes.length, 4096);
	assert.ok(one.bytes.every((byte) => byte === 0));
});

test("a hook that throws stops a change before it is made, and does not see what only reads", (t) => {
	const folder = scratch(t);
	const directory = openPath(folder.path, O.rdonly | O.directory);
	folder.beforeRemoval(() => close(directory));
	t.after(() => interceptChanges(null));
	const seen: string[] = [];
	interceptChanges((name) => {
		seen.push(name);
		throw new Error("stop");
	});
	close(openAt(directory, ".", O.path));
	assert.throws(() => makeDirectory(directory, "d", 0o700), /stop/);
	assert.deepEqual(seen, ["mkdirat"]);
	assert.ok(!existsSync(join(folder.path, "d")));
	interceptChanges(null);
	assert.equal(makeDirectory(directory, "d", 0o700), 0);
});
