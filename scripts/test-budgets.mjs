// How much processor time each test file may take, and which part of the tests it belongs to.

/** Seconds of processor time, user and system, of a file that is not named below. */
export const DEFAULT_SECONDS = 10;

/**
 * `sample`: seconds in `npm test`, where 0 keeps the file out of it. `all`: seconds with the volumes of `npm run test:all`; left out
 * where these are the same, and so nothing new is to be seen there.
 */
const BUDGETS = {
	"test/layers/unpack.test.ts": { sample: 25 },
	"test/layers/unpack-image.test.ts": { sample: 20 },
	"test/clients/copy-up-everything.test.ts": { sample: 0, all: 70 },
	"test/clients/linux-client-kill.test.ts": { sample: 0, all: 90 },
	"test/commands/fresh-clone.test.ts": { sample: 0, all: 30 },
};

/** Seconds that `file` may take in a part, "sample" or "all"; 0: it is not in that part. */
export function budgetOf(file, part) {
	const { sample, all } = BUDGETS[file] ?? { sample: DEFAULT_SECONDS };
	return part === "sample" ? sample : (all ?? sample);
}

/** Whether `npm run test:all` shows more of the file than `npm test`. */
export function hasRest(file) {
	return BUDGETS[file]?.all !== undefined;
}

/** Files that the table names and that are not there. */
export function unknownFiles(files) {
	return Object.keys(BUDGETS).filter((file) => !files.includes(file));
}
