// The rules of slots, one by one (RFC 8881 section 2.10.6), and the room for kept replies.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checkTables } from "./check-tables.test-support.ts";
import { ClaimError } from "./errors.ts";
import { CHANNEL, LEASE_SECONDS, newClaims, refuses, TestClient } from "./new-claims.test-support.ts";
import type { SequenceArguments } from "./operations.ts";

function start() {
	const { claims, told } = newClaims();
	const { session } = new TestClient(claims, "a").connect();
	const take = (sequence: number, other: Partial<SequenceArguments> = {}) =>
		claims.sequence(session, { slot: 0, sequence, highestSlot: 0, keepsReply: true, digestHi: 1, digestLo: sequence, ...other });
	return { claims, told, session, take };
}

const REPLY = Buffer.from("a reply");

test("a retry of a finished request gets its reply", () => {
	const { claims, take } = start();
	const slot = take(1);
	assert.equal(slot.outcome, "new");
	claims.finish(slot, REPLY);
	for (let i = 0; i < 2; i++) {
		const again = take(1);
		assert.equal(again.outcome, "replay");
		assert.deepEqual(again.reply, REPLY);
	}
	assert.equal(take(2).outcome, "new");
});

test("a retry of a running request is told to wait", () => {
	const { claims, take } = start();
	const slot = take(1);
	refuses("delay", () => take(1));
	refuses("seq_misordered", () => take(2));
	claims.finish(slot, REPLY);
	assert.equal(take(1).outcome, "replay");
});

test("another request under the number of the last one is a false retry", () => {
	const { claims, take } = start();
	const slot = take(1);
	refuses("seq_false_retry", () => take(1, { digestLo: 77 }));
	claims.finish(slot, REPLY);
	refuses("seq_false_retry", () => take(1, { digestHi: 77 }));
	assert.equal(take(1).outcome, "replay");
});

test("any other number is misordered, also the first and at the end of 32 bits", () => {
	const { claims, session, take } = start();
	for (const sequence of [0, 2, 0xffffffff]) refuses("seq_misordered", () => take(sequence));
	claims.finish(take(1), REPLY);
	for (const sequence of [0, 3, 0x80000001]) refuses("seq_misordered", () => take(sequence));
	const slot = take(2);
	claims.finish(slot, REPLY);
	(slot as { sequence: number }).sequence = 0xffffffff;
	claims.finish(take(0), REPLY);
	assert.equal(take(1).outcome, "new");
	assert.equal(session.fore.requests, 64);
});

test("slots beyond those granted are refused, by their number and by the highest in use", () => {
	const { take } = start();
	refuses("bad_slot", () => take(1, { slot: 64 }));
	refuses("bad_slot", () => take(1, { slot: 0xffffffff }));
	refuses("bad_high_slot", () => take(1, { highestSlot: 64 }));
	assert.equal(take(1, { slot: 63, highestSlot: 63 }).outcome, "new");
});

test("a reply that was not to be kept, or is too long, is told to be gone", () => {
	const { claims, take } = start();
	const slot = take(1, { keepsReply: false });
	assert.equal(claims.keptBytes(slot), 0);
	claims.finish(slot, REPLY);
	refuses("retry_uncached_rep", () => take(1));
	const long = take(2);
	assert.equal(claims.keptBytes(long), CHANNEL.keptResponseBytes);
	claims.finish(long, Buffer.alloc(CHANNEL.keptResponseBytes + 1));
	refuses("retry_uncached_rep", () => take(2));
	claims.finish(take(3), Buffer.alloc(CHANNEL.keptResponseBytes));
	assert.equal(take(3).outcome, "replay");
});

test("a SEQUENCE that fails changes no slot and renews no lease", () => {
	const { claims, told, session, take } = start();
	const slot = take(1);
	told.time += LEASE_SECONDS * 1000;
	for (const other of [{ slot: 64 }, { highestSlot: 99 }, { digestLo: 9 }]) assert.throws(() => take(1, other), ClaimError);
	for (const sequence of [1, 2, 7]) assert.throws(() => take(sequence), ClaimError);
	told.time += 1;
	assert.equal(claims.clients.isExpired(session.client as never), true);
	claims.finish(slot, REPLY);
	assert.equal(take(2).outcome, "new");
	assert.equal(claims.clients.isExpired(session.client as never), false);
});

test("a session is found by all bytes of its id", () => {
	const { claims, session } = start();
	assert.equal(claims.session(Buffer.from(session.id)), session);
	for (let at = 0; at < 16; at++) {
		const id = Buffer.from(session.id);
		id[at] ^= 1;
		refuses("bad_session", () => claims.session(id));
	}
	refuses("bad_session", () => claims.session(session.id.subarray(0, 15)));
});

test("room for replies: as it gets scarce fewer slots are granted, and at the end one with a short reply, never none", () => {
	const { claims } = newClaims({ limits: { clients: 41, sessionsPerClient: 16, keptReplyBytesTotal: 4 * 1024 * 1024 } });
	const granted: number[] = [];
	let kept = 0;
	for (let i = 0; i < 40; i++) {
		const client = new TestClient(claims, `client ${i}`);
		client.exchange();
		for (let session = 0; session < 16; session++) {
			const { fore } = client.create();
			granted.push(fore.requests);
			assert.ok(fore.requests >= 1 && fore.keptResponseBytes >= 1024);
			kept += fore.requests * fore.keptResponseBytes;
		}
	}
	assert.ok(granted[0] > 40);
	assert.equal(granted.at(-1), 1);
	assert.ok(kept <= 4 * 1024 * 1024, `${kept} bytes may be kept`);
	checkTables(claims);
	for (const client of [...claims.tables.clients.values()]) {
		for (const session of [...client.sessions]) claims.destroySession(session.id, "root");
	}
	assert.equal(claims.sessions.reservedBytes, 0);
	assert.equal(new TestClient(claims, "late").connect().session.fore.requests, granted[0]);
});

test("a session may be destroyed while a request of its has a slot", () => {
	const { claims, session, take } = start();
	const slot = take(1);
	claims.destroySession(session.id, "root");
	claims.finish(slot, REPLY);
	refuses("bad_session", () => claims.session(session.id));
	checkTables(claims);
});
