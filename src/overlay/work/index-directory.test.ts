// What the index knows to be absent is absent: while it is listed, after every step, and after kills.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { RENAME } from "../../linux/names.ts";
import { close } from "../../linux/open.ts";
import { completeSteps, runStep, type Step } from "../journal/steps.ts";
import { Offload } from "../threads/offload.ts";
import { hashEntries } from "./entry-hashes.ts";
import { IndexDirectory } from "./index-directory.ts";
import { cannotMakeUpper, descriptorsOf, makeUpper, type TestUpper } from "./upper-state.test-support.ts";
import type { UpperState } from "./upper-state.ts";

const skip = cannotMakeUpper;
/** Beside whiteouts, which need no inode of upper. */
const ENTRIES = Array.from({ length: 6 }, (_, i) => Buffer.from(`record ${i}`).toString("hex"));

let made = 0;

/** The index as one server after the other has it. */
class Servers {
	readonly #upper: TestUpper;
	#state: UpperState;
	#endListing: (() => void) | null = null;
	#learning: Promise<void> = Promise.resolve();

	constructor(upper: TestUpper) {
		this.#upper = upper;
		this.#state = upper.state;
	}

	get isKnown(): boolean {
		return this.#state.index.isKnown;
	}

	/** A thread lists at once and its answer comes later, so that what is made in between is in no listing. */
	learn(): void {
		if (this.#endListing !== null) return;
		const list = (fd: number) => {
			const slots = hashEntries(fd);
			return new Promise<Uint32Array | number>((resolve) => {
				this.#endListing = () => resolve(slots);
			});
		};
		this.#learning = this.#state.index.learn(list, -1);
	}

	async endListing(): Promise<void> {
		this.#endListing?.();
		this.#endListing = null;
		await this.#learning;
	}

	async restart(): Promise<void> {
		await this.endListing();
		const { layer, work } = this.#state;
		this.#state = { ...this.#state, index: new IndexDirectory(this.#state.index.fd, layer, work) };
	}

	/** Steps that make `entry`; what they need lies in work. */
	steps(kind: "link" | "move" | "whiteout" | "exchange", entry: string): Step[] {
		if (kind === "whiteout") return [{ op: "whiteout", in: "index", name: entry }];
		const name = `#test${made++}`;
		writeFileSync(join(this.#upper.work, "work", name), "");
		const inode = this.#upper.handle(`work/work/${name}`);
		if (kind === "link") return [{ op: "link", inode, to: "index", toName: entry }];
		const isThere = readdirSync(join(this.#upper.work, "index")).includes(entry);
		const flags = kind === "exchange" && isThere ? RENAME.exchange : 0;
		return [{ op: "move", inode, from: "work", fromName: name, to: "index", toName: entry, flags }];
	}

	run(steps: readonly Step[]): void {
		const opened: number[] = [];
		try {
			for (const step of steps) runStep(this.#state, step, descriptorsOf(this.#state, opened));
		} finally {
			for (const fd of opened) close(fd);
		}
	}

	/** Killed before the first or behind some of the steps: the next server completes them before it learns. */
	async kill(steps: readonly Step[], behind: number): Promise<void> {
		this.run(steps.slice(0, behind));
		await this.restart();
		completeSteps(this.#state, steps);
	}

	remove(entry: string): void {
		rmSync(join(this.#upper.work, "index", entry), { force: true, recursive: true });
	}

	/** Nothing that is there is called absent, and nothing else is found. */
	check(): void {
		const there = new Set(readdirSync(join(this.#upper.work, "index")));
		for (const entry of ENTRIES) {
			const answer = this.#state.index.ask(entry);
			if (answer.kind === "upper") close(answer.fd);
			assert.equal(answer.kind !== "absent", there.has(entry), entry);
		}
	}
}

const entry = fc.constantFrom(...ENTRIES);
const makes = fc.constantFrom("link", "move", "whiteout", "exchange");
const happening = fc.oneof(
	fc.record({ kind: fc.constant("make"), how: makes, entry }),
	fc.record({ kind: fc.constant("kill"), how: makes, entry, made: fc.nat(1) }),
	fc.record({ kind: fc.constant("remove"), entry }),
	fc.constant({ kind: "learn" }),
	fc.constant({ kind: "endListing" }),
	fc.constant({ kind: "restart" }),
);

test("an entry that is there is never called absent, whenever it was made and whenever servers were killed", { skip }, async (t) => {
	const upper = makeUpper(t);
	let known = 0;
	await fc.assert(
		fc.asyncProperty(fc.array(happening, { maxLength: 40 }), async (happenings) => {
			const servers = new Servers(upper);
			for (const one of ENTRIES) servers.remove(one);
			for (const it of happenings) {
				if (it.kind === "learn") servers.learn();
				else if (it.kind === "endListing") await servers.endListing();
				else if (it.kind === "restart") await servers.restart();
				else if ("entry" in it && it.kind === "remove") servers.remove(it.entry);
				else if ("how" in it) {
					if (it.how === "link") servers.remove(it.entry);
					const steps = servers.steps(it.how as "link", it.entry);
					if ("made" in it) await servers.kill(steps, it.made);
					else servers.run(steps);
				}
				servers.check();
				if (servers.isKnown) known++;
			}
			await servers.endListing();
			servers.check();
		}),
		{ numRuns: 150 },
	);
	assert.ok(known > 100, "the index was known in the course of it");
});

test("a long index is listed by a thread, and known after that", { skip }, async (t) => {
	const upper = makeUpper(t);
	const names = Array.from({ length: 1500 }, (_, i) => Buffer.from(`long ${i}`).toString("hex"));
	for (const name of names) mkdirSync(join(upper.work, "index", name));
	const { index } = upper.state;
	const offload = new Offload();
	const learning = index.learn(async (fd) => (await offload.run({ kind: "entries", fd })) as Uint32Array | number);
	assert.equal(index.isKnown, false);
	await learning;
	assert.ok(index.isKnown);
	rmSync(join(upper.work, "index", names[0]), { recursive: true });
	assert.equal(index.ask(names[0]).kind, "absent");
	await offload.close();
});

test("an index whose listing fails, or that is too long, is asked as before", { skip }, async (t) => {
	const upper = makeUpper(t);
	writeFileSync(join(upper.work, "index", ENTRIES[0]), "");
	const { index } = upper.state;
	await index.learn(async () => -5, 0);
	assert.equal(index.isKnown, false);
	await assert.rejects(
		index.learn(async () => {
			throw new Error("The server is ending");
		}, 0),
	);
	assert.equal(index.isKnown, false);
	const answer = index.ask(ENTRIES[0]);
	assert.equal(answer.kind, "upper");
	if (answer.kind === "upper") close(answer.fd);
});
