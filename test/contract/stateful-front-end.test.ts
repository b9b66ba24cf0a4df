import assert from "node:assert/strict";
import { truncateSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { allocate } from "../../src/linux/memory.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { OverlayError, Pending } from "../../src/vfs/errors.ts";
import type { CreateHow } from "../../src/vfs/operations.ts";
import { abandon } from "../crash/stage.ts";
import {
	create,
	emptyLog,
	lookup,
	mkdir,
	names,
	nlink,
	type Operation,
	open,
	putHandle,
	putRoot,
	read,
	remove,
	rename,
	StatefulFrontEnd,
	write,
} from "../in-process/stateful-front-end.ts";
import { ROOT } from "../in-process/walk.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

const skip = needs("root");
const GUARDED: CreateHow = { mode: "guarded", attributes: { mode: 0o600 } };
/** For what is in a file whose lower one is followed by a hole, and for one byte more. */
const [buffer, longer] = [allocate("UPPER content".length), allocate("UPPER content!".length)];
const first = () => 1;

/** A server that can be killed, with a log that outlives it. */
class Server {
	readonly #base: string;
	readonly #log = emptyLog();
	#overlay: Overlay;
	front: StatefulFrontEnd;

	constructor(t: TestContext) {
		this.#base = scratch(t).mount("tmpfs");
		plant(join(this.#base, "lower"), { file: "lower content", other: "other content", "dir/deep": "deep" });
		// a small file would be copied at once: nothing would wait for it
		truncateSync(join(this.#base, "lower/file"), 2 ** 20);
		this.#overlay = this.#open();
		this.front = new StatefulFrontEnd(this.#overlay, this.#log, ROOT);
		t.after(() => this.#overlay.close());
	}

	#open(): Overlay {
		const base = this.#base;
		const layers = { lowers: [join(base, "lower")], upper: join(base, "upper"), stateFolder: join(base, "state") };
		return openOverlay({ ...layers, isSync: false, purpose: "serve", restoresHolds: true, nodesMax: 2, descriptorsMax: 4 }).overlay;
	}

	async restart(isKilled: boolean): Promise<void> {
		if (isKilled) abandon(this.#overlay);
		else await this.#overlay.close();
		this.#overlay = this.#open();
		this.front = new StatefulFrontEnd(this.#overlay, this.#log, ROOT);
	}
}

test("a compound that waits in the middle goes on there, and what was done before is not done again", { skip }, async (t) => {
	const { front } = new Server(t);
	const reply = await front.compound("a", 1, [
		putRoot,
		create("made", GUARDED),
		putRoot,
		mkdir("made too"),
		lookup("file"),
		open,
		// a lower file: its data is copied in another thread
		write(first, 0, "UPPER"),
		read(first, buffer),
	]);
	assert.equal(reply.error, null);
	assert.deepEqual(reply.results.slice(-3), [1, 5, "UPPER content"]);
	assert.deepEqual(reply.begun, [1, 1, 1, 1, 1, 1, 2, 1]);
	const { results } = await front.compound("a", 2, [putRoot, names]);
	assert.deepEqual(results[1], ["dir", "file", "made", "made too", "other"]);
});

test("others come in while a compound waits, and what they take away from it is still there by its open", { skip }, async (t) => {
	const server = new Server(t);
	const { front } = server;
	const waiting = front.compound("a", 1, [putRoot, lookup("file"), open, write(first, 0, "UPPER"), nlink, read(first, buffer)]);
	const between = await front.compound("b", 1, [putRoot, remove("file"), create("file", GUARDED)]);
	assert.deepEqual([between.error, between.results[2]], [null, true]);
	const reply = await waiting;
	assert.deepEqual(reply.begun, [1, 1, 1, 2, 1, 1], "the removal came while the write waited");
	assert.deepEqual(reply.results.slice(4), [0, "UPPER content"]);
	for (const isKilled of [false, true]) {
		await server.restart(isKilled);
		const { handle } = server.front.log.opens.get(1) as { handle: Buffer };
		const again = await server.front.compound("a", 2 + Number(isKilled), [
			putHandle(handle),
			nlink,
			write(first, 13, "!"),
			read(first, longer),
		]);
		assert.deepEqual(again.results.slice(1), [0, 1, "UPPER content!"]);
	}
	const held = (server.front.log.opens.get(1) as { handle: Buffer }).handle;
	const last = await server.front.compound("a", 9, [({ close }) => close(1)]);
	assert.equal(last.error, null);
	const found = await server.front.compound("a", 10, [putRoot, lookup("file"), nlink, ({ current }) => current().handle]);
	assert.equal(found.results[2], 1);
	assert.ok(!(found.results[3] as Buffer).equals(held), "the new file is another one");
	assert.equal((await server.front.compound("a", 11, [putHandle(held)])).error, "stale");
});

test("each change of a compound has its own key: sent again after a kill it gets its first answers, and makes only what was not made", {
	skip,
}, async (t) => {
	const make: readonly Operation[] = [
		putRoot,
		create("a", GUARDED),
		putRoot,
		rename("a", "b"),
		create("a", GUARDED),
		putRoot,
		mkdir("d"),
		remove("b"),
		remove("a"),
		create("a", { mode: "unchecked", attributes: {} }),
		putRoot,
		names,
	];
	const undisturbed = await new Server(t).front.compound("a", 1, make);
	assert.equal(undisturbed.error, null);
	for (let done = 0; done <= make.length; done++) {
		const server = new Server(t);
		const cut: Operation[] = [...make.slice(0, done)];
		assert.equal((await server.front.compound("a", 1, cut)).error, null);
		for (const isKilled of [true, false]) {
			await server.restart(isKilled);
			const reply = await server.front.compound("a", 1, make);
			assert.deepEqual(reply.results, undisturbed.results, `${done} operations were done before`);
		}
	}
});

test("an answer that was an error comes again too", { skip }, async (t) => {
	const server = new Server(t);
	const operations = [putRoot, mkdir("d"), remove("absent")];
	for (let time = 0; time < 3; time++) {
		const reply = await server.front.compound("a", 1, operations);
		assert.deepEqual([reply.error, reply.results.length], ["noent", 2]);
		// it would be there for the second time
		if (time === 0) await server.front.compound("a", 2, [putRoot, create("absent", GUARDED)]);
		await server.restart(time === 0);
	}
});

test("two changes under one key are a mistake that throws, and the second is not made", { skip }, async (t) => {
	const { front } = new Server(t);
	const isMistake = (error: unknown) => error instanceof Error && !(error instanceof OverlayError) && !(error instanceof Pending);
	const twice: Operation = ({ overlay, who, key }) => {
		overlay.mkdir(overlay.root, Buffer.from("once"), who, {}, key);
		overlay.mkdir(overlay.root, Buffer.from("twice"), who, {}, key);
	};
	await assert.rejects(front.compound("a", 1, [twice]), isMistake);
	const afterAnError: Operation = ({ overlay, who, key }) => {
		assert.throws(() => overlay.remove(overlay.root, Buffer.from("absent"), who, key), OverlayError);
		overlay.mkdir(overlay.root, Buffer.from("twice"), who, {}, { ...key });
	};
	await assert.rejects(front.compound("a", 2, [afterAnError]), isMistake);
	const { results } = await front.compound("a", 3, [putRoot, names]);
	assert.deepEqual(results[1], ["dir", "file", "once", "other"]);
});

test("a callback and what its client writes back come in between, while the compound that caused it waits", { skip }, async (t) => {
	const { front } = new Server(t);
	const steps: string[] = [];
	const granted = await front.compound("a", 1, [putRoot, lookup("file"), open, ({ current, delegate }) => delegate(current())]);
	assert.equal(granted.error, null);
	front.callbacks.set("a", (handle) => {
		steps.push("recalled");
		void front
			.compound("a", 2, [putHandle(handle), write(first, 0, "DIRTY"), ({ returnDelegation }) => returnDelegation(handle)])
			.then((reply) => {
				steps.push(reply.error ?? "written back");
			});
	});
	const conflict: Operation = ({ current, recall }) => recall(current());
	const others = ["b", "c"].map((client) =>
		front.compound(client, 1, [putRoot, mkdir(`by ${client}`), lookup("file"), conflict, open, read(first, buffer)]),
	);
	for (const reply of await Promise.all(others)) {
		assert.equal(reply.error, null);
		assert.equal(reply.results[5], "DIRTY content");
		assert.deepEqual(reply.begun, [1, 1, 1, 2, 1, 1]);
	}
	assert.deepEqual(steps, ["recalled", "written back"]);
});

test("a current file that goes while a compound waits ends it there, and what was done stands", { skip }, async (t) => {
	const { front } = new Server(t);
	let end = () => {};
	const gate = new Promise<void>((resolve) => {
		end = resolve;
	});
	let isOpen = false;
	const wait: Operation = () => {
		if (!isOpen) throw new Pending(gate);
	};
	const waiting = front.compound("a", 1, [putRoot, create("short-lived", GUARDED), wait, nlink]);
	await front.compound("b", 1, [putRoot, remove("short-lived"), mkdir("meanwhile")]);
	isOpen = true;
	end();
	const reply = await waiting;
	assert.deepEqual([reply.error, reply.results], ["stale", [null, true]]);
});
