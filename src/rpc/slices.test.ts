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

test("what many wait for lets them go on in slices, in their order, whatever has become of it", async () => {
	let now = 0;
	const slices = new Slices(() => now);
	const ran: string[] = [];
	let resolve: () => void = () => {};
	let reject: (error: Error) => void = () => {};
	const good = new Promise<void>((settle) => {
		resolve = settle;
	});
	const bad = new Promise<void>((_, settle) => {
		reject = settle;
	});
	const begin = (name: string) => (isFulfilled: boolean) => {
		ran.push(`${name} ${isFulfilled}`);
		now += 2;
	};
	for (let i = 0; i < 6; i++) slices.after(good, begin(`good ${i}`));
	for (let i = 0; i < 2; i++) slices.after(bad, begin(`bad ${i}`));
	await nextTurn();
	assert.deepEqual(ran, []);
	resolve();
	reject(new Error("as it may"));
	await Promise.resolve();
	assert.deepEqual([ran.length, slices.size], [0, 8]);
	await nextTurn();
	assert.equal(ran.length, 3);
	while (slices.size > 0) await nextTurn();
	assert.deepEqual(ran, [...Array.from({ length: 6 }, (_, i) => `good ${i} true`), "bad 0 false", "bad 1 false"]);
	// one alone does not wait for a turn
	await nextTurn();
	await nextTurn();
	slices.after(Promise.resolve(), begin("alone"));
	await Promise.resolve();
	assert.equal(ran.at(-1), "alone true");
});

test("a slice is over when its time is, and the next turn has another one", async () => {
	let now = 0;
	const slices = new Slices(() => now);
	assert.equal(slices.isSpent, false);
	now += 4;
	assert.equal(slices.isSpent, false);
	now += 2;
	assert.equal(slices.isSpent, true);
	await nextTurn();
	assert.equal(slices.isSpent, false);
});
