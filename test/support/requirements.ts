import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The top of the working copy: this file runs from dist/test/support. */
export const repository = join(dirname(fileURLToPath(import.meta.url)), "../../..");

/** Volumes, random seeds and judgements by the clock of the full campaign. */
export const full = process.env.HOLDFAST_TEST_FULL === "1";

/** Volumes of `npm run test:all`; the full campaign has at least these. */
const all = full || process.env.HOLDFAST_TEST_ALL === "1";

/** How much is tried, by what was asked for: `npm test`, `npm run test:all`, the full campaign. */
export function volume<T>(ofSample: T, ofAll: T, ofFull: T = ofAll): T {
	return full ? ofFull : all ? ofAll : ofSample;
}

/** Of a list of cases as many as `npm test` tries, evenly spread; all of them otherwise. */
export function sampled<T>(cases: readonly T[], count: number): readonly T[] {
	if (all || count >= cases.length) return cases;
	return Array.from({ length: count }, (_, index) => cases[Math.floor((index * cases.length) / count)] as T);
}

/** As the `skip` option of a test that only `npm run test:all` runs. */
export const onlyInAll: string | false = all ? false : "only in npm run test:all";

/** As the `skip` option of a test that takes long, or judges by the clock. */
export const onlyInFull: string | false = full ? false : "only with HOLDFAST_TEST_FULL=1";

/** What makes random choices: always the same, but for the full campaign, where each run prints its own. HOLDFAST_TEST_SEED replays it. */
export const seed = Number(process.env.HOLDFAST_TEST_SEED ?? (full ? Math.floor(Math.random() * 2 ** 31) : 20_261));

/** What takes longer than this hangs. No machine that is merely busy comes near it. */
export const HANG_MILLISECONDS = 30 * 60_000;

/** A PATH that has the system administrator's programs, also for ordinary users. */
export function sbinPath(): string {
	return `${process.env.PATH ?? "/usr/bin:/bin"}:/usr/local/sbin:/usr/sbin:/sbin`;
}

/** Whether a program is not to be had here. */
export function missing(program: string): boolean {
	if ((process.env.HOLDFAST_TEST_MISSING ?? "").split(" ").includes(program)) return true;
	return !sbinPath()
		.split(":")
		.some((folder) => existsSync(join(folder, program)));
}

/** As the `skip` option of a test: false, or the reason. With CI=true scripts/test.mjs has failed before it comes to this. */
export function needs(...what: ("root" | "vm" | "fuse" | (string & {}))[]): string | false {
	for (const one of what) {
		if (one === "root") {
			if (process.getuid?.() !== 0) return "needs root";
		} else if (one === "vm") {
			if ((process.env.HOLDFAST_TEST_MISSING ?? "").split(" ").includes("vm")) return "needs the virtual machine";
			if (missing("apt-get") || process.arch !== "x64") return "the virtual machine runs on Debian, x86-64 only";
		} else if (one === "fuse") {
			if (!existsSync("/dev/fuse")) return "this kernel has no FUSE, or this container no /dev/fuse";
		} else if (missing(one)) {
			return `needs ${one}`;
		}
	}
	return false;
}
