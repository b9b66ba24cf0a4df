/** A process (STRIDE SEED) that runs the cells it is told the names of, and tells what came of each. An ordinary user's asks root for its disks. */

import { allCells } from "./cells.ts";
import { type CellResult, Runner } from "./runner.ts";
import { ServedPlace } from "./served-place.ts";

export interface Asked {
	/** Null: the last one was asked for. */
	readonly cell: string | null;
}

/** One or the other. */
export interface Told {
	readonly result?: CellResult;
	/** At the end: stacks whose lowers have changed. */
	readonly changed?: readonly string[];
}

const [stride, seed] = process.argv.slice(2).map(Number) as [number, number];
const runner = process.geteuid?.() === 0 ? new Runner(stride, seed) : new Runner(stride, seed, new ServedPlace());
const cells = new Map(allCells().map((cell) => [cell.name, cell]));
let last: Promise<unknown> = Promise.resolve();

process.on("message", ({ cell }: Asked) => {
	last = last.then(() => (cell === null ? end() : run(cell)));
});

process.on("disconnect", () => process.exit(1));

for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => process.exit(1));

async function run(name: string): Promise<void> {
	const cell = cells.get(name);
	if (cell === undefined) throw new Error(`there is no cell ${name}`);
	process.send?.({ result: await runner.run(cell) } satisfies Told);
}

async function end(): Promise<void> {
	process.send?.({ changed: await runner.end() } satisfies Told, () => process.exit(0));
}
