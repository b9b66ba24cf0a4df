// Replies that outlive a stop of the server.

import assert from "node:assert/strict";
import { existsSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Scratch, scratch } from "../../test/support/scratch.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { DuplicateRequests } from "../rpc/duplicate-requests.ts";
import type { ListenAddress } from "./listen-address.ts";
import { restoreReplies, saveReplies } from "./saved-replies.ts";

const HERE: ListenAddress[] = [{ host: "127.0.0.1", port: 1 }];
const IDENTITY = { program: 100003, version: 3, procedure: 12, length: 100, checksumHi: 1, checksumLo: 2 };

function exported(made: Scratch, name: string, upper: string | null = "/upper"): OpenedOverlay {
	const overlay = { engine: { layers: [], dataFiles: { layers: [] } } };
	return { folder: made.folder(name), upper, overlay } as unknown as OpenedOverlay;
}

function cacheWith(...xids: number[]): DuplicateRequests<unknown> {
	const cache = new DuplicateRequests<unknown>(Date.now);
	const client = cache.connected("10.0.0.1");
	for (const xid of xids) cache.finish(client, cache.begin(client, { ...IDENTITY, xid }), Buffer.from(`reply ${xid}`));
	return cache;
}

function known(state: string, addresses: readonly ListenAddress[], exports: readonly OpenedOverlay[], warnings: string[] = []): number[] {
	const cache = new DuplicateRequests<unknown>(Date.now);
	restoreReplies(cache, state, addresses, exports, (sentence) => warnings.push(sentence));
	const client = cache.connected("10.0.0.1");
	return [1, 2, 3].filter((xid) => cache.find(client, { ...IDENTITY, xid })?.reply?.toString() === `reply ${xid}`);
}

test("replies are found again at the same addresses, in any order, and at no others", (t) => {
	const made = scratch(t);
	const [state, exports] = [made.folder("state"), [exported(made, "a"), exported(made, "b")]];
	const two: ListenAddress[] = [...HERE, { path: join(made.path, "socket") }];
	saveReplies(cacheWith(1), state, HERE, exports);
	saveReplies(cacheWith(2, 3), state, two, exports);
	assert.deepEqual(known(state, HERE, exports), [1]);
	assert.deepEqual(known(state, [...two].reverse(), exports), [2, 3]);
	assert.deepEqual(known(state, [{ host: "127.0.0.1", port: 2 }], exports), []);
	assert.deepEqual(known(state, HERE, []), [1], "whatever is exported there");
});

test("replies that lie with an export are read too, until the next save", (t) => {
	const made = scratch(t);
	const [state, exports] = [made.folder("state"), [exported(made, "a"), exported(made, "b")]];
	const old = join(exports[1].folder, "replies");
	saveReplies(cacheWith(1), state, HERE, exports);
	writeFileSync(old, cacheWith(3).save());
	assert.deepEqual(known(state, HERE, exports), [1, 3]);
	assert.deepEqual(known(state, HERE, exports), [1, 3]);
	saveReplies(cacheWith(1, 2, 3), state, HERE, exports);
	assert.ok(!existsSync(old));
	assert.deepEqual(known(state, HERE, exports), [1, 2, 3]);
});

test("a file that cannot be used is told, and keeps no other from being read", (t) => {
	const made = scratch(t);
	const [state, exports] = [made.folder("state"), [exported(made, "a"), exported(made, "b")]];
	writeFileSync(join(exports[0].folder, "replies"), "junk");
	writeFileSync(join(exports[1].folder, "replies"), cacheWith(2).save());
	const warnings: string[] = [];
	assert.deepEqual(known(state, HERE, exports, warnings), [2]);
	assert.equal(warnings.length, 1);
	assert.match(warnings[0], /cannot be used/);
});

test("where the state folder cannot be made, replies lie with the first export that has an upper", (t) => {
	const made = scratch(t);
	const state = join(made.file("file", ""), "state");
	const exports = [exported(made, "read-only", null), exported(made, "a"), exported(made, "b")];
	saveReplies(cacheWith(1), state, HERE, exports);
	assert.deepEqual(readdirSync(exports[1].folder), ["replies"]);
	assert.deepEqual(readdirSync(exports[2].folder), []);
	assert.deepEqual(known(state, HERE, exports), [1]);
});

test("nothing is written where there is nothing to save, and what is over goes", (t) => {
	const made = scratch(t);
	const [state, exports] = [join(made.path, "state"), [exported(made, "a")]];
	saveReplies(cacheWith(), state, HERE, exports);
	saveReplies(cacheWith(1), state, HERE, [exported(made, "read-only", null)]);
	assert.ok(!existsSync(state));
	saveReplies(cacheWith(1), state, HERE, exports);
	const [file] = readdirSync(join(state, "replies"));
	const left = join(state, "replies", "of a server that did not come back");
	writeFileSync(left, "");
	saveReplies(cacheWith(1), state, HERE, exports);
	assert.deepEqual(readdirSync(join(state, "replies")).length, 2);
	utimesSync(left, 1, 1);
	saveReplies(cacheWith(1), state, HERE, exports);
	assert.deepEqual(readdirSync(join(state, "replies")), [file]);
	saveReplies(cacheWith(), state, HERE, exports);
	assert.deepEqual(readdirSync(join(state, "replies")), []);
});
