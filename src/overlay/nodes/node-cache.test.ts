// The cache of objects: what it finds, evicts and keeps.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { ROOT_HOME } from "../../handle/wire-handle.ts";
import type { Layer } from "../../layer/layer.ts";
import { DescriptorCache, Real } from "../../layer/real.ts";
import { Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { type CopyUpJob, identityKey, Node } from "./node.ts";
import { NodeCache } from "./node-cache.ts";
import { NodeOrder } from "./node-order.ts";

/** Enough of a layer for objects whose descriptors nobody asks for. */
const LAYER = { fileSystem: { number: 0 }, isUpper: true } as Layer;

function node(number: number, type: FileType = FileType.reg, home = 1): Node {
	const id = { type: 1, bytes: Buffer.from([number >>> 8, number & 0xff]) };
	const real = new Real(LAYER, id, 0, number, false);
	const made = new Node({ type, handle: id.bytes, key: identityKey(home, id), home, id, fileidHi: 0, fileidLo: number, reals: [real] });
	made.isRecent = false;
	return made;
}

function cacheOf(limit: number, nodes: readonly Node[]): NodeCache {
	const cache = new NodeCache(new NodeOrder(limit), new DescriptorCache(10));
	for (const one of nodes) cache.add(one);
	return cache;
}

function copyUpJob(): CopyUpJob {
	return { temporary: "#0", fd: -1, before: new Stat(), ready: Promise.resolve(), state: "running", error: null };
}

const some = (count: number) => Array.from({ length: count }, (_, i) => node(i));
const isIn = (cache: NodeCache) => (one: Node) => cache.get(one.key) === one;

test("trim evicts down to the limit, the oldest first", () => {
	const nodes = some(10);
	const cache = cacheOf(6, nodes);
	cache.trim(null);
	assert.equal(cache.size, 6);
	assert.deepEqual(nodes.map(isIn(cache)), [...Array(4).fill(false), ...Array(6).fill(true)]);
	assert.deepEqual(
		nodes.map((one) => one.isEvicted),
		[...Array(4).fill(true), ...Array(6).fill(false)],
	);
	assert.ok(nodes.every((one) => !one.isDead));
});

test("what was used since the cache last looked gets a second chance, and only one", () => {
	const nodes = some(4);
	const cache = cacheOf(2, nodes);
	cache.get(nodes[0].key);
	cache.trim(null);
	assert.deepEqual(
		nodes.map((one) => one.isEvicted),
		[false, true, true, false],
	);
	const more = [node(20), node(21)];
	for (const one of more) cache.add(one);
	cache.trim(null);
	assert.deepEqual(
		[nodes[0], nodes[3], ...more].map((one) => one.isEvicted),
		[true, true, false, false],
	);
});

test("objects that come and go one after the other are evicted without iterating over a Map", (t) => {
	const cache = cacheOf(50, some(50));
	for (const way of ["entries", "keys", "values", "forEach", Symbol.iterator] as const) {
		t.mock.method(Map.prototype, way, () => assert.fail("a Map was iterated over"));
	}
	const nodes = Array.from({ length: 500 }, (_, i) => node(1000 + i));
	for (const one of nodes) {
		cache.add(one);
		cache.trim(null);
	}
	assert.equal(cache.size, 50);
	assert.deepEqual(nodes.map(isIn(cache)).lastIndexOf(false), 449);
});

test("trim ends at the limit even if every object was used", () => {
	const nodes = some(10);
	const cache = cacheOf(3, nodes);
	for (const one of nodes) cache.get(one.key);
	cache.trim(null);
	assert.equal(cache.size, 3);
});

test("the root, what is being copied up and the object of this request are never evicted", () => {
	const [root, copied, kept, ...others] = [node(100, FileType.dir, ROOT_HOME), ...some(8)];
	const cache = cacheOf(0, [root, copied, kept, ...others]);
	copied.copyUp = copyUpJob();
	for (let i = 0; i < 3; i++) {
		cache.trim(kept);
		assert.deepEqual([root, copied, kept].map(isIn(cache)), [true, true, true]);
		assert.equal(cache.size, 3);
	}
	assert.equal(cache.root, root);
	copied.copyUp = null;
	cache.trim(null);
	assert.equal(cache.size, 1);
});

test("an object is found by its real ones if it is a directory or indexed, until it is evicted or buried", () => {
	const [directory, indexed, plain] = [node(1, FileType.dir), node(2), node(3)];
	indexed.isIndexed = true;
	const cache = cacheOf(10, [directory, indexed, plain]);
	assert.equal(cache.byReal(directory.top.key), directory);
	assert.equal(cache.byReal(indexed.top.key), indexed);
	assert.equal(cache.byReal(plain.top.key), undefined);
	plain.isIndexed = true;
	cache.noteReals(plain);
	assert.equal(cache.byReal(plain.top.key), plain);
	cache.bury(plain);
	assert.ok(plain.isDead && plain.isEvicted);
	assert.equal(cache.byReal(plain.top.key), undefined);
	assert.equal(cache.get(plain.key), undefined);
	cacheOf(0, []).trim(null);
});

test("burying an object that has been evicted does not hurt the object that came back for it", () => {
	const [first, second] = [node(1, FileType.dir), node(1, FileType.dir)];
	const cache = cacheOf(0, [first]);
	cache.trim(null);
	cache.add(second);
	cache.bury(first);
	assert.equal(cache.get(second.key), second);
	assert.equal(cache.byReal(second.top.key), second);
});

test("whatever is used, copied up and trimmed in whatever order, the limit holds and nothing that is being copied up is lost", () => {
	const step = fc.tuple(fc.constantFrom("add", "get", "copy", "copied", "trim"), fc.integer({ min: 0, max: 19 }));
	fc.assert(
		fc.property(fc.array(step, { maxLength: 100 }), fc.integer({ min: 0, max: 10 }), (steps, limit) => {
			const nodes = some(20);
			const root = node(1000, FileType.dir, ROOT_HOME);
			const cache = cacheOf(limit, [root]);
			for (const [kind, i] of steps) {
				const known = cache.get(nodes[i].key);
				if (kind === "add" && known === undefined) {
					nodes[i] = node(i);
					cache.add(nodes[i]);
				}
				if (kind === "copy" && known !== undefined) known.copyUp = copyUpJob();
				if (kind === "copied" && known !== undefined) known.copyUp = null;
				if (kind !== "trim") continue;
				cache.trim(nodes[i]);
				const bound = nodes.filter((one) => one.copyUp !== null || one === nodes[i]).length + 1;
				assert.ok(cache.size <= Math.max(limit, bound));
			}
			for (const one of nodes) if (one.copyUp !== null) assert.equal(cache.get(one.key), one);
			assert.equal(cache.get(root.key), root);
		}),
	);
});

test("exports that share an order of eviction share its limit: what was not used goes, whosever it is", () => {
	const order = new NodeOrder(6);
	const [idle, busy] = [new NodeCache(order, new DescriptorCache(10)), new NodeCache(order, new DescriptorCache(10))];
	const of = { idle: some(5), busy: some(5) };
	for (const one of of.idle) idle.add(one);
	for (const one of of.busy) busy.add(one);
	for (const one of [...of.busy, of.idle[0]]) one.isRecent = true;
	busy.trim(null);
	assert.deepEqual(of.idle.map(isIn(idle)), [true, false, false, false, false]);
	assert.deepEqual(of.busy.map(isIn(busy)), Array(5).fill(true));
	assert.equal(order.size, 6);
	busy.close();
	assert.equal(order.size, 1);
	assert.equal(busy.size, 0);
	idle.trim(null);
	assert.deepEqual(of.idle.map(isIn(idle)), [true, false, false, false, false]);
});

test("an object that is gone twice counts once", () => {
	const order = new NodeOrder(10);
	const cache = new NodeCache(order, new DescriptorCache(10));
	const [one, other] = some(2);
	cache.add(one);
	cache.add(other);
	cache.bury(one);
	cache.bury(one);
	cache.forget(one);
	assert.equal(order.size, 1);
	assert.equal(cache.size, 1);
});
