// Descriptors that the event loop watches.

import assert from "node:assert/strict";
import { readFileSync, readSync, writeSync } from "node:fs";
import { test } from "node:test";
import { socketPair } from "./descriptor-passing.ts";
import { ERRNO } from "./errno.ts";
import { close, setCloseOnExec, setNonblocking } from "./open.ts";
import { type Watch, watchReadable } from "./watch.ts";

function pair() {
	const made = socketPair("seqpacket");
	assert.ok(typeof made !== "number", `errno ${made}`);
	return made;
}

/** Resolves at the next time that there is something to read, and watches no further. */
function readable(fd: number): Promise<void> {
	return new Promise((resolve) => {
		const watch = watchReadable(fd, () => {
			watch.close();
			resolve();
		});
	});
}

test("watchReadable tells when something can be read, and when the other end is gone", async () => {
	const [near, far] = pair();
	assert.equal(setNonblocking(far, true), 0);
	const bytes = Buffer.alloc(16);
	assert.throws(() => readSync(far, bytes), { code: "EAGAIN" });
	for (const text of ["one", "two"]) {
		const told = readable(far);
		writeSync(near, text);
		await told;
		assert.equal(bytes.toString("latin1", 0, readSync(far, bytes)), text);
	}
	const told = readable(far);
	close(near);
	await told;
	assert.equal(readSync(far, bytes), 0);
	close(far);
});

test("a watch that is paused tells nothing until it is resumed", async () => {
	const [near, far] = pair();
	let told = 0;
	const watch: Watch = watchReadable(far, () => {
		told++;
		watch.pause();
	});
	writeSync(near, "x");
	while (told === 0) await new Promise((resolve) => setImmediate(resolve));
	for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setImmediate(resolve));
	assert.equal(told, 1, "paused, though there is something to read");
	watch.resume();
	while (told === 1) await new Promise((resolve) => setImmediate(resolve));
	watch.close();
	for (const fd of [near, far]) close(fd);
});

test("setNonblocking and setCloseOnExec give and take their flag, and say what is no descriptor", () => {
	const [near, far] = pair();
	const flags = () => Number.parseInt(/flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${far}`, "utf8"))?.[1] ?? "", 8);
	const [O_NONBLOCK, O_CLOEXEC] = [0o4000, 0o2000000];
	for (const isOn of [true, false, true]) {
		assert.equal(setNonblocking(far, isOn), 0);
		assert.equal((flags() & O_NONBLOCK) !== 0, isOn);
		assert.equal(setCloseOnExec(far, isOn), 0);
		assert.equal((flags() & O_CLOEXEC) !== 0, isOn);
	}
	for (const fd of [near, far]) close(fd);
	assert.equal(setNonblocking(far, true), -ERRNO.EBADF);
	assert.equal(setCloseOnExec(far, true), -ERRNO.EBADF);
});
