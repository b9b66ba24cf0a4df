// Slices of time: what runs at once, what waits for a turn, and in which order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Slices } from "./slices.ts";

test("tasks run at once until the slice is over, then in later turns, in their order", async () => {
	let now = 0;
	const slices = new Slices(() => now);
	const ran: number[] = [];
	// 2 ms each: three of them fit
	for (let i = 0; i < 10; i++) {
		slices.run(() => {
			ran.push(i);
			now += 2;
		});
	}
	assert.deepEqual(ran, [0, 1, 2]);
	const turns: number[] = [];
	while (slices.size > 0) {
		await nextTurn();
		turns.push(ran.length);
	}
	assert.deepEqual(ran, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
	assert.ok(turns.length >= 2, turns.join());
	await nextTurn();
	slices.run(() => ran.push(10));
	assert.equal(ran.at(-1), 10);
});
