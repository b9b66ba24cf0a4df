// Slices of time: what runs at once, what waits for a turn, and in which order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Line, Slices } from "./slices.ts";

test("tasks run at once until the slice is over, then in later turns, in their order", async () => {
	let now = 0;
	const slices = new Slices(() => now);
	const line = new Line();
	const ran: number[] = [];
	// 2 ms each: three of them fit
	for (let i = 0; i < 10; i++) {
		slices.run(line, () => {
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
	slices.run(line, () => ran.push(10));
	assert.equal(ran.at(-1), 10);
});

test("what many wait for lets them go on in slices, in their order, whatever has become of it", async () => {
	let now = 0;
	const slices = new Slices(() => now);
	const ran: string[] = [];
	const line = new Line();
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
	for (let i = 0; i < 6; i++) slices.after(good, line, begin(`good ${i}`));
	for (let i = 0; i < 2; i++) slices.after(bad, line, begin(`bad ${i}`));
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
	slices.after(Promise.resolve(), line, begin("alone"));
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

test("who has one task waits for one of each line, and not for all of another's", async () => {
	let now = 0;
	const slices = new Slices(() => now);
	const [many, more, one] = [new Line(), new Line(), new Line()];
	const ran: string[] = [];
	const noted = (name: string) => () => {
		ran.push(name);
		now += 2;
	};
	let resolve: () => void = () => {};
	const ready = new Promise<void>((settle) => {
		resolve = settle;
	});
	for (let i = 0; i < 1000; i++) slices.after(ready, many, noted(`many ${i}`));
	for (let i = 0; i < 3; i++) slices.after(ready, more, noted(`more ${i}`));
	resolve();
	await Promise.resolve();
	assert.deepEqual([slices.size, slices.lines], [1003, 2]);
	slices.run(one, noted("one"));
	while (ran.length < 9) await nextTurn();
	assert.deepEqual(ran.slice(0, 9), ["many 0", "more 0", "one", "many 1", "more 1", "many 2", "more 2", "many 3", "many 4"]);
	// each turn has no more of them than fit into its slice
	const before = ran.length;
	await nextTurn();
	assert.ok(ran.length - before <= 3, `${ran.length - before} tasks in one turn`);
	while (slices.size > 0) await nextTurn();
	assert.deepEqual(
		ran.filter((name) => name.startsWith("many")),
		Array.from({ length: 1000 }, (_, i) => `many ${i}`),
	);
	assert.equal(slices.lines, 0);
});
