/** The change attribute of every object grows with every change, whatever clocks, caches and servers do meanwhile. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { linkSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { alterStats, type Stat } from "../../src/linux/stat.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { ChangeRecord } from "../../src/overlay/work/change-record.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import type { Attributes, OverlayObject } from "../../src/vfs/operations.ts";
import { abandon } from "../crash/stage.ts";
import { workInline } from "../differential/inline-offload.ts";
import { ROOT } from "../in-process/walk.ts";
import { generator } from "../support/random.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";

const skip = needs("root");
const BIG = 40_000;

const changeOf = ({ changeHi, changeLo }: Attributes) => (BigInt(changeHi) << 32n) | BigInt(changeLo);

/**
 * The ctime of a kernel whose clock only moves when it is told to. Any later ctime of an inode that is seen first in one tick is that tick's:
 * so even a kernel that gives each change a ctime of its own shows here what older ones do.
 */
class CoarseClock {
	readonly #tickMicros: number;
	#micros = 1_800_000_000_000_000;
	readonly #shown = new Map<string, number>();

	constructor(tickMicros: number) {
		this.#tickMicros = tickMicros;
	}

	tick(): void {
		this.#micros += this.#tickMicros;
	}

	back(micros: number): void {
		this.#micros -= micros;
	}

	readonly show = (stat: Stat): void => {
		const key = `${stat.devMajor}:${stat.devMinor}:${stat.inoHi}:${stat.inoLo}:${stat.ctimeSec}:${stat.ctimeNsec}`;
		let micros = this.#shown.get(key);
		if (micros === undefined) {
			micros = this.#micros;
			this.#shown.set(key, micros);
		}
		stat.ctimeSec = Math.floor(micros / 1_000_000);
		stat.ctimeNsec = (micros % 1_000_000) * 1000;
	};
}

/** A front end that shows its clients the change attribute, and what they remember of it. */
class Rig {
	readonly base: string;
	readonly clock: CoarseClock | null;
	readonly #nodesMax: number;
	#overlay: Overlay | null = null;
	/** By the handle in hex: the value given out last, and whether the object was changed since. */
	readonly #known = new Map<string, { value: bigint; isChanged: boolean }>();
	readonly log: string[] = [];

	constructor(base: string, clock: CoarseClock | null, nodesMax = 32768) {
		this.base = base;
		this.clock = clock;
		this.#nodesMax = nodesMax;
		for (const name of ["lower", "lower/dir", "upper"]) mkdirSync(join(base, name));
		for (const name of ["one", "two", "dir/in"]) writeFileSync(join(base, "lower", name), name);
		writeFileSync(join(base, "lower/big"), Buffer.alloc(BIG, 97));
		linkSync(join(base, "lower/two"), join(base, "lower/dir/also"));
		linkSync(join(base, "lower/two"), join(base, "lower/third"));
	}

	get overlay(): Overlay {
		this.#overlay ??= this.#open();
		return this.#overlay;
	}

	#open(): Overlay {
		const { overlay } = openOverlay({
			lowers: [join(this.base, "lower")],
			upper: join(this.base, "upper"),
			stateFolder: join(this.base, "state"),
			isSync: false,
			purpose: "serve",
			nodesMax: this.#nodesMax,
			partialLimits: { bytesMin: 8192, granuleBytes: 4096, fills: false },
		});
		return workInline(overlay);
	}

	async close(): Promise<void> {
		this.log.push("close");
		// a real clock goes on meanwhile
		const timer = setInterval(() => this.clock?.tick(), 1);
		await this.#overlay?.close();
		clearInterval(timer);
		this.#overlay = null;
		this.clock?.tick();
	}

	/** As a kill leaves it. As after any end, the next start comes later than the next tick. */
	kill(): void {
		this.log.push("kill");
		this.#overlay?.engine.writable?.journal.endLastChange();
		if (this.#overlay !== null) abandon(this.#overlay);
		this.#overlay = null;
		this.clock?.tick();
	}

	find(path: string): OverlayObject | null {
		let object: OverlayObject | null = this.overlay.root;
		for (const name of path.split("/").filter(Boolean)) {
			object = object === null || object.type !== 4 ? null : this.overlay.lookup(object, Buffer.from(name), ROOT);
		}
		return object;
	}

	/** Runs a change of the objects that it returns; an error is one of a change that was not made. */
	async change(what: string, run: (overlay: Overlay) => readonly (OverlayObject | null)[]): Promise<void> {
		this.log.push(what);
		try {
			const changed = await untilReady(() => {
				this.overlay.beginPass();
				return run(this.overlay);
			});
			for (const object of changed) {
				const known = object === null ? undefined : this.#known.get(object.handle.toString("hex"));
				if (known !== undefined) known.isChanged = true;
			}
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
		}
	}

	/** GETATTR by handle, as a client that judges what it gets. */
	async look(handle: Buffer): Promise<bigint | null> {
		const key = handle.toString("hex");
		this.log.push(`look ${key.slice(16, 40)}`);
		let value: bigint;
		try {
			value = await untilReady(() => {
				this.overlay.beginPass();
				return changeOf(this.overlay.getattr(this.overlay.decode(handle)));
			});
		} catch (error) {
			if (!(error instanceof OverlayError) || error.code !== "stale") throw error;
			this.#known.delete(key);
			return null;
		}
		const known = this.#known.get(key);
		if (known !== undefined) {
			const story = `${known.value} then ${value}, ${known.isChanged ? "changed" : "not changed"}: ${this.log.slice(-40).join("; ")}`;
			assert.ok(known.isChanged ? value > known.value : value >= known.value, story);
		}
		this.#known.set(key, { value, isChanged: false });
		return value;
	}

	handles(): Buffer[] {
		return [...this.#known.keys()].map((key) => Buffer.from(key, "hex"));
	}
}

const PATHS = ["one", "two", "third", "big", "dir", "dir/in", "dir/also", "new", "dir/new", "made", "made/new"];

const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
const nameOf = (path: string) => Buffer.from(path.slice(path.lastIndexOf("/") + 1));

/** One step of a client's, of the clock, of the caches or of the server. */
async function step(rig: Rig, random: (below: number) => number): Promise<void> {
	const path = PATHS[random(PATHS.length)];
	const other = PATHS[random(PATHS.length)];
	const directory = () => rig.find(parentOf(path)) as OverlayObject;
	const into = () => rig.find(parentOf(other)) as OverlayObject;
	const object = () => rig.find(path) as OverlayObject;
	const must = (found: OverlayObject | null): OverlayObject => {
		if (found === null) throw new OverlayError("noent", "no such name");
		return found;
	};
	switch (random(20)) {
		case 0:
		case 1:
		case 2:
		case 3: {
			const at = random(BIG);
			return rig.change(`write ${path}`, (overlay) => {
				const file = must(object());
				overlay.write(file, ROOT, at, Buffer.from(`${at}`));
				return [file];
			});
		}
		case 4:
			return rig.change(`chmod ${path}`, (overlay) => {
				const file = must(object());
				overlay.setattr(file, ROOT, { mode: 0o700 + random(64) });
				return [file];
			});
		case 5: {
			const size = random(BIG);
			return rig.change(`cut ${path}`, (overlay) => {
				const file = must(object());
				overlay.setattr(file, ROOT, { size });
				return [file];
			});
		}
		case 6:
			return rig.change(`create ${path}`, (overlay) => {
				const above = must(directory());
				overlay.create(above, nameOf(path), ROOT, { mode: "guarded", attributes: { mode: 0o644 } });
				return [above];
			});
		case 7:
			return rig.change(`mkdir ${path}`, (overlay) => {
				const above = must(directory());
				overlay.mkdir(above, nameOf(path), ROOT, { mode: 0o755 });
				return [above];
			});
		case 8:
			return rig.change(`remove ${path}`, (overlay) => {
				const above = must(directory());
				const file = must(object());
				overlay.remove(above, nameOf(path), ROOT);
				return [above, file];
			});
		case 9:
			return rig.change(`rename ${path} to ${other}`, (overlay) => {
				const [from, to] = [must(directory()), must(into())];
				const [moved, replaced] = [must(object()), rig.find(other)];
				overlay.rename(from, nameOf(path), to, nameOf(other), ROOT);
				return moved === replaced ? [] : [from, to, replaced];
			});
		case 10:
			return rig.change(`link ${path} as ${other}`, (overlay) => {
				const [file, to] = [must(object()), must(into())];
				overlay.link(file, to, nameOf(other), ROOT);
				return [file, to];
			});
		case 11:
			return rig.change(`setxattr ${path}`, (overlay) => {
				const file = must(object());
				overlay.setxattr(file, ROOT, Buffer.from("user.test"), Buffer.from(`${random(100)}`));
				return [file];
			});
		case 12: {
			// the copy of a part of the big file, which no client has asked for
			const partials = rig.overlay.engine.partials;
			rig.log.push("fill");
			for (const file of partials?.all ?? []) await partials?.fillStep(file, 1);
			return;
		}
		case 13:
			rig.log.push("tick");
			rig.clock?.tick();
			return;
		case 14:
			rig.log.push("evict");
			rig.overlay.engine.nodes.forgetAll();
			return;
		case 15:
			if (random(8) === 0) await rig.close();
			return;
		case 16:
			if (random(8) === 0) rig.kill();
			return;
		default: {
			const found = rig.find(path);
			if (found !== null) await rig.look(found.handle);
		}
	}
}

async function play(context: TestContext, seed: number, steps: number): Promise<void> {
	const folder = scratch(context);
	const clock = new CoarseClock(10_000);
	alterStats(clock.show);
	const rig = new Rig(folder.mount("tmpfs"), clock, 6);
	try {
		const random = generator(seed);
		for (let i = 0; i < steps; i++) {
			await step(rig, random);
			if (i % 10 === 0) for (const handle of rig.handles()) await rig.look(handle);
		}
		for (const handle of rig.handles()) await rig.look(handle);
		await rig.close();
	} finally {
		alterStats(null);
	}
}

for (const seed of [1, 2, 3, 4, 5, 6]) {
	test(
		`change attributes grow over a history of changes, evictions, kills and restarts, on a clock that stands still (seed ${seed})`,
		{
			skip,
		},
		(t) => play(t, seed, 1500),
	);
}

async function burst(rig: Rig, changes: number, tickEvery: number): Promise<Set<bigint>> {
	const file = rig.find("one") as OverlayObject;
	const values = new Set<bigint>();
	for (let i = 0; i < changes; i++) {
		await rig.change("write", (overlay) => {
			const object = overlay.decode(file.handle);
			overlay.write(object, ROOT, i, Buffer.from("x"));
			return [object];
		});
		values.add((await rig.look(file.handle)) as bigint);
		rig.log.length = 0;
		if (i % tickEvery === tickEvery - 1) rig.clock?.tick();
		if (i % 1000 === 500) rig.kill();
		if (i % 3000 === 2000) await rig.close();
	}
	return values;
}

for (const [clock, tickEvery] of [
	["the kernel's clock", 0],
	["a clock that stands still for 600 changes", 600],
] as const) {
	test(`10,000 changes in a burst with a GETATTR after each give 10,000 growing values, over kills and restarts, on ${clock}`, {
		skip,
	}, async (t) => {
		const folder = scratch(t);
		const coarse = tickEvery === 0 ? null : new CoarseClock(10_000);
		alterStats(coarse?.show ?? null);
		try {
			const rig = new Rig(folder.mount("tmpfs"), coarse);
			assert.equal((await burst(rig, 10_000, tickEvery || Number.POSITIVE_INFINITY)).size, 10_000);
			await rig.close();
		} finally {
			alterStats(null);
		}
	});
}

test("a value stays the same as long as nothing changes, also where it is ahead of the ctime", { skip }, async (t) => {
	const clock = new CoarseClock(10_000);
	alterStats(clock.show);
	t.after(() => alterStats(null));
	const rig = new Rig(scratch(t).mount("tmpfs"), clock);
	await burst(rig, 5, 100);
	const { handle } = rig.find("one") as OverlayObject;
	const value = await rig.look(handle);
	for (let i = 0; i < 5; i++) {
		clock.tick();
		rig.overlay.engine.nodes.forgetAll();
		assert.equal(await rig.look(handle), value);
	}
	await rig.close();
});

test("an exchange that leaves the ctime of files as it is, as on xfs, leaves nothing that the next look would write", {
	skip: skip || cannotMount("xfs"),
}, async (t) => {
	const rig = new Rig(scratch(t).mount("xfs"), null);
	const { root } = rig.overlay;
	for (const name of ["a", "b"]) rig.overlay.create(root, Buffer.from(name), ROOT, { mode: "guarded", attributes: { mode: 0o644 } });
	const both = ["a", "b"].map((name) => (rig.find(name) as OverlayObject).handle);
	for (const handle of both) await rig.look(handle);
	await rig.change("exchange", (overlay) => {
		overlay.exchange(root, Buffer.from("a"), root, Buffer.from("b"), ROOT);
		return [];
	});
	const record = join(rig.base, "upper.work/holdfast/change");
	const before = readFileSync(record);
	for (const handle of both) assert.notEqual(await rig.look(handle), null);
	assert.deepEqual(readFileSync(record), before);
	await rig.close();
});

test("what is remembered of objects that are ahead of their ctime is bounded, and the oldest are touched", { skip }, async (t) => {
	const clock = new CoarseClock(10_000);
	alterStats(clock.show);
	t.after(() => alterStats(null));
	const rig = new Rig(scratch(t).mount("tmpfs"), clock);
	const { ahead } = rig.overlay.engine.changeAttribute;
	for (let i = 0; i < 6000; i++) {
		const name = Buffer.from(`file${i}`);
		await rig.change("create", (overlay) => {
			overlay.create(overlay.root, name, ROOT, { mode: "guarded", attributes: { mode: 0o644 } });
			return [overlay.root];
		});
		const file = rig.find(`file${i}`) as OverlayObject;
		await rig.look(file.handle);
		await rig.change("write", (overlay) => {
			overlay.write(file, ROOT, 0, Buffer.from("x"));
			return [file];
		});
		await rig.look(file.handle);
		if (i % 100 === 99) clock.tick();
		if (i % 500 === 499) rig.overlay.engine.nodes.forgetAll();
		assert.ok(ahead.size <= 4096 + 256 + 200, `${ahead.size} are remembered`);
	}
	assert.ok(ahead.size > 1000);
	for (const handle of rig.handles()) await rig.look(handle);
	rig.kill();
	for (const handle of rig.handles()) await rig.look(handle);
	await rig.close();
	for (const handle of rig.handles()) await rig.look(handle);
	await rig.close();
});

test("a copy up raises the value though the lower's clock was years ahead", { skip }, async (t) => {
	const rig = new Rig(scratch(t).mount("tmpfs"), null);
	const future = (stat: Stat) => {
		if (stat.size === 3) stat.ctimeSec += 1_000_000_000;
	};
	alterStats(future);
	t.after(() => alterStats(null));
	const one = rig.find("one") as OverlayObject;
	await rig.look(one.handle);
	alterStats(null);
	await rig.change("chmod", (overlay) => {
		overlay.setattr(one, ROOT, { mode: 0o600 });
		return [one];
	});
	const value = await rig.look(one.handle);
	await rig.close();
	assert.equal(await rig.look(one.handle), value);
	await rig.close();
});

test("a file of a lower that loses a name, and is not copied up, gets a greater value, also in the next server", { skip }, async (t) => {
	const rig = new Rig(scratch(t).mount("tmpfs"), null);
	const two = rig.find("two") as OverlayObject;
	await rig.look(two.handle);
	for (const name of ["dir/also", "third"]) {
		await rig.change(`remove ${name}`, (overlay) => {
			overlay.remove(rig.find(parentOf(name)) as OverlayObject, nameOf(name), ROOT);
			return [overlay.decode(two.handle)];
		});
		const value = await rig.look(two.handle);
		await rig.close();
		assert.equal(await rig.look(two.handle), value);
	}
	await rig.close();
});

test("a clock that is set back moves all values of upper on", { skip }, async (t) => {
	const clock = new CoarseClock(10_000);
	alterStats(clock.show);
	const { now } = Date;
	t.after(() => {
		alterStats(null);
		Date.now = now;
	});
	const rig = new Rig(scratch(t).mount("tmpfs"), clock);
	const write = () =>
		rig.change("write", (overlay) => {
			const one = rig.find("one") as OverlayObject;
			overlay.write(one, ROOT, 0, Buffer.from("x"));
			return [one];
		});
	await write();
	const { handle } = rig.find("one") as OverlayObject;
	await rig.look(handle);
	const { memory } = rig.overlay.engine;
	const running = memory.clock;
	memory.clock = () => running() + 1000;
	Date.now = () => now() - 3_600_000;
	clock.back(3_600_000_000);
	await rig.look(handle);
	await write();
	const value = await rig.look(handle);
	// and once more between two servers
	await rig.close();
	Date.now = () => now() - 7_200_000;
	clock.back(3_600_000_000);
	assert.ok(((await rig.look(handle)) as bigint) > (value as bigint));
	await rig.close();
});

test("after a power failure no value is lower than one that was given out of a change that is lost", { skip }, async (t) => {
	const rig = new Rig(scratch(t).mount("tmpfs"), null);
	const { epoch } = rig.overlay.engine.changeAttribute;
	await rig.close();
	assert.equal(rig.overlay.engine.changeAttribute.epoch, epoch, "a start after an orderly end");
	rig.kill();
	assert.equal(rig.overlay.engine.changeAttribute.epoch, epoch, "a start after a kill");
	const path = join(rig.base, "upper.work/holdfast/change");
	// as another boot would find it
	const record = new ChangeRecord(join(rig.base, "upper.work/holdfast"));
	const head = record.read();
	assert.ok(head, path);
	rig.kill();
	record.write({ ...head, run: Buffer.alloc(16, 1) });
	record.close();
	assert.equal(rig.overlay.engine.changeAttribute.epoch, epoch + 1);
	await rig.close();
	assert.equal(rig.overlay.engine.changeAttribute.epoch, epoch + 1);
	await rig.close();
});

test("10,000 changes in a process that is killed again and again (SIGKILL), on a clock of 4 ms, give growing values", {
	skip,
}, async (t) => {
	const folder = scratch(t);
	for (const name of ["lower", "upper"]) mkdirSync(join(folder.path, name));
	writeFileSync(join(folder.path, "lower/file"), "file");
	const script = fileURLToPath(new URL("../in-process/changing-process.js", import.meta.url));
	let last = -1n;
	let count = 0;
	let starts = 0;
	while (count < 10_000) {
		const child = spawn(process.execPath, [script, folder.path], { stdio: ["ignore", "pipe", "inherit"] });
		folder.beforeRemoval(() => child.kill("SIGKILL"));
		const enough = count + 1200 + 37 * starts++;
		let isFirst = true;
		for await (const line of createInterface({ input: child.stdout })) {
			const value = BigInt(line);
			// the first one is read before any change: a value that the last process gave out, or a later one that was on its way
			assert.ok(isFirst ? value >= last : value > last, `${last} then ${value}, number ${count} of process ${starts}`);
			isFirst = false;
			last = value;
			if (++count === enough) child.kill("SIGKILL");
		}
		if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
		assert.equal(child.signalCode, "SIGKILL", `it ended with ${child.exitCode}`);
	}
});
