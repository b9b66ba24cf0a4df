import assert from "node:assert/strict";
import {
	closeSync,
	ftruncateSync,
	linkSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	utimesSync,
	writeSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ERRNO } from "../../src/linux/errno.ts";
import { interceptChanges } from "../../src/linux/libc.ts";
import { allocate } from "../../src/linux/memory.ts";
import { close, O, openPath } from "../../src/linux/open.ts";
import { getXattr } from "../../src/linux/xattr.ts";
import type { PartialLimits, Partials } from "../../src/overlay/data/partials.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { settleData } from "../../src/overlay/upkeep/settle-data.ts";
import type { Credentials, OverlayObject, SetAttributes } from "../../src/vfs/operations.ts";
import { workInline } from "../differential/inline-offload.ts";
import { fc } from "../support/fast-check.ts";
import { ok } from "../support/nfs3-client.ts";
import { needs, seed, volume } from "../support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";

const skip = needs("root");
const ROOT: Credentials = { uid: 0, gid: 0, gids: [] };
const OLD = new Date(1_000_000_000_000);

interface LowerFile {
	readonly size: number;
	/** Where it has bytes; all else are holes. */
	readonly data: readonly (readonly [offset: number, length: number])[];
}

let serial = 0;

/** An overlay over one lower with the files "big" and "two", of which "also" is a further name. */
class Rig {
	readonly lower: string;
	readonly upper: string;
	readonly base: string;
	readonly limits: PartialLimits;
	readonly nodesMax: number | undefined;
	readonly contents: Buffer;
	#overlay: Overlay | null = null;

	constructor(base: string, file: LowerFile, limits: Partial<PartialLimits> = {}, nodesMax?: number) {
		this.base = join(base, `rig${serial++}`);
		this.lower = join(this.base, "lower");
		this.upper = join(this.base, "upper");
		this.limits = { bytesMin: 1, granuleBytes: 16, fills: false, ...limits };
		this.nodesMax = nodesMax;
		mkdirSync(this.lower, { recursive: true });
		mkdirSync(this.upper);
		this.contents = Buffer.alloc(file.size);
		for (const [offset, length] of file.data) {
			for (let i = offset; i < offset + length && i < file.size; i++) this.contents[i] = 97 + ((i * 7 + (i >> 8)) % 26);
		}
		for (const name of ["big", "two"]) {
			const fd = openSync(join(this.lower, name), "w", 0o640);
			ftruncateSync(fd, file.size);
			for (const [offset, length] of file.data) writeSync(fd, this.contents, offset, Math.min(length, file.size - offset), offset);
			closeSync(fd);
		}
		linkSync(join(this.lower, "two"), join(this.lower, "also"));
		for (const name of ["big", "two"]) utimesSync(join(this.lower, name), OLD, OLD);
	}

	get overlay(): Overlay {
		this.#overlay ??= this.#open();
		return this.#overlay;
	}

	get partials(): Partials {
		return this.overlay.engine.partials as Partials;
	}

	#open(): Overlay {
		const { overlay } = openOverlay({
			lowers: [this.lower],
			upper: this.upper,
			stateFolder: join(this.base, "state"),
			isSync: false,
			purpose: "serve",
			partialLimits: this.limits,
			...(this.nodesMax === undefined ? {} : { nodesMax: this.nodesMax }),
		});
		return workInline(overlay);
	}

	async close(): Promise<void> {
		await this.#overlay?.close();
		this.#overlay = null;
	}

	/** As a kill leaves it. */
	kill(): void {
		const overlay = this.#overlay;
		this.#overlay = null;
		if (overlay === null) return;
		const { engine } = overlay;
		// a change without a request would be made once more, with other times
		engine.writable?.journal.endLastChange();
		engine.descriptors.dropAll();
		for (const layer of engine.layers) layer.close();
		engine.writable?.work.close();
		engine.writable?.linkCounts.close();
		engine.writable?.journal.close();
		if (engine.writable !== null) close(engine.writable.index.fd);
	}

	async run<T>(step: () => T): Promise<T> {
		return untilReady(() => {
			this.overlay.beginPass();
			return step();
		});
	}

	find(name: string): OverlayObject {
		const found = this.overlay.lookup(this.overlay.root, Buffer.from(name), ROOT);
		assert.ok(found, name);
		return found;
	}

	write(name: string, offset: number, data: Buffer): Promise<number> {
		return this.run(() => this.overlay.write(this.find(name), ROOT, offset, data));
	}

	set(name: string, change: SetAttributes): Promise<void> {
		return this.run(() => this.overlay.setattr(this.find(name), ROOT, change));
	}

	async read(name: string): Promise<Buffer> {
		const file = this.find(name);
		const size = this.overlay.getattr(file).sizeLo;
		const memory = allocate(size + 8);
		const { count } = await this.run(() => this.overlay.read(this.find(name), ROOT, 0, size + 8, memory, 0));
		assert.equal(count, size);
		return Buffer.from(memory.bytes.subarray(0, count));
	}

	times(name: string): string {
		const { mtime } = this.overlay.getattr(this.find(name));
		return `${mtime.sec}.${mtime.nsec}`;
	}

	/** One chunk of each partial file is copied, of as many granules. */
	async fill(granules: number): Promise<void> {
		for (const file of this.partials.all) await this.partials.fillStep(file, granules);
	}

	isMetacopy(name: string): boolean {
		const fd = openPath(join(this.upper, name), O.path);
		const value = getXattr(fd, "trusted.overlay.metacopy");
		close(fd);
		return typeof value !== "number";
	}

	records(): string[] {
		const folder = join(this.base, "upper.work", "holdfast", "partial");
		try {
			return readdirSync(folder);
		} catch {
			return [];
		}
	}
}

const PLAIN: LowerFile = { size: 200, data: [[0, 200]] };

test("chmod, utimes, rename and link of a large lower file copy no data", { skip }, async (t) => {
	const rig = new Rig(scratch(t).path, { size: 300_000, data: [[0, 300_000]] });
	await rig.set("big", { mode: 0o600 });
	await rig.set("big", { uid: 5, gid: 6 });
	await rig.set("big", { mtime: { sec: 77, nsec: 0 } });
	await rig.run(() => rig.overlay.rename(rig.overlay.root, Buffer.from("big"), rig.overlay.root, Buffer.from("moved"), ROOT));
	await rig.run(() => rig.overlay.link(rig.find("moved"), rig.overlay.root, Buffer.from("more"), ROOT));
	assert.ok(rig.isMetacopy("moved"));
	assert.ok(statSync(join(rig.upper, "moved")).blocks < 100);
	for (const restart of [() => rig.close(), async () => rig.kill()]) {
		assert.deepEqual(await rig.read("more"), rig.contents);
		assert.equal(rig.times("moved"), "77.0");
		await restart();
	}
	assert.deepEqual(rig.records(), []);
	const report = await settleData(rig.overlay, false);
	assert.deepEqual(report, { files: 1, bytes: 300_000, failures: [] });
	assert.ok(!rig.isMetacopy("moved"));
	assert.deepEqual(readFileSync(join(rig.upper, "moved")), rig.contents);
	assert.equal(rig.times("moved"), "77.0");
	assert.deepEqual(await rig.read("more"), rig.contents);
	assert.deepEqual(rig.records(), []);
	await rig.close();
});

test("a first write is there at once, over restart and kill, and the tree on disk shows the lower until all is copied", {
	skip,
}, async (t) => {
	const rig = new Rig(scratch(t).path, PLAIN);
	await rig.write("big", 100, Buffer.from("HELLO"));
	const expected = Buffer.from(rig.contents);
	expected.write("HELLO", 100);
	assert.deepEqual(await rig.read("big"), expected);
	assert.ok(rig.isMetacopy("big"));
	const time = rig.times("big");
	await rig.fill(2);
	assert.equal(rig.times("big"), time);
	assert.deepEqual(await rig.read("big"), expected);
	rig.kill();
	assert.deepEqual(await rig.read("big"), expected);
	assert.equal(rig.times("big"), time);
	await rig.close();
	assert.equal(rig.records().length, 1);
	while (rig.partials.size > 0) await rig.fill(1000);
	assert.deepEqual(rig.records(), []);
	assert.ok(!rig.isMetacopy("big"));
	assert.equal(rig.times("big"), time);
	assert.deepEqual(readFileSync(join(rig.upper, "big")), expected);
	assert.deepEqual(await rig.read("big"), expected);
	await rig.close();
});

test("bytes that were cut off never come back, however the file grows", { skip }, async (t) => {
	const rig = new Rig(scratch(t).path, PLAIN);
	await rig.set("big", { size: 50 });
	await rig.set("big", { size: 120 });
	const expected = Buffer.concat([rig.contents.subarray(0, 50), Buffer.alloc(70)]);
	assert.deepEqual(await rig.read("big"), expected);
	rig.kill();
	assert.deepEqual(await rig.read("big"), expected);
	await rig.set("big", { size: 40 });
	await rig.write("big", 90, Buffer.from("END"));
	const second = Buffer.concat([rig.contents.subarray(0, 40), Buffer.alloc(50), Buffer.from("END")]);
	rig.kill();
	assert.deepEqual(await rig.read("big"), second);
	await settleData(rig.overlay, false);
	assert.deepEqual(await rig.read("big"), second);
	assert.deepEqual(readFileSync(join(rig.upper, "big")), second);
	await rig.close();
});

for (const kind of ["xfs", "btrfs"] as const) {
	test(`on ${kind} the first write shares all extents of the lower file`, { skip: skip || cannotMount(kind) }, async (t) => {
		const size = 3_000_001;
		const rig = new Rig(scratch(t).mount(kind), { size, data: [[0, size]] }, { granuleBytes: 65_536 });
		await rig.set("big", { mtime: { sec: 5, nsec: 0 } });
		await rig.write("big", 1_000_000, Buffer.from("HELLO"));
		const [file] = rig.partials.all;
		assert.equal(file.missing, 0, "nothing is left to be copied");
		const expected = Buffer.from(rig.contents);
		expected.write("HELLO", 1_000_000);
		rig.kill();
		assert.ok((await rig.read("big")).equals(expected));
		await rig.fill(1);
		assert.ok(!rig.isMetacopy("big"));
		assert.ok(readFileSync(join(rig.upper, "big")).equals(expected));
		// where a clone would be too long
		await rig.set("two", { size: 1_000_000 });
		await rig.write("two", 0, Buffer.from("X"));
		assert.ok(rig.partials.all[0].missing > 0);
		await rig.close();
	});
}

test("a lower file of several names stays one file while it is partial", { skip }, async (t) => {
	const rig = new Rig(scratch(t).path, PLAIN);
	await rig.write("two", 0, Buffer.from("X"));
	assert.deepEqual(await rig.read("also"), await rig.read("two"));
	await rig.write("also", 199, Buffer.from("YZ"));
	const expected = Buffer.concat([rig.contents, Buffer.alloc(1)]);
	expected.write("X", 0);
	expected.write("YZ", 199);
	assert.deepEqual(await rig.read("two"), expected);
	rig.kill();
	assert.deepEqual(await rig.read("also"), expected);
	await settleData(rig.overlay, false);
	assert.deepEqual(await rig.read("also"), expected);
	await rig.close();
});

test("a partial file that is removed takes its record along", { skip }, async (t) => {
	const rig = new Rig(scratch(t).path, PLAIN);
	await rig.write("big", 0, Buffer.from("X"));
	const file = rig.find("big");
	rig.overlay.hold(file.handle);
	await rig.run(() => rig.overlay.remove(rig.overlay.root, Buffer.from("big"), ROOT));
	assert.equal(rig.records().length, 1, "it is still open");
	await rig.run(() => rig.overlay.write(file, ROOT, 20, Buffer.from("Y")));
	rig.overlay.letGo(file.handle);
	assert.deepEqual(rig.records(), []);
	assert.equal(rig.partials.size, 0);
	await rig.write("two", 0, Buffer.from("X"));
	for (const name of ["two", "also"]) await rig.run(() => rig.overlay.remove(rig.overlay.root, Buffer.from(name), ROOT));
	assert.deepEqual(rig.records(), []);
	assert.deepEqual(readdirSync(join(rig.base, "upper.work", "holdfast", "data")), []);
	await rig.close();
});

test("a commit that has no room to note what is stable is told that, and the next one notes it", {
	skip: skip || cannotMount("ext4"),
}, async (t) => {
	const rig = new Rig(scratch(t).mount("ext4"), PLAIN);
	const codes: [number, string][] = [
		[ERRNO.EDQUOT, "dquot"],
		[ERRNO.ENOSPC, "nospc"],
		[ERRNO.EROFS, "rofs"],
		[ERRNO.EIO, "io"],
	];
	for (const [granule, [error, code]] of codes.entries()) {
		await rig.write("big", granule * 32, Buffer.from("HELLO"));
		let isHit = false;
		interceptChanges((name) => {
			if (name !== "pwrite") return undefined;
			isHit = true;
			return error;
		});
		try {
			await assert.rejects(rig.overlay.commit(rig.find("big")), { code });
		} finally {
			interceptChanges(null);
		}
		assert.ok(isHit, "nothing was noted");
		await rig.overlay.commit(rig.find("big"));
	}
	await rig.close();
});

test("the background fill completes what was written to, also after a restart", { skip }, async (t) => {
	const size = 9 * 1024 * 1024 + 77;
	const rig = new Rig(scratch(t).path, { size, data: [[0, size]] }, { granuleBytes: 64 * 1024, fills: true });
	await rig.write("big", 5_000_000, Buffer.from("HELLO"));
	await rig.write("two", size, Buffer.from("APPENDED"));
	const expected = Buffer.from(rig.contents);
	expected.write("HELLO", 5_000_000);
	await rig.close();
	while (rig.partials.size > 0) {
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
	assert.ok((await rig.read("big")).equals(expected));
	assert.ok(readFileSync(join(rig.upper, "big")).equals(expected));
	assert.ok(readFileSync(join(rig.upper, "two")).equals(Buffer.concat([rig.contents, Buffer.from("APPENDED")])));
	assert.ok(!rig.isMetacopy("big"));
	await rig.close();
	assert.deepEqual(rig.records(), []);
});

type Action =
	| { readonly kind: "write"; readonly name: string; readonly offset: number; readonly length: number; readonly byte: number }
	| { readonly kind: "size"; readonly name: string; readonly size: number }
	| { readonly kind: "fill"; readonly granules: number }
	| { readonly kind: "chmod" | "utimes"; readonly name: string; readonly value: number }
	| { readonly kind: "restart" | "kill" | "settle" };

function actions(scale: number): fc.Arbitrary<Action[]> {
	const name = fc.constantFrom("big", "two", "also");
	const offset = fc.oneof(
		fc.nat(15).map((n) => n * 16 * scale),
		fc.nat(250 * scale),
	);
	return fc.array(
		fc.oneof(
			{
				weight: 6,
				arbitrary: fc.record({
					kind: fc.constant("write" as const),
					name,
					offset,
					length: fc.integer({ min: 1, max: 70 * scale }),
					byte: fc.integer({ min: 0, max: 255 }),
				}),
			},
			{ weight: 3, arbitrary: fc.record({ kind: fc.constant("size" as const), name, size: offset }) },
			{ weight: 4, arbitrary: fc.record({ kind: fc.constant("fill" as const), granules: fc.integer({ min: 1, max: 6 }) }) },
			{ weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("chmod" as const, "utimes" as const), name, value: fc.nat(0o777) }) },
			{ weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("restart" as const, "kill" as const, "settle" as const) }) },
		),
		{ maxLength: 25 },
	);
}

async function follow(rig: Rig, steps: readonly Action[]): Promise<void> {
	const contents = new Map([
		["big", Buffer.from(rig.contents)],
		["two", Buffer.from(rig.contents)],
	]);
	const key = (name: string) => (name === "big" ? "big" : "two");
	for (const step of steps) {
		const before = { big: rig.times("big"), two: rig.times("two") };
		let changed = "";
		if (step.kind === "write") {
			changed = key(step.name);
			const now = contents.get(changed) as Buffer;
			const data = Buffer.alloc(step.length, step.byte);
			const after = Buffer.alloc(Math.max(now.length, step.offset + step.length));
			now.copy(after);
			data.copy(after, step.offset);
			contents.set(changed, after);
			await rig.write(step.name, step.offset, data);
		} else if (step.kind === "size") {
			changed = key(step.name);
			const now = contents.get(changed) as Buffer;
			const after = Buffer.alloc(step.size);
			now.copy(after);
			contents.set(changed, after);
			await rig.set(step.name, { size: step.size });
		} else if (step.kind === "fill") await rig.fill(step.granules);
		else if (step.kind === "chmod") await rig.set(step.name, { mode: step.value });
		else if (step.kind === "utimes") {
			await rig.set(step.name, { mtime: { sec: step.value, nsec: 5 } });
			assert.equal(rig.times(step.name), `${step.value}.5`);
			changed = key(step.name);
		} else if (step.kind === "restart") await rig.close();
		else if (step.kind === "kill") rig.kill();
		else assert.deepEqual((await settleData(rig.overlay, false)).failures, []);
		for (const name of ["big", "two"] as const) {
			const found = await rig.read(name);
			const wanted = contents.get(name) as Buffer;
			if (!found.equals(wanted)) assert.deepEqual(found, wanted, `${name} after ${JSON.stringify(step)}`);
			if (name !== changed) assert.equal(rig.times(name), before[name], `mtime of ${name} after ${JSON.stringify(step)}`);
		}
	}
	await settleData(rig.overlay, false);
	for (const name of ["big", "two"] as const) {
		const wanted = contents.get(name) as Buffer;
		assert.ok((await rig.read(name)).equals(wanted));
		assert.ok(readFileSync(join(rig.lower, name)).equals(rig.contents));
	}
	assert.deepEqual(rig.records(), []);
	await rig.close();
}

async function property(t: TestContext, base: string, file: LowerFile, limits: Partial<PartialLimits>, scale: number): Promise<void> {
	t.diagnostic(`seed ${seed}`);
	await fc.assert(
		fc.asyncProperty(actions(scale), fc.boolean(), async (steps, evicts) => {
			const rig = new Rig(base, file, limits, evicts ? 1 : undefined);
			try {
				await follow(rig, steps);
			} finally {
				rig.kill();
				rmSync(rig.base, { recursive: true });
			}
		}),
		{ numRuns: volume(20, 60, 2000), seed },
	);
}

test("random writes, truncations, fills and restarts read as those of a plain file", { skip }, (t) =>
	property(t, scratch(t).path, PLAIN, {}, 1),
);

for (const kind of ["ext4", "xfs", "btrfs", "tmpfs"] as FileSystem[]) {
	test(`the same on ${kind}, of a lower file with holes`, { skip: skip || cannotMount(kind) }, (t) => {
		const file = {
			size: 60_000,
			data: [
				[5000, 9000],
				[30_000, 4000],
				[50_000, 9000],
			] as const,
		};
		return property(t, scratch(t).mount(kind), file, { granuleBytes: 4096 }, 256);
	});
}

test("over the wire: a first write to a large file is stable at once, over kills, and ends in an ordinary file", { skip }, async (t) => {
	const made = scratch(t);
	const size = 24 * 1024 * 1024 + 5;
	const contents = Buffer.alloc(size);
	for (let i = 0; i < size; i++) contents[i] = (i * 7 + (i >> 12)) & 0xff;
	const lower = made.folder("lower");
	made.file("lower/big", contents);
	const upper = made.folder("upper");
	const server = await startServer(made, { lowers: [lower], upper, args: ["--state-dir", made.folder("state")] });
	const expected = Buffer.from(contents);
	const written: [number, Buffer][] = [
		[10_000_000, Buffer.from("in the midst")],
		[size, Buffer.from("behind the end")],
		[3, Buffer.alloc(200_000, 9)],
	];
	let wanted = expected;
	for (const [offset, data] of written) {
		const client = await server.client();
		const root = await client.root();
		const { handle } = await ok(client.lookup(root, "big"));
		await ok(client.write(handle, BigInt(offset), data));
		const after = Buffer.alloc(Math.max(wanted.length, offset + data.length));
		wanted.copy(after);
		data.copy(after, offset);
		wanted = after;
		assert.ok((await client.readFile(handle)).equals(wanted), "before the kill");
		client.close();
		await server.kill();
		await server.start();
	}
	const client = await server.client();
	const { handle } = await ok(client.lookup(await client.root(), "big"));
	assert.ok((await client.readFile(handle)).equals(wanted));
	const fd = openPath(join(upper, "big"), O.path);
	while (typeof getXattr(fd, "trusted.overlay.metacopy") !== "number") {
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
	close(fd);
	assert.ok(readFileSync(join(upper, "big")).equals(wanted));
	assert.ok((await client.readFile(handle)).equals(wanted));
	client.close();
	await server.terminate();
	assert.deepEqual(readdirSync(join(made.path, "upper.work/holdfast/partial")), []);
});
