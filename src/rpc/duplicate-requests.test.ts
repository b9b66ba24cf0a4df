// The duplicate request cache: repeats, bounds and saved files.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checksum, DuplicateRequests, type RequestIdentity } from "./duplicate-requests.ts";

const MINUTE_MS = 60_000;

function identity(xid: number, checksumLo = 7): RequestIdentity {
	return { xid, program: 100003, version: 3, procedure: 12, length: 100, checksumHi: 5, checksumLo };
}

function remember(cache: DuplicateRequests<string>, name: string, xid: number, reply: string): void {
	const client = cache.connected(name);
	cache.finish(client, cache.begin(client, identity(xid)), Buffer.from(reply));
	cache.disconnected(client);
}

function replyOf(cache: DuplicateRequests<string>, name: string, xid: number): string | undefined {
	const client = cache.connected(name);
	const reply = cache.find(client, identity(xid))?.reply?.toString();
	cache.disconnected(client);
	return reply;
}

test("a request is the same only if client, xid, procedure, length and checksum agree", () => {
	const cache = new DuplicateRequests<string>(() => 0);
	remember(cache, "a", 1, "reply");
	const client = cache.connected("a");
	assert.equal(cache.find(client, identity(1))?.reply?.toString(), "reply");
	assert.equal(cache.find(client, identity(2)), undefined);
	assert.equal(cache.find(client, identity(1, 8)), undefined);
	assert.equal(cache.find(client, { ...identity(1), checksumHi: 6 }), undefined);
	assert.equal(cache.find(client, { ...identity(1), length: 101 }), undefined);
	assert.equal(cache.find(client, { ...identity(1), procedure: 13 }), undefined);
	assert.equal(cache.find(cache.connected("b"), identity(1)), undefined);
});

test("entries and reply bytes are bounded for each client, and one client's do not push out another's", () => {
	const cache = new DuplicateRequests<string>(() => 0, { clients: 4, entriesPerClient: 10, replyBytesPerClient: 1000 });
	remember(cache, "quiet", 1, "kept");
	for (let xid = 1; xid <= 100; xid++) remember(cache, "busy", xid, "reply");
	assert.equal(replyOf(cache, "busy", 90), undefined);
	assert.equal(replyOf(cache, "busy", 91), "reply");
	for (let xid = 1; xid <= 5; xid++) remember(cache, "wordy", xid, "x".repeat(400));
	assert.equal(replyOf(cache, "wordy", 3), undefined);
	assert.equal(replyOf(cache, "wordy", 4)?.length, 400);
	assert.equal(replyOf(cache, "quiet", 1), "kept");
});

test("a request that still runs is not dropped", () => {
	const cache = new DuplicateRequests<string>(() => 0, { clients: 1, entriesPerClient: 2, replyBytesPerClient: 1000 });
	const client = cache.connected("a");
	const running = cache.begin(client, identity(1));
	for (let xid = 2; xid < 10; xid++) remember(cache, "a", xid, "reply");
	assert.equal(cache.find(client, identity(1)), running);
	cache.disconnected(client);
	cache.connected("b");
	assert.equal(cache.find(cache.connected("a"), identity(1)), running);
});

test("of too many clients the longest away goes, and none that is connected", () => {
	const cache = new DuplicateRequests<string>(() => 0, { clients: 2, entriesPerClient: 2, replyBytesPerClient: 1000 });
	const connected = cache.connected("connected");
	cache.finish(connected, cache.begin(connected, identity(1)), Buffer.from("reply"));
	remember(cache, "gone", 1, "reply");
	remember(cache, "new", 1, "reply");
	assert.equal(cache.find(cache.connected("connected"), identity(1))?.reply?.toString(), "reply");
	assert.equal(replyOf(cache, "gone", 1), undefined);
});

test("what was saved is restored, but for what is older than 15 minutes and what still ran", () => {
	let now = 1000 * MINUTE_MS;
	const before = new DuplicateRequests<string>(() => now);
	remember(before, "a", 1, "old");
	now += 10 * MINUTE_MS;
	remember(before, "a", 2, "new");
	remember(before, "fe80::1%eth0", 3, "other");
	before.begin(before.connected("a"), identity(4));
	const saved = before.save();
	now += 6 * MINUTE_MS;
	const after = new DuplicateRequests<string>(() => now);
	after.restore(saved);
	assert.equal(replyOf(after, "a", 1), undefined);
	assert.equal(replyOf(after, "a", 2), "new");
	assert.equal(replyOf(after, "fe80::1%eth0", 3), "other");
	assert.equal(after.find(after.connected("a"), identity(4)), undefined);
});

test("saved replies that are cut short or changed in any byte are refused whole", () => {
	const cache = new DuplicateRequests<string>(() => 0);
	remember(cache, "a", 1, "reply");
	const saved = cache.save();
	for (let length = 0; length < saved.length; length++) {
		assert.throws(() => cache.restore(saved.subarray(0, length)), /The saved replies (are cut short|fail their checksum)/);
	}
	for (let at = 0; at < saved.length; at++) {
		const changed = Buffer.from(saved);
		changed[at] ^= 1;
		assert.throws(() => new DuplicateRequests<string>(() => 0).restore(changed), /fail their checksum/);
	}
});

test("the checksum tells any two records apart that differ in one bit", () => {
	const bytes = Buffer.alloc(67, "some request");
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
	const seen = new Set<string>();
	const note = (): void => {
		const into = identity(1);
		into.checksumHi = 0;
		into.checksumLo = 0;
		checksum(view, 0, bytes.length, into);
		seen.add(`${into.checksumHi} ${into.checksumLo}`);
	};
	note();
	for (let bit = 0; bit < bytes.length * 8; bit++) {
		bytes[bit >> 3] ^= 1 << (bit & 7);
		note();
		bytes[bit >> 3] ^= 1 << (bit & 7);
	}
	assert.equal(seen.size, 1 + bytes.length * 8);
});
