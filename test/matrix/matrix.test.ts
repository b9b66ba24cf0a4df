/** A sample of the matrix; `npm run matrix` runs all of it. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { repository, seed, volume } from "../support/requirements.ts";
import { cannotRun } from "./cannot-run.ts";
import { type CellOfMatrix, cannotImage, cellsOf, PARTS, type Part, shuffled } from "./cells.ts";
import { documentOf, failedIn, figuresIn } from "./document.ts";
import { EVENTS } from "./events.ts";
import { KINDS } from "./kinds.ts";
import { Runner } from "./runner.ts";

/** Further cells, behind those that have every kind, event and fault among them. */
const FURTHER_CELLS = volume(0, 200, 1000);

const [KERNEL, PORTABLE] = PARTS as [Part, Part];
const STACKS = new Set(["one lower, tmpfs", "one lower, ext4", "three lowers, ext4", "five lowers with a redirect, ext4"]);

/** Cells that have every kind, every event and every fault among them, in the order of the seed; behind them the others. */
function sample(cells: readonly CellOfMatrix[], seed: number, needed: readonly unknown[]): CellOfMatrix[] {
	const missing = new Set(needed);
	const chosen: CellOfMatrix[] = [];
	const rest = shuffled(cells, seed);
	const gain = ({ kind, event, fault, stack }: CellOfMatrix) => [kind, event, fault, stack].filter((entry) => missing.has(entry)).length;
	while (missing.size > 0) {
		const best = rest.reduce((one, other) => (gain(other) > gain(one) ? other : one));
		if (gain(best) === 0) throw new Error(`no cell has ${[...missing].map((entry) => (entry as { name: string }).name)}`);
		chosen.push(best);
		for (const entry of [best.kind, best.event, best.fault, best.stack]) missing.delete(entry);
		rest.splice(rest.indexOf(best), 1);
	}
	return [...chosen, ...rest];
}

/** Runs cells until all of `needed` have been in one, and then some more. */
async function runSample(t: TestContext, cells: readonly CellOfMatrix[], seed: number, needed: Set<unknown>): Promise<void> {
	const runner = new Runner(1, seed);
	t.after(() => runner.end());
	const failures: string[] = [];
	let further = 0;
	let run = 0;
	let crashPoints = 0;
	for (const cell of cells) {
		if (needed.size === 0 && further++ >= FURTHER_CELLS) break;
		const result = await runner.run(cell);
		run++;
		crashPoints += result.crashPoints.length;
		for (const entry of [cell.kind, cell.event, cell.fault, cell.stack]) needed.delete(entry);
		if (result.failure !== null) failures.push(`${result.failure}\nreplay: npm run matrix -- --seed ${seed} --cell "${cell.name}"`);
	}
	t.diagnostic(`seed ${seed}: ${run} cells, ${crashPoints} crash points`);
	assert.equal(failures.length, 0, `${failures.length} cells of seed ${seed} fail:\n${failures.slice(0, 5).join("\n\n")}`);
	assert.deepEqual(await runner.end(), [], "lowers have changed");
}

test("handles hold in a sample of the matrix of kinds, events, faults and stacks", { skip: cannotRun() }, async (t) => {
	const needed = [...KINDS, ...EVENTS, ...KERNEL.faults];
	const cells = sample(
		cellsOf(KERNEL).filter(({ impossible, stack }) => impossible === null && STACKS.has(stack.name)),
		seed,
		needed,
	);
	await runSample(t, cells, seed, new Set(needed));
});

test("portable handles hold in a sample of their matrix, copies of the layers and images among it", {
	skip: cannotRun(),
}, async (t) => {
	const stacks = PORTABLE.stacks.filter((stack) => {
		const reason = cannotImage(stack);
		if (reason !== null) t.diagnostic(`not run: ${stack.name}: ${reason}`);
		return reason === null;
	});
	const possible = cellsOf(PORTABLE).filter(({ impossible, stack }) => impossible === null && stacks.includes(stack));
	const kinds = KINDS.filter((kind) => possible.some((cell) => cell.kind === kind));
	const events = EVENTS.filter((event) => possible.some((cell) => cell.event === event));
	const needed = [...kinds, ...events, ...PORTABLE.faults, ...stacks];
	await runSample(t, sample(possible, seed, needed), seed, new Set(needed));
});

for (const part of PARTS) {
	test(`${part.document} was generated of the present tables`, () => {
		const document = readFileSync(join(repository, part.document), "utf8");
		assert.equal(document, documentOf(part, failedIn(document), figuresIn(document)), "run `npm run matrix -- --write`");
	});
}
