// Programs and versions that a dispatcher puts together.

import assert from "node:assert/strict";
import { test } from "node:test";
import { allocate } from "../linux/memory.ts";
import { CallerCache, STRANGER } from "./caller.ts";
import { Dispatcher, type ReplyChannel } from "./dispatcher.ts";
import { DuplicateRequests } from "./duplicate-requests.ts";
import { DEFAULT_RPC_LIMITS } from "./limits.ts";
import { NULL_PROCEDURE, type Procedure, type Program } from "./program.ts";
import { ReplyWriter } from "./reply-writer.ts";
import { encodeCall, xdr } from "./rpc-client.test-support.ts";
import { SlabPool } from "./slab-pool.ts";
import { Line } from "./slices.ts";

/** A version whose only procedure answers with a number. */
function program(number: number, version: number, answer: number): Program {
	const procedure: Procedure = {
		name: "ANSWER",
		remembered: false,
		run(_caller, _args, reply) {
			reply.u32(answer);
			return undefined;
		},
	};
	return { number, name: `program ${number}`, versions: new Map([[version, [procedure]]]) };
}

function dispatcher(programs: readonly Program[], isRefused = false) {
	const pool = new SlabPool(allocate, DEFAULT_RPC_LIMITS.replyBytesTotal);
	const duplicates = new DuplicateRequests<ReplyChannel>(Date.now);
	const callers = new CallerCache(STRANGER);
	const tried = new Dispatcher(programs, duplicates, new ReplyWriter(pool), callers.anonymous());
	const channel: ReplyChannel = {
		closed: false,
		reply: new ReplyWriter(pool),
		callers,
		source: duplicates.connected("10.0.0.1"),
		isRefused,
		line: new Line(),
		began() {},
		ended() {},
		flushSoon() {},
		isSpared: false,
		number: 1,
		call: () => Promise.reject(new Error("no calls")),
		whenClosed() {},
		answered() {},
		destroy() {},
	};
	return (number: number, version: number, procedure = 0): string => {
		const recordBytes = encodeCall({ xid: 9, program: number, version, procedure });
		const recordView = new DataView(recordBytes.buffer, recordBytes.byteOffset, recordBytes.length);
		tried.take(channel, { recordBytes, recordView, recordStart: 0, recordEnd: recordBytes.length });
		return channel.reply.finishedRecord().subarray(4).toString("hex");
	};
}

test("versions of one program may come from several rooms, and are told as one range", () => {
	const call = dispatcher([program(1, 3, 33), program(2, 1, 21), program(1, 4, 44)]);
	const accepted = (...words: number[]): string => xdr(9, 1, 0, 0, 0, ...words).toString("hex");
	assert.equal(call(1, 3), accepted(0, 33));
	assert.equal(call(1, 4), accepted(0, 44));
	assert.equal(call(2, 1), accepted(0, 21));
	for (const version of [2, 5]) assert.equal(call(1, version), accepted(2, 3, 4));
	assert.equal(call(2, 3), accepted(2, 1, 1));
	assert.equal(call(3, 3), accepted(1));
});

test("a version that two rooms give is a fault of ours", () => {
	assert.throws(() => dispatcher([program(1, 3, 33), program(1, 3, 34)]), /Version 3 of the program program 1 is there twice/);
});

test("a peer that is refused gets AUTH_TOOWEAK from every procedure but NULL", () => {
	let runs = 0;
	const procedure: Procedure = { name: "CHANGE", remembered: true, run: () => void runs++ };
	const programs = [{ number: 1, name: "program", versions: new Map([[3, [NULL_PROCEDURE, procedure]]]) }];
	const denied = xdr(9, 1, 1, 1, 5).toString("hex");
	const accepted = (...words: number[]): string => xdr(9, 1, 0, 0, 0, ...words).toString("hex");
	const refused = dispatcher(programs, true);
	assert.equal(refused(1, 3, 0), accepted(0));
	assert.equal(refused(1, 3, 1), denied);
	assert.equal(refused(1, 3, 2), accepted(3));
	assert.equal(runs, 0);
	assert.equal(dispatcher(programs)(1, 3, 1), accepted(0));
	assert.equal(runs, 1);
});
