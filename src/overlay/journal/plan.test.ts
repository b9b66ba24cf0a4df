// A plan by itself: which descriptors its steps work on, and what is left when one of them fails.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Layer } from "../../layer/layer.ts";
import { Real } from "../../layer/real.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { Node } from "../nodes/node.ts";
import { Plan, type PlanContext } from "./plan.ts";
import type { Step } from "./steps.ts";
import type { Writable } from "./writable.ts";

const [WORK, INDEX, ORPHANS] = [11, 12, 13];

function upperNode(number: number, type: FileType = FileType.reg): Node {
	const id = { type: 1, bytes: Buffer.from([number]) };
	const real = new Real({ isUpper: true } as Layer, id, 0, number, false);
	return new Node({ type, handle: id.bytes, key: `${number}`, home: 1, id, fileidHi: 0, fileidLo: number, reals: [real] });
}

/** A plan over descriptors that are numbers alone, and a journal that does as it is told. */
function fixture(perform: (steps: readonly Step[], plan: Plan, undos: readonly ((() => unknown) | null)[]) => void = () => {}) {
	const performed: { key: unknown; handle: Buffer | null; ops: string[] }[] = [];
	const memory = { changes: 0, doubts: 0 };
	const key = { client: "c" };
	const expected: Node[] = [];
	const context = {
		changeKey: key,
		memory,
		held: { isHeld: () => false },
		changeAttribute: { expect: (node: Node) => expected.push(node) },
		descriptors: { path: (real: Real) => 100 + real.inoLo, data: (real: Real) => 200 + real.inoLo },
	} as unknown as PlanContext;
	const writable = {
		ids: null,
		work: { temporaries: WORK, orphans: ORPHANS },
		index: { fd: INDEX },
		journal: {
			perform(steps: readonly Step[], plan: Plan, key: unknown, handle: Buffer | null, undos: readonly ((() => unknown) | null)[]) {
				performed.push({ key, handle, ops: steps.map(({ op }) => op) });
				perform(steps, plan, undos);
			},
		},
	} as unknown as Writable;
	return { plan: new Plan(context, writable), performed, memory, key, expected };
}

test("the directories of steps: in work by name, in upper by the node that was put in", () => {
	const { plan } = fixture();
	const directory = upperNode(3, FileType.dir);
	assert.deepEqual(
		(["work", "index", "orphans"] as const).map((of) => plan.directory(of)),
		[WORK, INDEX, ORPHANS],
	);
	assert.equal(plan.directory(plan.in(directory)), 103);
	assert.throws(() => plan.directory(upperNode(4, FileType.dir).top.handle), OverlayError, "one that was not put in");
});

test("an inode is opened for data only where a step says so, and what was built is the descriptor that was given", () => {
	const { plan } = fixture();
	const handle = plan.of(upperNode(5));
	assert.equal(plan.inode(handle, false), 105);
	assert.equal(plan.inode(handle, true), 205);
	const built = plan.built(upperNode(6).top, 42);
	assert.equal(plan.inode(built, true), 42);
});

test("the change that was asked for has its key and handle, one that only prepares it has neither", () => {
	const asked = fixture();
	asked.plan.add({ op: "count", entry: "00", value: 1 }).perform(Buffer.from("handle"));
	assert.deepEqual(asked.performed, [{ key: asked.key, handle: Buffer.from("handle"), ops: ["count"] }]);
	const prepared = fixture();
	prepared.plan.add({ op: "count", entry: "00", value: 1 }).prepare();
	assert.deepEqual(prepared.performed, [{ key: null, handle: null, ops: ["count"] }]);
});

test("the change attribute of all that was touched grows by a change that clients see, and by no other", () => {
	const [seen, unseen] = [fixture(), fixture()];
	const node = upperNode(9);
	seen.plan.touch(node).perform();
	assert.deepEqual(seen.expected, [node]);
	unseen.plan.touch(node).prepare();
	assert.deepEqual(unseen.expected, []);
});

test("attributes of all that was touched are read anew, and names are in doubt only behind a failure", () => {
	const good = fixture();
	const node = upperNode(7);
	node.stat = {} as Node["stat"];
	good.plan.touch(node).perform();
	assert.equal(node.stat, null);
	assert.deepEqual(good.memory, { changes: 1, doubts: 0 });

	const bad = fixture(() => {
		throw new OverlayError("nospc", "full");
	});
	node.stat = {} as Node["stat"];
	bad.plan.touch(node);
	assert.throws(() => bad.plan.perform(), { code: "nospc" });
	assert.equal(node.stat, null);
	assert.deepEqual(bad.memory, { changes: 1, doubts: 1 });
});

test("each step has the undo that it was added with", () => {
	const undone: string[] = [];
	const { plan } = fixture((steps, _, undos) => {
		assert.equal(undos.length, steps.length);
		for (const undo of [...undos].reverse()) undo?.();
	});
	plan.add({ op: "count", entry: "00", value: 1 }, () => undone.push("first"));
	plan.add({ op: "count", entry: "01", value: 1 });
	plan.add({ op: "count", entry: "02", value: 1 }, () => undone.push("third"));
	plan.perform();
	assert.deepEqual(undone, ["third", "first"]);
});

test("without portable ids no step notes where an object is", () => {
	const { plan } = fixture();
	const directory = upperNode(8, FileType.dir);
	const place = { directory, name: Buffer.from("n") };
	plan.moves(directory, place, place).lost(directory);
	assert.deepEqual(plan.steps, []);
});
