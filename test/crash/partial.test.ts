/** Files that are copied up in part, over kills and power failures at any call: what was made stable is there, and what was not is old or new. */

import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { allocate } from "../../src/linux/memory.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { settleData } from "../../src/overlay/upkeep/settle-data.ts";
import { workInline } from "../differential/inline-offload.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { generator } from "../support/random.ts";
import { needs, seed, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { PowerDisk } from "./power-disk.ts";
import { abandon, CrashError, counting } from "./stage.ts";

const SIZE = 40_000;
const GRANULE = 4096;

const PAGE = 4096;

/** What each byte may be: of the last state that is stable, or of what was done since. */
class Model {
	readonly lower: Buffer;
	/** Byte by byte, what it may read as; -1: the file may end before. */
	#may: Set<number>[];
	#now: Buffer;
	sizes: Set<number>;
	/** Writes behind the end that no COMMIT has covered: a file system may have put only the first pages of one on disk, and its size with them. */
	#growths: (readonly [from: number, to: number])[] = [];

	constructor(lower: Buffer) {
		this.lower = lower;
		this.#now = Buffer.from(lower);
		this.#may = [];
		this.sizes = new Set();
		this.settle(this.#now);
	}

	get now(): Buffer {
		return this.#now;
	}

	/** All of it is stable, and reads as this. */
	settle(contents: Buffer): void {
		this.#now = Buffer.from(contents);
		this.#may = [...contents].map((byte) => new Set([byte]));
		this.sizes = new Set([contents.length]);
		this.#growths = [];
	}

	write(offset: number, data: Buffer): void {
		if (offset + data.length > this.#now.length) this.#growths.push([this.#now.length, offset + data.length]);
		const after = Buffer.alloc(Math.max(this.#now.length, offset + data.length));
		this.#now.copy(after);
		data.copy(after, offset);
		this.#become(after);
	}

	cut(size: number): void {
		const after = Buffer.alloc(size);
		this.#now.copy(after);
		this.#become(after);
	}

	#become(after: Buffer): void {
		for (let i = 0; i < after.length; i++) {
			this.#may[i] ??= new Set([0]);
			this.#may[i].add(after[i]);
		}
		this.#now = after;
		this.sizes.add(after.length);
	}

	/** What is wrong with what was read, or "". */
	judge(found: Buffer): string {
		const isTorn = found.length % PAGE === 0 && this.#growths.some(([from, to]) => from < found.length && found.length < to);
		if (!this.sizes.has(found.length) && !isTorn) return `it has ${found.length} bytes and not ${[...this.sizes].join(" or ")}`;
		for (let i = 0; i < found.length; i++) {
			// where the file ended in between it may read as zeros
			if (!this.#may[i].has(found[i]) && !(this.sizes.size > 1 && found[i] === 0)) {
				return `byte ${i} is ${found[i]} and not ${[...this.#may[i]].join(" or ")}`;
			}
		}
		return "";
	}
}

class Rig {
	readonly upper: string;
	readonly lower: string;
	readonly state: string;
	overlay: Overlay | null = null;

	constructor(lower: string, at: string) {
		this.lower = lower;
		this.upper = join(at, "upper");
		this.state = join(at, "state");
		mkdirSync(this.upper, { recursive: true });
	}

	open(): Overlay {
		const { overlay } = openOverlay({
			lowers: [this.lower],
			upper: this.upper,
			stateFolder: this.state,
			isSync: true,
			purpose: "serve",
			partialLimits: { bytesMin: 1, granuleBytes: GRANULE, fills: false },
		});
		this.overlay = workInline(overlay, true);
		return this.overlay;
	}

	read(): Buffer {
		const overlay = this.overlay as Overlay;
		const file = walk(overlay, "big");
		const size = overlay.getattr(file).sizeLo;
		const memory = allocate(Math.max(size, 1));
		const { count } = overlay.read(file, ROOT, 0, size, memory, 0);
		assert.equal(count, size);
		return Buffer.from(memory.bytes.subarray(0, count));
	}

	/** One random step; null: it changes nothing that a client sees. */
	async step(random: (below: number) => number, model: Model): Promise<void> {
		const overlay = this.overlay as Overlay;
		const kind = random(13);
		if (kind < 4) {
			const offset = random(SIZE + 3000);
			const data = Buffer.alloc(1 + random(9000), 200 + random(50));
			model.write(offset, data);
			await untilReady(() => overlay.write(walk(overlay, "big"), ROOT, offset, data));
		} else if (kind < 6) {
			const size = random(SIZE + 3000);
			model.cut(size);
			await untilReady(() => overlay.setattr(walk(overlay, "big"), ROOT, { size }));
		} else if (kind < 8) {
			const partials = overlay.engine.partials;
			for (const file of partials?.all ?? []) await partials?.fillStep(file, 1 + random(4));
		} else if (kind < 10) {
			const offset = random(SIZE);
			const length = 1 + random(3 * GRANULE);
			const end = Math.min(offset + length, model.now.length);
			if (end > offset) model.write(offset, Buffer.alloc(end - offset));
			await untilReady(() => overlay.deallocate(walk(overlay, "big"), ROOT, offset, length));
		} else if (kind < 11) {
			const offset = random(SIZE + 3000);
			const length = 1 + random(9000);
			if (offset + length > model.now.length) model.cut(offset + length);
			await untilReady(() => overlay.allocate(walk(overlay, "big"), ROOT, offset, length));
		} else {
			const now = Buffer.from(model.now);
			await untilReady(() => overlay.getattr(walk(overlay, "big")));
			await overlay.commit(walk(overlay, "big"));
			await overlay.stable();
			model.settle(now);
		}
	}
}

/** Puts the file into a lower; its contents. */
function plantBig(lower: string): Buffer {
	const contents = Buffer.alloc(SIZE);
	for (let i = 0; i < SIZE; i++) contents[i] = 97 + (i % 26);
	writeFileSync(join(lower, "big"), contents);
	return contents;
}

for (const kind of ["ext4", "xfs", "btrfs"] as const) {
	test(`what is committed of a file copied up in part outlives a power failure of ${kind} before any call`, {
		skip: needs("root") || cannotMount(kind),
	}, async (t) => {
		const made = scratch(t);
		const lower = made.mount("tmpfs", "lower");
		const contents = plantBig(lower);
		const disk = new PowerDisk(made, kind);
		t.diagnostic(`seed ${seed}`);
		const runs = kind === "btrfs" ? volume(2, 6, 400) : volume(5, 25, 400);
		let failures = 0;
		for (let run = 0; run < runs; run++) {
			const random = generator(seed + run);
			const model = new Model(contents);
			const at = `run${run}`;
			let rig = new Rig(lower, join(disk.path, at));
			rig.open();
			let log = `seed ${seed + run}`;
			for (let life = 0; life < 3; life++) {
				try {
					await counting(3 + random(60), async () => {
						for (;;) await rig.step(random, model);
					});
				} catch (error) {
					// a call that fails within a flush is told as an error of the flush
					log += ` | ${(error as Error).message}`;
					if (!(error instanceof CrashError) && !isOfStop(error)) throw error;
				}
				const overlay = rig.overlay as Overlay;
				rig.overlay = null;
				if (random(2) === 0) disk.commit();
				disk.cut();
				await overlay.close().catch(() => {});
				disk.restore();
				rig = new Rig(lower, join(disk.path, at));
				rig.open();
				const found = rig.read();
				const wrong = model.judge(found);
				if (wrong !== "") {
					failures++;
					t.diagnostic(`${log}: life ${life}: ${wrong}`);
				}
				model.settle(found);
			}
			const settled = await settleData(rig.overlay as Overlay, false);
			assert.deepEqual(settled.failures, []);
			const found = rig.read();
			assert.ok(found.equals(model.now), `${log}: settled it is another file`);
			await (rig.overlay as Overlay).close();
			rmSync(join(disk.path, at), { recursive: true });
		}
		assert.equal(failures, 0);
	});
}

function isOfStop(error: unknown): boolean {
	return error instanceof Error && /before .*, call \d+/.test(error.message);
}

test("stopped before any call, with granules that a write covers, a file has old or new bytes", { skip: needs("root") }, async (t) => {
	const made = scratch(t);
	const lower = made.mount("tmpfs", "lower");
	const contents = plantBig(lower);
	t.diagnostic(`seed ${seed}`);
	const layers = made.mount("tmpfs", "layers");
	for (let run = 0; run < volume(4, 10, 1000); run++) {
		const random = generator(seed + run);
		const model = new Model(contents);
		const rig = new Rig(lower, join(layers, `run${run}`));
		rig.open();
		for (let life = 0; life < 4; life++) {
			const before = Buffer.from(model.now);
			model.settle(before);
			// a kill loses nothing that was answered: only the step that it interrupts may be half done
			const stop = 3 + random(60);
			let answered = Buffer.from(before);
			try {
				await counting(stop, async () => {
					for (;;) {
						model.settle(answered);
						await rig.step(random, model);
						answered = Buffer.from(model.now);
					}
				});
			} catch (error) {
				if (!(error instanceof CrashError) && !isOfStop(error)) throw error;
			}
			abandon(rig.overlay as Overlay);
			rig.open();
			const found = rig.read();
			assert.equal(model.judge(found), "", `seed ${seed + run}, life ${life}, call ${stop}`);
			model.settle(found);
		}
		assert.deepEqual((await settleData(rig.overlay as Overlay, false)).failures, []);
		assert.ok(rig.read().equals(model.now), `seed ${seed + run}: settled it is another file`);
		await (rig.overlay as Overlay).close();
	}
});
