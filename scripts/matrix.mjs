// Runs the matrix: kinds of objects x events x faults x stacks, every cell a test of the contract of handles. See docs/development.md.
//
//   npm run matrix -- [--handles kernel|portable] [--seconds N] [--stride N] [--seed S] [--only WORD]... [--jobs N] [--write]
//   npm run matrix -- --cell "KIND/EVENT/FAULT/STACK"
//
// A cell of kills is many runs, one for each system call. --stride N makes one of N of them, chosen by the seed: 1 (all of them) as long as there
// is no --seconds, then 32.
// Runs the cells whose names contain all the words, in the random order of the seed, until all have run or the time is over. Prints every
// failure with what replays it, and ends with counts. --write makes docs/matrix.md and
// docs/matrix-portable.md of a run of all their cells. Exits 1 if a cell has failed.

import { fork, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
/** Of one cell, on the busiest machine. */
const LIMIT_MS = 600_000;
const TRIES_MAX = 5;
/** A document may be written of a run that has tried one of so many crash points, and says so. */
const WRITE_STRIDE_MAX = 8;
const { values } = parseArgs({
	options: {
		handles: { type: "string" },
		seconds: { type: "string" },
		stride: { type: "string" },
		seed: { type: "string" },
		only: { type: "string", multiple: true, default: [] },
		cell: { type: "string" },
		jobs: { type: "string", default: String(availableParallelism()) },
		write: { type: "boolean", default: false },
	},
});
if (spawnSync(join(root, "scripts/build.sh"), { stdio: "inherit" }).status !== 0) process.exit(1);

const { cannotImage, cellsOf, PARTS, shuffled } = await import(join(root, "dist/test/matrix/cells.js"));
const { cannotRun } = await import(join(root, "dist/test/matrix/cannot-run.js"));
const { documentOf } = await import(join(root, "dist/test/matrix/document.js"));

const reason = cannotRun();
if (reason !== false) {
	console.error(`matrix: cannot run: ${reason}`);
	process.exit(2);
}
const parts = PARTS.filter(({ handles }) => values.handles === undefined || handles === values.handles);
const lacking = parts.flatMap(({ stacks }) => stacks).filter((stack) => cannotImage(stack) !== null);
for (const stack of lacking) console.error(`matrix: not run: ${stack.name}: ${cannotImage(stack)}`);
const all = parts.flatMap((part) => cellsOf(part)).filter(({ stack }) => !lacking.includes(stack));
const isChosen = ({ name }) => (values.cell === undefined ? values.only.every((word) => name.includes(word)) : name === values.cell);
const chosen = all.filter(isChosen);
const impossible = chosen.filter((cell) => cell.impossible !== null);
if (chosen.length === 0) {
	console.error("matrix: no cell has such a name");
	process.exit(2);
}
if (values.cell !== undefined && impossible.length > 0) {
	console.log(`matrix: this cell cannot exist: ${impossible[0].impossible}`);
	process.exit(0);
}
const seed = values.seed === undefined ? Date.now() & 0x7fffffff : Number(values.seed);
const stride = Number(values.stride ?? (values.seconds === undefined ? 1 : 32));
const end = Date.now() + Number(values.seconds ?? Number.POSITIVE_INFINITY) * 1000;
const queue = shuffled(
	chosen.filter((cell) => cell.impossible === null),
	seed,
).map(({ name }) => name);
const possible = queue.length;
const begun = Date.now();
const failed = new Set();
/** By the names of cells. */
const results = new Map();
/** Of cells that somebody else on this host has kept from being run. */
const tries = new Map();
let lowersChanged = 0;
const share = stride === 1 ? "every call of a cell of kills" : `one of ${stride} calls of a cell of kills`;
console.log(`matrix: seed ${seed}, ${possible} cells, ${share}`);
await Promise.all(Array.from({ length: Math.min(Number(values.jobs), possible) }, () => worker()));

const took = ((Date.now() - begun) / 1000).toFixed(0);
const run = results.size;
if (run < possible) console.log(`matrix: the time was over with ${possible - run} cells left`);
const total = figuresOf([...results.keys()]);
console.log(
	`matrix: ${total.crashPoints} distinct crash points hit (a cell and a system call of it), ${total.processes} processes killed by SIGKILL`,
);
console.log(`matrix: seed ${seed}, ${took} s`);
console.log(
	`matrix: ${chosen.length} cells: ${run} run, ${run - failed.size} passed, ${failed.size} failed, ${impossible.length} impossible`,
);
if (values.write) write();
process.exit(failed.size > 0 || lowersChanged > 0 ? 1 : 0);

/** One process after another, as long as there are cells: one that dies or hangs has failed its cell. */
async function worker() {
	while (queue.length > 0 && Date.now() < end) await oneProcess();
}

function oneProcess() {
	return new Promise((resolve) => {
		const child = fork(join(root, "dist/test/matrix/worker.js"), [String(stride), String(seed)], { stdio: "inherit" });
		let current = null;
		let timer;
		const next = () => {
			clearTimeout(timer);
			current = Date.now() < end ? (queue.shift() ?? null) : null;
			timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
			child.send({ cell: current });
		};
		child.on("message", ({ result, changed }) => {
			if (changed !== undefined) {
				for (const stack of changed) console.log(`\nmatrix: FAILED: a lower of "${stack}" has changed`);
				lowersChanged += changed.length;
				return;
			}
			if (result.isInconclusive && (tries.get(result.name) ?? 0) < TRIES_MAX) {
				tries.set(result.name, (tries.get(result.name) ?? 0) + 1);
				queue.push(result.name);
			} else finish(result);
			next();
		});
		child.on("exit", (code, signal) => {
			clearTimeout(timer);
			if (current !== null) finish({ name: current, failure: `its process ended with ${signal ?? code}`, crashPoints: [], kills: 0 });
			resolve();
		});
		next();
	});
}

function finish({ name, failure, crashPoints, kills }) {
	results.set(name, { crashPoints, kills });
	const run = results.size;
	if (run % 500 === 0) console.log(`matrix: ${run} of ${possible}, ${failed.size} failed, ${((Date.now() - begun) / 1000).toFixed(0)} s`);
	if (failure === null) return;
	failed.add(name);
	console.log(
		`\nFAILED ${name}\n  ${failure.replaceAll("\n", "\n  ")}\n  replay: npm run matrix -- --seed ${seed} --stride ${stride} --cell "${name}"`,
	);
}

function write() {
	if (lacking.length > 0 || run < all.length - impossible.length || chosen.length < all.length || stride > WRITE_STRIDE_MAX) {
		console.error(`matrix: documents are written of a run of all cells only, and of one call of ${WRITE_STRIDE_MAX} at least`);
		process.exit(2);
	}
	for (const part of parts) {
		const figures = figuresOf(cellsOf(part).map(({ name }) => name));
		writeFileSync(join(root, part.document), documentOf(part, failed, { stride, ...figures }));
		console.log(`matrix: ${part.document} written`);
	}
}

/** Of the cells of these names: how many distinct points the world was stopped at, and how many processes were killed. */
function figuresOf(names) {
	let points = 0;
	let kills = 0;
	for (const result of names.map((name) => results.get(name))) {
		points += new Set(result?.crashPoints).size;
		kills += result?.kills ?? 0;
	}
	return { crashPoints: points, processes: kills };
}
