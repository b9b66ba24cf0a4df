import { allCells } from "./cells.ts";
import { Runner } from "./runner.ts";

/** A process (STRIDE SEED) that runs the cells it is told the names of, and tells what came of each. `null` ends it. */

const runner = new Runner(Number(process.argv[2]), Number(process.argv[3]));
const cells = new Map(allCells().map((cell) => [cell.name, cell]));
let last: Promise<unknown> = Promise.resolve();

process.on("message", (name: string | null) => {
	last = last.then(() => (name === null ? end() : run(name)));
});
process.on("disconnect", () => process.exit(1));
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => process.exit(1));

async function run(name: string): Promise<void> {
	const cell = cells.get(name);
	if (cell === undefined) throw new Error(`there is no cell ${name}`);
	process.send?.({ result: await runner.run(cell) });
}

async function end(): Promise<void> {
	process.send?.({ changed: await runner.end() }, () => process.exit(0));
}
