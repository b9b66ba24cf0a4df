// The duplicate request cache: repeats, bounds and saved files.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
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
	assert.equal(cache.find(connected, identity(1))?.reply?.toString(), "reply");
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

test("an equal request of another connection is a repetition only once the first connection is left, and then of one of the two that come", () => {
	const cache = new DuplicateRequests<string>(() => 0);
	const [a, b, c] = [cache.connected("host", 700), cache.connected("host", 701), cache.connected("host", 702)];
	cache.finish(a, cache.begin(a, identity(1)), Buffer.from("to a"));
	assert.equal(cache.find(b, identity(1)), undefined);
	cache.finish(b, cache.begin(b, identity(1)), Buffer.from("to b"));
	assert.equal(cache.find(a, identity(1))?.reply?.toString(), "to a");
	assert.equal(cache.find(b, identity(1))?.reply?.toString(), "to b");
	cache.disconnected(a);
	assert.equal(cache.find(c, identity(1))?.reply?.toString(), "to a");
	assert.equal(cache.find(cache.connected("host", 700), identity(1)), undefined, "it belongs to c now");
	cache.disconnected(c);
	assert.equal(cache.find(cache.connected("host", 703), identity(1))?.reply?.toString(), "to a");
});

test("a connection whose peer has left counts as left before it is closed", () => {
	const cache = new DuplicateRequests<string>(() => 0);
	const [a, b] = [cache.connected("host"), cache.connected("host")];
	cache.finish(a, cache.begin(a, identity(1)), Buffer.from("to a"));
	let hasLeft = false;
	a.hasPeerLeft = () => hasLeft;
	assert.equal(cache.find(b, identity(1)), undefined);
	hasLeft = true;
	assert.equal(cache.find(b, identity(1))?.reply?.toString(), "to a");
});

test("of two clients that come back to one address, over a restart too, each from its port gets its own reply, and each from another port one of them", () => {
	for (const isRestarted of [false, true]) {
		let cache = new DuplicateRequests<string>(() => 0);
		const [a, b] = [cache.connected("host", 700), cache.connected("host", 701)];
		for (const [source, reply] of [
			[a, "to a"],
			[b, "to b"],
		] as const) {
			for (const xid of [1, 2]) cache.finish(source, cache.begin(source, identity(xid)), Buffer.from(reply));
		}
		if (isRestarted) {
			const saved = cache.save();
			cache = new DuplicateRequests<string>(() => 0);
			cache.restore(saved);
		} else for (const source of [a, b]) cache.disconnected(source);
		const [again, againB] = [cache.connected("host", 701), cache.connected("host", 700)];
		assert.equal(cache.find(again, identity(1))?.reply?.toString(), "to b");
		assert.equal(cache.find(againB, identity(1))?.reply?.toString(), "to a");
		const others = [800, 801, 802].map((port) => cache.find(cache.connected("host", port), identity(2))?.reply?.toString());
		assert.deepEqual(others.toSorted(), ["to a", "to b", undefined]);
	}
});

test("replies that an earlier version has saved, without ports, are restored", () => {
	const cache = new DuplicateRequests<string>(() => 0);
	remember(cache, "a", 1, "reply");
	// the port is the four bytes behind magic, version, time, a flag, and the name with its length
	const content = cache.save().subarray(0, -32);
	const at = 4 + 4 + 8 + 4 + 8;
	const before = Buffer.concat([content.subarray(0, at), content.subarray(at + 4)]);
	before.writeUInt32BE(1, 4);
	const restored = new DuplicateRequests<string>(() => 0);
	restored.restore(Buffer.concat([before, createHash("sha256").update(before).digest()]));
	assert.equal(replyOf(restored, "a", 1), "reply");
});

test("whoever comes and goes without a change takes nobody's place", () => {
	const cache = new DuplicateRequests<string>(() => 0, { clients: 2, entriesPerClient: 2, replyBytesPerClient: 1000 });
	remember(cache, "a", 1, "reply");
	remember(cache, "b", 1, "reply");
	for (let i = 0; i < 100; i++) cache.disconnected(cache.connected(`passer-by ${i}`));
	for (let i = 0; i < 100; i++) cache.connected(`idle ${i}`);
	assert.equal(replyOf(cache, "a", 1), "reply");
	assert.equal(replyOf(cache, "b", 1), "reply");
});

test("what a request costs does not grow with the requests that run: none of them is looked at", () => {
	const cache = new DuplicateRequests<string>(() => 0, { clients: 2, entriesPerClient: 10, replyBytesPerClient: 1000 });
	const source = cache.connected("a");
	let looks = 0;
	for (let xid = 1; xid <= 5000; xid++) {
		const running = cache.begin(source, identity(xid));
		Object.defineProperty(running, "reply", {
			get() {
				looks++;
				return null;
			},
		});
	}
	for (let xid = 10_001; xid <= 10_100; xid++) {
		assert.equal(cache.find(source, identity(xid)), undefined);
		cache.finish(source, cache.begin(source, identity(xid)), Buffer.from("reply"));
	}
	assert.equal(looks, 0);
	assert.equal(cache.find(source, identity(10_090)), undefined);
	assert.equal(cache.find(source, identity(10_091))?.reply?.toString(), "reply");
});
