/** What takes the kernel long to free is freed off the main thread, and everybody else goes on meanwhile. */

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { interceptChanges } from "../../src/linux/libc.ts";
import { allocate } from "../../src/linux/memory.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import type { Job, JobResult } from "../../src/overlay/threads/job.ts";
import type { Offload } from "../../src/overlay/threads/offload.ts";
import { release } from "../../src/overlay/upkeep/release.ts";
import { OverlayError, Pending } from "../../src/vfs/errors.ts";
import type { ChangeKey, OverlayObject } from "../../src/vfs/operations.ts";
import { keyed, keyOf } from "../in-process/keyed.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../support/scratch.ts";

const skip = needs("root");
const BLOCK = 4096;
const EXTENTS = 100;
const SIZE = (EXTENTS * 2 - 1) * BLOCK;
const WHITEOUTS = 3000;
const bytes = (text: string) => Buffer.from(text);
const buffer = allocate(BLOCK);

/** Has the jobs that free space wait for `open`. */
class Gate implements Pick<Offload, "run" | "close"> {
	readonly #real: Pick<Offload, "run" | "close">;
	#open: () => void = () => {};
	#isOpen: Promise<void> = new Promise((resolve) => {
		this.#open = resolve;
	});
	readonly jobs: Job["kind"][] = [];
	/** What the next job ends with, instead of being done. */
	failure: number | null = null;

	constructor(real: Pick<Offload, "run" | "close">) {
		this.#real = real;
	}

	async run(job: Job): Promise<JobResult> {
		this.jobs.push(job.kind);
		await this.#isOpen;
		const { failure } = this;
		this.failure = null;
		return failure ?? this.#real.run(job);
	}

	close(): Promise<void> {
		return this.#real.close();
	}

	open(): void {
		this.#open();
	}
}

class Rig {
	readonly base: string;
	readonly handles: "kernel" | "portable";
	overlay: Overlay;
	gate: Gate;
	#xid = 0;

	constructor(base: string, handles: "kernel" | "portable" = "kernel") {
		this.base = base;
		this.handles = handles;
		for (const name of ["lower", "lower/many"]) mkdirSync(join(base, name));
		writeFileSync(join(base, "lower/other"), "other");
		[this.overlay, this.gate] = this.#open();
	}

	#open(): [Overlay, Gate] {
		const { overlay } = openOverlay(this.options("serve"));
		const engine = overlay.engine as { freeing: Pick<Offload, "run" | "close"> };
		const gate = new Gate(engine.freeing);
		engine.freeing = gate;
		return [overlay, gate];
	}

	options<Purpose extends "serve" | "release" | "inspect">(purpose: Purpose) {
		const { base, handles } = this;
		const layers = { lowers: [join(base, "lower")], upper: join(base, "upper"), stateFolder: join(base, "state") };
		return { ...layers, handles, isSync: false, purpose };
	}

	async restart(): Promise<void> {
		await this.overlay.close();
		[this.overlay, this.gate] = this.#open();
	}

	/** A request of its own, in as many passes as it takes. */
	run<T>(step: (overlay: Overlay) => T, key: ChangeKey = keyOf("client", ++this.#xid)): Promise<T> {
		return untilReady(() => {
			this.overlay.beginPass();
			return step(keyed(this.overlay, key));
		});
	}

	/** Its first pass alone. */
	isPending(step: (overlay: Overlay) => unknown): boolean {
		try {
			step(keyed(this.overlay, keyOf("client", ++this.#xid)));
			return false;
		} catch (error) {
			if (!(error instanceof Pending)) throw error;
			return true;
		}
	}

	find(name: string): OverlayObject {
		return walk(this.overlay, name);
	}

	/** A file of many extents. */
	async make(name: string): Promise<Buffer> {
		await this.run(({ root, create }) => create.call(this.overlay, root, bytes(name), ROOT, { mode: "guarded", attributes: {} }));
		const file = this.find(name);
		for (let i = 0; i < EXTENTS; i++) await this.run((overlay) => overlay.write(file, ROOT, i * 2 * BLOCK, Buffer.alloc(BLOCK, "x")));
		await this.overlay.commit(file);
		return Buffer.from(file.handle);
	}

	async makeWhiteouts(): Promise<void> {
		for (let i = 0; i < WHITEOUTS; i++) await this.run((overlay) => overlay.remove(walk(overlay, "many"), bytes(`n${i}`), ROOT));
	}

	fill(): void {
		for (let i = 0; i < WHITEOUTS; i++) writeFileSync(join(this.base, "lower/many", `n${i}`), "");
	}

	remove(name: string): Promise<void> {
		return this.run((overlay) => overlay.remove(overlay.root, bytes(name), ROOT));
	}

	code(step: (overlay: Overlay) => unknown): string {
		try {
			step(this.overlay);
			return "ok";
		} catch (error) {
			if (error instanceof OverlayError) return error.code;
			throw error;
		}
	}

	read(handle: Buffer): string {
		return this.code((overlay) => overlay.read(overlay.decode(handle), ROOT, 0, 1, buffer, 0));
	}

	get trash(): string[] {
		return readdirSync(join(this.base, "upper.work/holdfast/trash"));
	}

	get cuts(): string[] {
		return readdirSync(join(this.base, "upper.work/holdfast/cuts"));
	}

	async emptied(): Promise<void> {
		this.gate.open();
		await nextTurn();
		await (this.overlay.engine.writable?.work.trash.emptied() ?? undefined);
		assert.deepEqual(this.trash, []);
	}
}

function rigOn(t: TestContext, kind: FileSystem, handles: "kernel" | "portable" = "kernel", megabytes?: number): Rig {
	const rig = new Rig(scratch(t).mount(kind, kind, megabytes), handles);
	t.after(async () => {
		rig.gate.open();
		await rig.overlay.close();
	});
	return rig;
}

const cut = (file: OverlayObject, overlay: Overlay) => overlay.setattr(file, ROOT, { size: 1, mode: 0o640 });

for (const kind of ["ext4", "xfs", "btrfs"] as const) {
	test(`a file of many extents is cut off the main thread, and nothing but the file waits: ${kind}`, {
		skip: skip || cannotMount(kind),
	}, async (t) => {
		const rig = rigOn(t, kind);
		await rig.make("large");
		const file = rig.find("large");
		const calls: string[] = [];
		interceptChanges((name) => {
			calls.push(name);
		});
		t.after(() => interceptChanges(null));
		const done = rig.run((overlay) => cut(file, overlay));
		assert.ok(!calls.includes("ftruncate"), calls.join());
		assert.deepEqual(rig.gate.jobs, ["cut"]);
		assert.equal(rig.cuts.length, 1);
		// while the thread is at it
		for (let turn = 0; turn < 5; turn++) {
			await nextTurn();
			assert.equal(rig.overlay.getattr(file).sizeLo, SIZE);
			assert.equal(rig.overlay.lookup(rig.overlay.root, bytes("large"), ROOT), file);
			assert.equal(rig.overlay.getattr(rig.find("other")).sizeLo, 5);
		}
		await rig.run((overlay) => overlay.setattr(walk(overlay, "other"), ROOT, { mode: 0o600 }));
		const { root } = rig.overlay;
		for (const [what, step] of Object.entries<(overlay: Overlay) => unknown>({
			write: (overlay) => overlay.write(file, ROOT, 0, bytes("x")),
			read: (overlay) => overlay.read(file, ROOT, 0, 1, buffer, 0),
			seek: (overlay) => overlay.seek(file, ROOT, 0, "hole"),
			deallocate: (overlay) => overlay.deallocate(file, ROOT, 0, 1),
			setattr: (overlay) => overlay.setattr(file, ROOT, { mode: 0o600 }),
			setxattr: (overlay) => overlay.setxattr(file, ROOT, bytes("user.a"), bytes("b")),
			link: (overlay) => overlay.link(file, root, bytes("link"), ROOT),
			rename: (overlay) => overlay.rename(root, bytes("large"), root, bytes("renamed"), ROOT),
			"rename over it": (overlay) => overlay.rename(root, bytes("other"), root, bytes("large"), ROOT),
			remove: (overlay) => overlay.remove(root, bytes("large"), ROOT),
			"create over it": (overlay) => overlay.create(root, bytes("large"), ROOT, { mode: "unchecked", attributes: { size: 0 } }),
		})) {
			assert.ok(rig.isPending(step), `${what} does not wait`);
		}
		rig.gate.open();
		await done;
		const { sizeLo, mode, blocks } = rig.overlay.getattr(file);
		assert.deepEqual([sizeLo, mode], [1, 0o640]);
		assert.ok(blocks * 512 <= 16 * BLOCK);
		assert.deepEqual(rig.cuts, []);
		await rig.remove("large");
	});

	test(`a file of many extents that loses its last name is freed off the main thread: ${kind}`, {
		skip: skip || cannotMount(kind),
	}, async (t) => {
		const rig = rigOn(t, kind);
		const [large, over] = [await rig.make("large"), await rig.make("over")];
		await rig.run((overlay) => overlay.link(walk(overlay, "large"), overlay.root, bytes("link"), ROOT));
		await rig.remove("link");
		assert.deepEqual(rig.trash, [], "of two names one is nothing to be freed");
		const free = rig.overlay.statfs(rig.overlay.root).freeBytes;
		await rig.remove("large");
		await rig.run((overlay) => overlay.rename(overlay.root, bytes("other"), overlay.root, bytes("over"), ROOT));
		assert.equal(rig.trash.length, 2);
		assert.equal(rig.read(large), "stale");
		assert.equal(rig.read(over), "stale");
		assert.ok(rig.overlay.statfs(rig.overlay.root).freeBytes >= free + EXTENTS * BLOCK, "what is in the trash counts as free");
		// the next server finds it there
		await rig.restart();
		assert.equal(rig.trash.length, 2);
		assert.equal(rig.read(large), "stale");
		await rig.emptied();
		assert.equal(rig.read(large), "stale");
		assert.equal(
			rig.code((overlay) => overlay.getattr(walk(overlay, "over"))),
			"ok",
		);
	});
}

test("small files are removed and cut at once", { skip: skip || cannotMount("ext4") }, async (t) => {
	const rig = rigOn(t, "ext4");
	for (const name of ["a", "b"]) {
		await rig.run((overlay) => overlay.create(overlay.root, bytes(name), ROOT, { mode: "guarded", attributes: {} }));
		await rig.run((overlay) => overlay.write(walk(overlay, name), ROOT, 0, Buffer.alloc(1024 * 1024, "x")));
		await rig.overlay.commit(rig.find(name));
	}
	assert.ok(!rig.isPending((overlay) => cut(walk(overlay, "a"), overlay)));
	assert.ok(!rig.isPending((overlay) => overlay.remove(overlay.root, bytes("b"), ROOT)));
	assert.deepEqual(rig.gate.jobs, []);
	assert.deepEqual(rig.trash, []);
});

test("a cut goes on without its client, and is answered when the request comes again", { skip: skip || cannotMount("ext4") }, async (t) => {
	const rig = rigOn(t, "ext4");
	await rig.make("large");
	const file = rig.find("large");
	const { ctime } = rig.overlay.getattr(file);
	const key = keyOf("client", 4711);
	const guarded = (overlay: Overlay) => overlay.setattr(file, ROOT, { size: 1, mode: 0o640 }, ctime);
	assert.throws(() => guarded(keyed(rig.overlay, key)), Pending);
	rig.gate.open();
	await settled(rig);
	assert.equal(rig.overlay.getattr(file).mode, 0o640);
	// the ctime is another one by now
	await rig.run(guarded, keyOf("client", 4711));
	await rig.restart();
	await rig.run((overlay) => overlay.setattr(walk(overlay, "large"), ROOT, { size: 1, mode: 0o640 }, ctime), keyOf("client", 4711));
	await assert.rejects(
		rig.run((overlay) => overlay.setattr(walk(overlay, "large"), ROOT, { size: 1 }, ctime)),
		(error) => error instanceof OverlayError && error.code === "notsync",
	);
});

async function settled({ overlay }: Rig): Promise<void> {
	while (overlay.engine.cuts.running.size > 0) await Promise.all(overlay.engine.cuts.running);
}

test("a cut that fails is answered with its error, and the file is as it was", { skip: skip || cannotMount("ext4") }, async (t) => {
	const rig = rigOn(t, "ext4");
	await rig.make("large");
	rig.gate.failure = -5;
	rig.gate.open();
	await assert.rejects(
		rig.run((overlay) => cut(walk(overlay, "large"), overlay)),
		(error) => error instanceof OverlayError && error.code === "io",
	);
	assert.deepEqual(rig.cuts, []);
	assert.equal(rig.overlay.getattr(rig.find("large")).sizeLo, SIZE);
	await rig.run((overlay) => cut(walk(overlay, "large"), overlay));
	assert.equal(rig.overlay.getattr(rig.find("large")).sizeLo, 1);
});

for (const handles of ["kernel", "portable"] as const) {
	test(`a directory full of whiteouts is looked through and removed off the main thread: ${handles} handles`, {
		skip: skip || cannotMount("ext4"),
	}, async (t) => {
		const rig = new Rig(scratch(t).mount("ext4"), handles);
		t.after(() => rig.overlay.close());
		rig.fill();
		await rig.restart();
		await rig.makeWhiteouts();
		const { handle } = rig.find("many");
		await rig.run((overlay) => overlay.mkdir(overlay.root, bytes("instead"), ROOT, {}));
		await rig.run((overlay) => overlay.rename(overlay.root, bytes("instead"), overlay.root, bytes("many"), ROOT));
		assert.equal(rig.trash.length, 1);
		assert.equal(
			rig.code((overlay) => overlay.getattr(overlay.decode(handle))),
			"stale",
		);
		await rig.emptied();
		await rig.run((overlay) => overlay.rmdir(overlay.root, bytes("many"), ROOT));
		assert.equal(rig.overlay.lookup(rig.overlay.root, bytes("many"), ROOT), null);
	});

	test(`a held file goes to the trash when it is let go: ${handles} handles`, { skip: skip || cannotMount("ext4") }, async (t) => {
		const rig = rigOn(t, "ext4", handles);
		const handle = await rig.make("large");
		rig.overlay.hold(handle);
		await rig.remove("large");
		assert.deepEqual(rig.trash, []);
		assert.equal(rig.read(handle), "ok");
		rig.overlay.letGo(handle);
		assert.equal(rig.trash.length, 1);
		assert.equal(rig.read(handle), "stale");
		await rig.emptied();
	});
}

test("no request fails for want of space that is being freed", { skip: skip || cannotMount("ext4") }, async (t) => {
	const rig = rigOn(t, "ext4", "kernel", 32);
	await rig.make("large");
	await rig.run((overlay) => overlay.create(overlay.root, bytes("filler"), ROOT, { mode: "guarded", attributes: {} }));
	const write = (overlay: Overlay, at: number) => overlay.write(walk(overlay, "filler"), ROOT, at * BLOCK, Buffer.alloc(BLOCK, "f"));
	let at = 0;
	while (rig.code((overlay) => write(overlay, at)) === "ok") at++;
	assert.equal(
		rig.code((overlay) => write(overlay, at)),
		"nospc",
	);
	await rig.remove("large");
	assert.equal(rig.trash.length, 1);
	assert.ok(rig.isPending((overlay) => write(overlay, at)));
	const written = rig.run((overlay) => write(overlay, at));
	rig.gate.open();
	await written;
	await rig.emptied();
});

test("an upper that is handed back to the kernel has no trash", { skip: skip || cannotMount("ext4") }, async (t) => {
	const rig = new Rig(scratch(t).mount("ext4"));
	await rig.make("large");
	await rig.remove("large");
	assert.equal(rig.trash.length, 1);
	await rig.overlay.close();
	await release(openOverlay(rig.options("release")).overlay, join(rig.base, "upper.work"), false);
	assert.ok(!readdirSync(join(rig.base, "upper.work/holdfast")).includes("trash"));
});
