// What exports of one process share, and what is left for each.

import assert from "node:assert/strict";
import { test } from "node:test";
import { raiseDescriptorLimit } from "../../linux/limits.ts";
import { Budget } from "./budget.ts";

test("what is open of exports is taken from the descriptors for objects, and given back", () => {
	const budget = new Budget();
	const before = budget.descriptors.limit;
	// enough that the upper bound of the cache does not hide it
	const lowers = Math.floor((raiseDescriptorLimit() - 4096) / 5 / 2);
	const readOnly = budget.openLayers(lowers, false);
	const less = budget.descriptors.limit;
	const writable = budget.openLayers(0, true);
	assert.ok(less <= before && budget.descriptors.limit <= less);
	assert.throws(() => budget.openLayers(lowers * 2, false), /Cannot open \d+ lowers: this process may have \d+ descriptors open/);
	writable.close();
	assert.equal(budget.descriptors.limit, less);
	readOnly.close();
	assert.equal(budget.descriptors.limit, before);
});

test("bounds that were given hold, whatever is open", () => {
	const budget = new Budget({ nodesMax: 5, descriptorsMax: 6, listingBytesMax: 7 });
	budget.openLayers(10, true);
	assert.deepEqual([budget.nodes.limit, budget.descriptors.limit, budget.listings.bytesMax], [5, 6, 7]);
});

test("uppers share threads by their file system", () => {
	const budget = new Budget();
	const a = budget.upperThreads("a");
	assert.equal(a, budget.upperThreads("a"));
	const alone = a.flushesMax;
	assert.notEqual(budget.upperThreads("a"), budget.upperThreads("b"));
	assert.ok(a.flushesMax < alone && a.flushesMax === budget.upperThreads("b").flushesMax, "a disk that hangs must not take all flushes");
});
