import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, statfsSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { allocate } from "../../src/linux/memory.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { FREED_BYTES_MAX, SPACE_BYTES_MAX } from "../../src/overlay/operations/ranges.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import type { Credentials, OverlayObject } from "../../src/vfs/operations.ts";
import { abandon } from "../crash/stage.ts";
import { workInline } from "../differential/inline-offload.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { generator } from "../support/random.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../support/scratch.ts";

/** Seek, allocate, deallocate and copies of ranges, over files of lowers, files that are copied up in part, and files of upper. */

const skip = needs("root");
const BLOCK = 4096;
const SIZE = 20 * BLOCK;
const STRANGER: Credentials = { uid: 1000, gid: 1000, gids: [] };

/** Where the lower's files have bytes; all else are holes. */
const DATA: readonly (readonly [number, number])[] = [
	[0, 3 * BLOCK],
	[7 * BLOCK, 2 * BLOCK],
	[12 * BLOCK + 100, BLOCK],
];

function contentsOf(seed: number): Buffer {
	const contents = Buffer.alloc(SIZE);
	for (const [at, length] of DATA) for (let i = at; i < at + length; i++) contents[i] = 1 + ((i * 7 + seed) % 250);
	return contents;
}

class Rig {
	readonly base: string;
	readonly #bytesMin: number;
	#overlay: Overlay | null = null;
	/** What the files hold. */
	readonly model = new Map<string, Buffer>();

	constructor(base: string, bytesMin: number) {
		this.base = base;
		this.#bytesMin = bytesMin;
		for (const name of ["lower", "upper"]) mkdirSync(join(base, name));
		for (const [seed, name] of ["a", "b"].entries()) {
			const contents = contentsOf(seed);
			const fd = openSync(join(base, "lower", name), "w", 0o644);
			ftruncateSync(fd, SIZE);
			for (const [at, length] of DATA) writeSync(fd, contents, at, length, at);
			closeSync(fd);
			this.model.set(name, contents);
		}
	}

	get overlay(): Overlay {
		if (this.#overlay === null) {
			const { overlay } = openOverlay({
				lowers: [join(this.base, "lower")],
				upper: join(this.base, "upper"),
				stateFolder: join(this.base, "state"),
				isSync: false,
				purpose: "serve",
				partialLimits: { bytesMin: this.#bytesMin, granuleBytes: BLOCK, fills: false },
			});
			this.#overlay = workInline(overlay);
		}
		return this.#overlay;
	}

	async close(): Promise<void> {
		await this.#overlay?.close();
		this.#overlay = null;
	}

	kill(): void {
		this.#overlay?.engine.writable?.journal.endLastChange();
		if (this.#overlay !== null) abandon(this.#overlay);
		this.#overlay = null;
	}

	run<T>(step: (overlay: Overlay) => T): Promise<T> {
		return untilReady(() => {
			this.overlay.beginPass();
			return step(this.overlay);
		});
	}

	find(name: string): OverlayObject {
		return walk(this.overlay, name);
	}

	size(name: string): number {
		const { sizeHi, sizeLo } = this.overlay.getattr(this.find(name));
		return sizeHi * 2 ** 32 + sizeLo;
	}

	async contents(name: string): Promise<Buffer> {
		const size = this.size(name);
		const into = allocate(size + 1);
		let count = 0;
		while (count < size) {
			count += (await this.run((overlay) => overlay.read(this.find(name), ROOT, count, size - count, into, count))).count;
		}
		return Buffer.from(into.bytes.subarray(0, size));
	}

	/** The whole range, as a front end does it. */
	async whole(length: number, step: (done: number) => number): Promise<void> {
		for (let done = 0; done < length; ) {
			const count = await this.run(() => step(done));
			if (count === 0) return;
			done += count;
		}
	}

	/** Every byte that is not zero is in data, and seeks go forward. */
	async checkSeeks(name: string): Promise<number> {
		const model = this.model.get(name) as Buffer;
		let holes = 0;
		let at = 0;
		while (at < model.length) {
			const data = await this.run((overlay) => overlay.seek(this.find(name), ROOT, at, "data"));
			assert.ok(data.offset >= at && data.offset <= model.length);
			assert.ok(
				model.subarray(at, data.offset).every((byte) => byte === 0),
				`bytes in a hole of ${name}, from ${at} to ${data.offset}`,
			);
			assert.equal(data.isEnd, data.offset === model.length);
			holes += data.offset - at;
			if (data.isEnd) break;
			const hole = await this.run((overlay) => overlay.seek(this.find(name), ROOT, data.offset, "hole"));
			assert.ok(hole.offset > data.offset && hole.offset <= model.length);
			assert.equal(hole.isEnd, hole.offset === model.length);
			at = hole.offset;
		}
		for (const what of ["data", "hole"] as const) {
			await assert.rejects(
				this.run((overlay) => overlay.seek(this.find(name), ROOT, model.length, what)),
				{ code: "nxio" },
			);
		}
		return holes;
	}

	async check(name: string, story: string): Promise<void> {
		const model = this.model.get(name) as Buffer;
		const found = await this.contents(name);
		assert.equal(found.length, model.length, `the size of ${name} after ${story}`);
		const wrong = found.findIndex((byte, i) => byte !== model[i]);
		assert.equal(wrong, -1, `byte ${wrong} of ${name} is ${found[wrong]} and not ${model[wrong]} after ${story}`);
		await this.checkSeeks(name);
	}
}

function grown(contents: Buffer, size: number): Buffer {
	if (size <= contents.length) return contents;
	return Buffer.concat([contents, Buffer.alloc(size - contents.length)]);
}

async function step(rig: Rig, random: (below: number) => number): Promise<string> {
	const name = random(2) === 0 ? "a" : "b";
	const other = name === "a" ? "b" : "a";
	const model = rig.model.get(name) as Buffer;
	const aligned = random(2) === 0;
	const offset = aligned ? random(24) * BLOCK : random(SIZE + BLOCK);
	const length = 1 + (aligned ? random(6) * BLOCK : random(5 * BLOCK));
	switch (random(10)) {
		case 0:
		case 1:
			await rig.whole(length, (done) => rig.overlay.deallocate(rig.find(name), ROOT, offset + done, length - done));
			model.fill(0, Math.min(offset, model.length), Math.min(offset + length, model.length));
			return `deallocate ${name} ${offset} ${length}`;
		case 2: {
			const keeps = random(3) === 0;
			await rig.whole(length, (done) => rig.overlay.allocate(rig.find(name), ROOT, offset + done, length - done, "mode", keeps));
			if (keeps) return `allocate ${name} ${offset} ${length}, as long as it is`;
			rig.model.set(name, grown(model, offset + length));
			return `allocate ${name} ${offset} ${length}`;
		}
		case 3:
		case 4: {
			const from = random(SIZE);
			const source = rig.model.get(other) as Buffer;
			const bytes = Buffer.from(source.subarray(from, from + length));
			await rig.whole(length, (done) =>
				rig.overlay.copyRange(rig.find(other), from + done, rig.find(name), offset + done, length - done, ROOT),
			);
			const after = bytes.length === 0 ? model : grown(model, offset + bytes.length);
			bytes.copy(after, offset);
			rig.model.set(name, after);
			return `copyRange ${other} ${from} to ${name} ${offset} ${length}`;
		}
		case 5: {
			const data = Buffer.alloc(length, 1 + random(255));
			await rig.run((overlay) => overlay.write(rig.find(name), ROOT, offset, data));
			const after = grown(model, offset + length);
			data.copy(after, offset);
			rig.model.set(name, after);
			return `write ${name} ${offset} ${length}`;
		}
		case 6: {
			const size = random(SIZE + BLOCK);
			await rig.run((overlay) => overlay.setattr(rig.find(name), ROOT, { size }));
			rig.model.set(name, Buffer.from(grown(model, size).subarray(0, size)));
			return `cut ${name} to ${size}`;
		}
		case 7: {
			const { partials } = rig.overlay.engine;
			for (const file of partials?.all ?? []) await partials?.fillStep(file, 2);
			return "fill";
		}
		case 8:
			if (aligned) rig.kill();
			else await rig.close();
			return "restart";
		default: {
			const fromBlock = random(20) * BLOCK;
			const toBlock = random(20) * BLOCK;
			const bytes = Buffer.from((rig.model.get(other) as Buffer).subarray(fromBlock, fromBlock + 2 * BLOCK));
			if (bytes.length < 2 * BLOCK) return "nothing";
			try {
				const clone = await rig.run((overlay) => ({
					done: overlay.cloneRange(rig.find(other), fromBlock, rig.find(name), toBlock, 2 * BLOCK, ROOT),
				}));
				await clone.done;
			} catch (error) {
				if (error instanceof OverlayError && (error.code === "notsupp" || error.code === "xdev" || error.code === "inval"))
					return "no clone";
				throw error;
			}
			const after = grown(model, toBlock + bytes.length);
			bytes.copy(after, toBlock);
			rig.model.set(name, after);
			return `clone ${other} ${fromBlock} to ${name} ${toBlock}`;
		}
	}
}

async function play(context: TestContext, kind: FileSystem, bytesMin: number, seed: number): Promise<void> {
	const rig = new Rig(scratch(context).mount(kind), bytesMin);
	const random = generator(seed);
	const story: string[] = [];
	for (let i = 0; i < 150; i++) {
		story.push(await step(rig, random));
		for (const name of ["a", "b"]) await rig.check(name, story.slice(-12).join("; "));
	}
	await rig.close();
}

for (const kind of ["ext4", "tmpfs", "xfs", "btrfs"] as const) {
	for (const [what, bytesMin] of [
		["copied up whole", Number.POSITIVE_INFINITY],
		["copied up in part", 1],
	] as const) {
		test(`ranges of files that are ${what} are as those of plain files after any changes on ${kind}`, {
			skip: skip || cannotMount(kind),
		}, async (t) => {
			for (const seed of [1, 2]) await play(t, kind, bytesMin, seed);
		});
	}
}

test("a lower file shows the holes that it has, and one that is copied up in part the same and those that were made", {
	skip,
}, async (t) => {
	const rig = new Rig(scratch(t).mount("tmpfs"), 1);
	const holes = await rig.checkSeeks("a");
	assert.equal(holes, SIZE - 7 * BLOCK);
	await rig.run((overlay) => overlay.write(rig.find("a"), ROOT, 8 * BLOCK + 5, Buffer.from("x")));
	(rig.model.get("a") as Buffer)[8 * BLOCK + 5] = 0x78;
	assert.equal(await rig.checkSeeks("a"), holes);
	assert.equal(await rig.run((overlay) => overlay.deallocate(rig.find("a"), ROOT, 0, 2 * BLOCK)), 2 * BLOCK);
	(rig.model.get("a") as Buffer).fill(0, 0, 2 * BLOCK);
	assert.equal(await rig.checkSeeks("a"), holes + 2 * BLOCK);
	assert.deepEqual(await rig.run((overlay) => overlay.seek(rig.find("a"), ROOT, 17 * BLOCK, "data")), { offset: SIZE, isEnd: true });
	assert.deepEqual(await rig.run((overlay) => overlay.seek(rig.find("a"), ROOT, 17 * BLOCK, "hole")), {
		offset: 17 * BLOCK,
		isEnd: false,
	});
	assert.deepEqual(readFileSync(join(rig.base, "lower/a")), contentsOf(0));
	await rig.close();
});

test("room is reserved and given back, a part at a time, and times and change attribute follow", {
	skip: skip || cannotMount("ext4"),
}, async (t) => {
	const rig = new Rig(scratch(t).mount("ext4"), 1);
	const file = () => rig.find("b");
	const length = SPACE_BYTES_MAX + 3 * BLOCK;
	assert.equal(await rig.run((overlay) => overlay.allocate(file(), ROOT, 0, length)), SPACE_BYTES_MAX);
	assert.equal(await rig.run((overlay) => overlay.allocate(file(), ROOT, SPACE_BYTES_MAX, 3 * BLOCK)), 3 * BLOCK);
	assert.equal(rig.size("b"), length);
	assert.ok(statSync(join(rig.base, "upper/b")).blocks * 512 >= length);
	const before = rig.overlay.getattr(file());
	for (let at = 0; at < length - FREED_BYTES_MAX; at += FREED_BYTES_MAX) {
		assert.equal(await rig.run((overlay) => overlay.deallocate(file(), ROOT, at, 2 ** 40)), FREED_BYTES_MAX);
	}
	assert.equal(await rig.run((overlay) => overlay.deallocate(file(), ROOT, SPACE_BYTES_MAX, 2 ** 40)), 2 ** 40);
	const after = rig.overlay.getattr(file());
	assert.equal(rig.size("b"), length);
	assert.ok(statSync(join(rig.base, "upper/b")).blocks * 512 < 16 * BLOCK);
	const change = ({ changeHi, changeLo }: typeof after) => (BigInt(changeHi) << 32n) | BigInt(changeLo);
	assert.ok(change(after) > change(before));
	assert.ok(after.mtime.sec > before.mtime.sec || after.mtime.nsec > before.mtime.nsec);
	assert.ok((await rig.contents("b")).every((byte) => byte === 0));
	await rig.close();
});

test("who may not write or read is refused, and what there is no room for", { skip: skip || cannotMount("ext4") }, async (t) => {
	const rig = new Rig(scratch(t).mount("ext4", "ext4", 32), Number.POSITIVE_INFINITY);
	const [a, b] = [rig.find("a"), rig.find("b")];
	const refused = (code: string, step: (overlay: Overlay) => unknown) => assert.rejects(rig.run(step), { code });
	await refused("acces", (overlay) => overlay.allocate(a, STRANGER, 0, 1));
	await refused("acces", (overlay) => overlay.deallocate(a, STRANGER, 0, 1));
	await refused("acces", (overlay) => overlay.copyRange(a, 0, b, 0, 1, STRANGER));
	await refused("acces", (overlay) => overlay.cloneRange(a, 0, b, 0, 0, STRANGER));
	await rig.run((overlay) => overlay.setattr(a, ROOT, { mode: 0o600 }));
	await refused("acces", (overlay) => overlay.seek(a, STRANGER, 0, "data"));
	await rig.run((overlay) => overlay.setattr(b, ROOT, { mode: 0o666 }));
	await refused("acces", (overlay) => overlay.copyRange(a, 0, b, 0, 1, STRANGER));
	await rig.run((overlay) => overlay.allocate(b, STRANGER, 0, 1));
	await refused("isdir", (overlay) => overlay.seek(overlay.root, ROOT, 0, "data"));
	await refused("inval", (overlay) => overlay.copyRange(a, 0, a, 10, 20, ROOT));
	await refused("inval", (overlay) => overlay.cloneRange(a, 0, b, 0, SIZE + 1, ROOT));
	await refused("fbig", (overlay) => overlay.allocate(a, ROOT, Number.MAX_SAFE_INTEGER, 10));
	const { bfree, bsize } = statfsSync(rig.base);
	writeFileSync(join(rig.base, "filler"), Buffer.alloc(bfree * bsize - SPACE_BYTES_MAX / 2));
	await refused("nospc", (overlay) => overlay.allocate(a, ROOT, 0, SPACE_BYTES_MAX));
	await rig.check("a", "what was refused");
	await rig.close();
});

test("a stranger who changes a range takes the set-user-id bit", { skip }, async (t) => {
	const rig = new Rig(scratch(t).mount("tmpfs"), Number.POSITIVE_INFINITY);
	for (const [name, step] of [
		["a", (overlay: Overlay) => overlay.deallocate(rig.find("a"), STRANGER, 0, BLOCK)],
		["b", (overlay: Overlay) => overlay.allocate(rig.find("b"), STRANGER, 0, BLOCK)],
	] as const) {
		await rig.run((overlay) => overlay.setattr(rig.find(name), ROOT, { mode: 0o4777 }));
		await rig.run(step);
		assert.equal(rig.overlay.getattr(rig.find(name)).mode, 0o777, name);
	}
	await rig.close();
});
