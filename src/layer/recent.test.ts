import assert from "node:assert/strict";
import { test } from "node:test";
import { setRecent } from "./recent.ts";

test("what was noted longest ago goes when there are too many", () => {
	const map = new Map<string, number>();
	for (const [value, key] of ["a", "b", "a", "c"].entries()) setRecent(map, key, value, 2);
	assert.deepEqual(
		[...map],
		[
			["a", 2],
			["c", 3],
		],
	);
	setRecent(map, "a", 4, 2);
	assert.deepEqual(
		[...map],
		[
			["c", 3],
			["a", 4],
		],
	);
});
