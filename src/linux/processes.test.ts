// Children of processes, and what takes the terminal.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { childrenOf, isRunning } from "./processes.ts";

test("childrenOf lists the living children of a process, and none of one that has ended", async () => {
	const child = spawn("sleep", ["600"]);
	await once(child, "spawn");
	const pid = child.pid as number;
	assert.ok(childrenOf(process.pid).includes(pid));
	assert.deepEqual(childrenOf(pid), []);
	child.kill("SIGKILL");
	await once(child, "exit");
	assert.equal(isRunning(pid), false);
	assert.ok(!childrenOf(process.pid).includes(pid));
	assert.deepEqual(childrenOf(pid), []);
});
