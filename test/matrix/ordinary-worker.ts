import { allCells } from "./cells.ts";
import { Runner } from "./runner.ts";
import { ServedPlace } from "./served-place.ts";

/** A process (STRIDE SEED) of an ordinary user that runs the cells it is told the names of, one by one. `null` ends it. */

if (process.geteuid?.() === 0) throw new Error("this must be an ordinary user's process");
const runner = new Runner(Number(process.argv[2]), Number(process.argv[3]), new ServedPlace());
const cells = new Map(allCells().map((cell) => [cell.name, cell]));

process.on("message", async ({ cell: name }: { readonly cell: string | null }) => {
	const cell = name === null ? null : cells.get(name);
	if (cell === undefined) throw new Error(`there is no cell ${name}`);
	process.send?.(cell === null ? await runner.end() : await runner.run(cell));
});
process.on("disconnect", () => process.exit(1));
