// The cache of descriptors: what it opens, keeps and closes.

import assert from "node:assert/strict";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { ERRNO } from "../linux/errno.ts";
import { handleAt } from "../linux/file-handle.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";
import { LayerOpener } from "./layer.ts";
import { DescriptorCache, Real, RealObjectError, realKey } from "./real.ts";

const ROOT = { skip: needs("root") };

/** A lower with files named 0, 1, 2 ..., and a Real of each. */
function fixture(context: TestContext, count: number) {
	const folder = scratch(context);
	const path = folder.mount("tmpfs", "layer", 4);
	for (let i = 0; i < count; i++) writeFileSync(join(path, `${i}`), `${i}`);
	const opener = new LayerOpener();
	const layer = opener.openLower(path);
	folder.beforeRemoval(() => layer.close());
	const stat = new Stat();
	const real = (name: string) => {
		const handle = handleAt(layer.root, name);
		assert.ok(typeof handle !== "number");
		const fd = openAt(layer.root, name, O.path | O.nofollow);
		fstat(fd, stat);
		close(fd);
		return new Real(layer, handle, stat.inoHi, stat.inoLo, false);
	};
	const reals = Array.from({ length: count }, (_, i) => real(`${i}`));
	return { folder, path, layer, real, reals };
}

function isOpen(fd: number): boolean {
	return fstat(fd, new Stat()) === 0;
}

/** How many descriptors this process has open. */
function openCount(): number {
	return readdirSync("/proc/self/fd").length;
}

function leadsTo(fd: number, real: Real): boolean {
	const stat = new Stat();
	return fstat(fd, stat) === 0 && stat.inoLo === real.inoLo && stat.inoHi === real.inoHi;
}

test("a descriptor leads to its object, and asking again gives the same one", ROOT, (t) => {
	const { reals } = fixture(t, 2);
	const cache = new DescriptorCache(10);
	t.after(() => cache.dropAll());
	for (const real of reals) {
		const fd = cache.path(real);
		assert.ok(leadsTo(fd, real));
		assert.equal(cache.path(real), fd);
		const data = cache.data(real, false);
		assert.ok(leadsTo(data, real));
		assert.equal(cache.data(real, false), data);
	}
	assert.equal(cache.count, 4);
});

test("trim closes those used least recently, down to the limit, and what is closed comes back when asked for", ROOT, (t) => {
	const { reals } = fixture(t, 5);
	const cache = new DescriptorCache(3);
	t.after(() => cache.dropAll());
	const before = openCount();
	for (const real of reals) cache.path(real);
	cache.path(reals[0]);
	cache.path(reals[2]);
	assert.equal(cache.count, 5);
	cache.trim();
	assert.deepEqual(
		reals.map((real) => real.pathFd >= 0),
		[true, false, true, false, true],
	);
	assert.equal(cache.count, 3);
	assert.equal(openCount(), before + 3);
	assert.ok(leadsTo(cache.path(reals[1]), reals[1]));
	cache.trim();
	assert.equal(reals[4].pathFd, -1);
});

test("nothing is closed before trim, however many are open", ROOT, (t) => {
	const { reals } = fixture(t, 5);
	const cache = new DescriptorCache(1);
	t.after(() => cache.dropAll());
	const fds = reals.map((real) => cache.path(real));
	assert.ok(fds.every((fd) => isOpen(fd)));
	cache.trim();
	assert.deepEqual(
		fds.map((fd) => isOpen(fd)),
		[false, false, false, false, true],
	);
});

test("an object with two descriptors counts twice and loses both at once", ROOT, (t) => {
	const { reals } = fixture(t, 3);
	const cache = new DescriptorCache(2);
	t.after(() => cache.dropAll());
	cache.path(reals[0]);
	cache.data(reals[0], false);
	cache.path(reals[1]);
	assert.equal(cache.count, 3);
	cache.trim();
	assert.deepEqual([reals[0].pathFd, reals[0].dataFd, cache.count], [-1, -1, 1]);
});

test("a descriptor that is handed over is used from then on, and a second one is closed", ROOT, (t) => {
	const { reals, layer } = fixture(t, 1);
	const cache = new DescriptorCache(4);
	t.after(() => cache.dropAll());
	const first = openAt(layer.root, "0", O.path);
	const second = openAt(layer.root, "0", O.path);
	cache.adopt(reals[0], first);
	assert.equal(cache.path(reals[0]), first);
	cache.adopt(reals[0], second);
	assert.equal(cache.path(reals[0]), first);
	assert.ok(isOpen(first));
	assert.ok(!isOpen(second));
	assert.equal(cache.count, 1);
});

test("adopting makes an object the one used last", ROOT, (t) => {
	const { reals, layer } = fixture(t, 2);
	const cache = new DescriptorCache(1);
	t.after(() => cache.dropAll());
	cache.path(reals[0]);
	cache.path(reals[1]);
	cache.adopt(reals[0], openAt(layer.root, "0", O.path));
	cache.trim();
	assert.deepEqual([reals[0].pathFd >= 0, reals[1].pathFd], [true, -1]);
});

test("drop closes what an object has open, once, and forgets nothing else", ROOT, (t) => {
	const { reals } = fixture(t, 3);
	const cache = new DescriptorCache(10);
	t.after(() => cache.dropAll());
	const fds = reals.map((real) => cache.path(real));
	cache.drop(reals[1]);
	cache.drop(reals[1]);
	assert.deepEqual(
		fds.map((fd) => isOpen(fd)),
		[true, false, true],
	);
	assert.equal(cache.count, 2);
	cache.dropAll();
	assert.equal(cache.count, 0);
	assert.ok(fds.every((fd) => !isOpen(fd)));
});

test("the data of a lower is opened for reading only: the kernel says EROFS", ROOT, (t) => {
	const { reals } = fixture(t, 1);
	const cache = new DescriptorCache(4);
	t.after(() => cache.dropAll());
	assert.throws(
		() => cache.data(reals[0], true),
		(error) => error instanceof RealObjectError && error.errno === ERRNO.EROFS && !error.gone,
	);
	assert.equal(cache.count, 0);
});

test("a descriptor for reading is replaced when writing is asked for, and one for writing serves both", ROOT, (t) => {
	const folder = scratch(t);
	const path = folder.mount("tmpfs", "layer", 1);
	writeFileSync(join(path, "file"), "");
	const opener = new LayerOpener();
	const directory = openPath(path, O.rdonly | O.directory);
	const layer = opener.openUpper(path, directory);
	folder.beforeRemoval(() => layer.close());
	const handle = handleAt(layer.root, "file");
	assert.ok(typeof handle !== "number");
	const real = new Real(layer, handle, 0, 0, false);
	const cache = new DescriptorCache(4);
	t.after(() => cache.dropAll());
	const readable = cache.data(real, false);
	const writable = cache.data(real, true);
	assert.equal(cache.count, 1);
	assert.ok(real.dataFdWritable);
	assert.equal(cache.data(real, false), writable);
	assert.equal(cache.data(real, true), writable);
	if (readable !== writable) assert.ok(!isOpen(readable));
	cache.drop(real);
	assert.ok(!real.dataFdWritable);
});

test("an object that is gone says so, and leaves the cache as it was", ROOT, (t) => {
	const { reals, path } = fixture(t, 1);
	const cache = new DescriptorCache(4);
	rmSync(join(path, "0"));
	for (const open of [() => cache.path(reals[0]), () => cache.data(reals[0], false)]) {
		assert.throws(open, (error) => error instanceof RealObjectError && error.gone && error.message.includes(path));
	}
	assert.equal(cache.count, 0);
	cache.trim();
});

test("whatever is asked for in whatever order, the count is right and the ones used last stay open", ROOT, (t) => {
	const { reals, layer } = fixture(t, 6);
	const kinds = fc.constantFrom("path", "data", "adopt", "drop", "trim");
	const step = fc.tuple(kinds, fc.integer({ min: 0, max: 5 }));
	fc.assert(
		fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 0, max: 8 }), (steps, limit) => {
			const cache = new DescriptorCache(limit);
			/** From the oldest to the newest. */
			let used: number[] = [];
			const isHeld = (i: number) => (reals[i].pathFd >= 0 ? 1 : 0) + (reals[i].dataFd >= 0 ? 1 : 0);
			const total = () => reals.reduce((sum, _, i) => sum + isHeld(i), 0);
			for (const [kind, i] of steps) {
				if (kind === "path") cache.path(reals[i]);
				else if (kind === "data") cache.data(reals[i], false);
				else if (kind === "adopt") cache.adopt(reals[i], openAt(layer.root, `${i}`, O.path));
				else if (kind === "drop") cache.drop(reals[i]);
				if (kind === "trim") {
					let count = cache.count;
					cache.trim();
					const kept = [...used];
					while (count > limit) {
						const oldest = kept.shift() as number;
						assert.equal(isHeld(oldest), 0);
						count = kept.reduce((sum, other) => sum + isHeld(other), 0);
						if (kept.length === 0) break;
					}
					used = used.filter((other) => isHeld(other) > 0);
					assert.ok(cache.count <= limit);
				} else {
					used = used.filter((other) => other !== i);
					if (kind !== "drop") used.push(i);
				}
				assert.equal(cache.count, total());
			}
			cache.dropAll();
			assert.equal(total(), 0);
		}),
		{ numRuns: 60 },
	);
});

test("keys of objects are equal for one inode and differ for another type, handle or file system", ROOT, (t) => {
	const { layer, reals, real } = fixture(t, 2);
	assert.equal(real("0").key, reals[0].key);
	assert.notEqual(reals[0].key, reals[1].key);
	const { handle } = reals[0];
	assert.notEqual(realKey(layer, { type: handle.type + 1, bytes: handle.bytes }), reals[0].key);
	const elsewhere = { ...layer, fileSystem: { ...layer.fileSystem, number: layer.fileSystem.number + 1 } } as typeof layer;
	assert.notEqual(realKey(elsewhere, handle), reals[0].key);
});
