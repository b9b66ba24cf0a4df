// Whole messages, read and written at addresses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { socketPair } from "./descriptor-passing.ts";
import { ERRNO } from "./errno.ts";
import { allocate } from "./memory.ts";
import { readMessage, writeMessage } from "./messages.ts";
import { close, setNonblocking } from "./open.ts";

test("readMessage and writeMessage move one whole message, and tell when there is none and when the other end is gone", () => {
	const pair = socketPair("seqpacket");
	assert.ok(typeof pair !== "number");
	const [near, far] = pair;
	const memory = allocate(64);
	setNonblocking(far, true);
	assert.equal(readMessage(far, memory.address, 64), -ERRNO.EAGAIN);
	memory.bytes.write("onetwo");
	assert.equal(writeMessage(near, memory.address, 3), 3);
	assert.equal(writeMessage(near, memory.address + 3, 3), 3);
	assert.equal(readMessage(far, memory.address + 32, 32), 3);
	assert.equal(readMessage(far, memory.address + 35, 29), 3);
	assert.equal(memory.bytes.toString("latin1", 32, 38), "onetwo");
	close(near);
	assert.equal(readMessage(far, memory.address, 64), 0);
	assert.equal(writeMessage(far, memory.address, 3), -ERRNO.EPIPE);
	close(far);
});
