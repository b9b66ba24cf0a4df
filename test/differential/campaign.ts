import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fc } from "../support/fast-check.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount } from "../support/scratch.ts";
import { Difference } from "./compare.ts";
import { alternatingScenarios, parallelScenarios } from "./generate.ts";
import type { Rig, RigName } from "./rig.ts";
import { runAlternating } from "./run-alternating.ts";
import { runMounted } from "./run-mounted.ts";
import { runScenario, type Tally } from "./run-scenario.ts";
import { type Scenario, showScenario } from "./scenario.ts";

/** Why the kernel cannot be the oracle here; false when it can. As the `skip` option of a test. */
export function cannotCompare(): string | false {
	const reason = needs("root") || cannotMount("ext4");
	if (reason !== false) return reason;
	const known = () => readFileSync("/proc/filesystems", "utf8").split(/\s+/).includes("overlay");
	if (known()) return false;
	try {
		execFileSync("modprobe", ["overlay"], { stdio: "ignore" });
	} catch {
		// The next line tells.
	}
	return known() ? false : "this kernel has no overlayfs";
}

/** What is done to the layers: see the files of the runs. */
const DIRECTIONS = {
	parallel: { run: runScenario, scenarios: parallelScenarios },
	alternating: { run: runAlternating, scenarios: alternatingScenarios },
	mounted: { run: runMounted, scenarios: parallelScenarios },
} as const;
export type Direction = keyof typeof DIRECTIONS;
export const DIRECTION_NAMES = Object.keys(DIRECTIONS) as Direction[];

/** The kernel does not take the upper of an ordinary user over. */
export function directionsOf(rig: RigName): readonly Direction[] {
	return rig === "ordinary" ? ["parallel", "mounted"] : DIRECTION_NAMES;
}

export interface Replay {
	readonly seed: number;
	/** fast-check's way to one scenario of the seed. */
	readonly path?: string | undefined;
}

export interface Found {
	readonly signature: string;
	/** The shrunk scenario, what differs, and what replays it. */
	readonly text: string;
}

export interface CampaignReport {
	readonly sequences: number;
	readonly operations: number;
	readonly found: readonly Found[];
	readonly tally: Tally;
}

/** A campaign ends with the first one that is reached. */
export interface Limits {
	readonly seconds: number;
	readonly sequences: number;
	/** Of differences. */
	readonly kinds: number;
}

/** From HOLDFAST_TEST_SEED, or a new one. */
export function replayFromEnvironment(): Replay {
	return { seed: Number(process.env.HOLDFAST_TEST_SEED ?? Date.now() & 0x7fffffff) };
}

const SEQUENCES_PER_SEED = 200;
const SHRINK_MILLISECONDS = 60_000;

/** Runs random sequences (or the one that is replayed), and goes on after a difference, of which each kind is shrunk and reported once. */
export async function campaign(
	rig: Rig,
	direction: Direction,
	replay: Replay,
	limits: Limits,
	onFound: (found: Found) => void = () => {},
): Promise<CampaignReport> {
	const isReplay = replay.path !== undefined;
	const end = Date.now() + limits.seconds * 1000;
	const tally: Tally = { results: new Map(), allowed: new Map() };
	const found = new Map<string, Found>();
	let runs = 0;
	let sequences = 0;
	let operations = 0;
	const isOver = () => Date.now() > end || sequences >= limits.sequences;
	/** While one is shrunk: its signature, and when that has to end. */
	let shrinking: { readonly signature: string; readonly end: number } | null = null;
	const once = async (scenario: Scenario) => {
		if (!isReplay && (shrinking === null ? isOver() : Date.now() > shrinking.end)) return;
		if (shrinking === null) {
			sequences++;
			operations += scenario.operations.length;
		}
		try {
			await DIRECTIONS[direction].run(rig, `s${runs++}`, scenario, shrinking === null ? tally : undefined);
		} catch (error) {
			const { signature } = error as Difference;
			if (found.has(signature) || (shrinking !== null && shrinking.signature !== signature)) return;
			shrinking ??= { signature, end: Date.now() + SHRINK_MILLISECONDS };
			throw error;
		}
	};
	for (let seed = replay.seed; found.size < limits.kinds && (isReplay || !isOver()); seed = (seed + 1) & 0x7fffffff) {
		shrinking = null;
		const details = await fc.check(fc.asyncProperty(DIRECTIONS[direction].scenarios, once), {
			seed,
			numRuns: isReplay ? 1 : SEQUENCES_PER_SEED,
			...(isReplay ? { path: replay.path as string } : {}),
		});
		if (details.failed) {
			const one = describe(details, `--rig ${rig.name} --direction ${direction} --seed ${seed}`);
			found.set(one.signature, one);
			onFound(one);
		}
		if (isReplay) break;
	}
	return { sequences, operations, found: [...found.values()], tally };
}

function describe(details: fc.RunDetails<[Scenario]>, where: string): Found {
	const error = details.errorInstance as Error;
	const signature = error instanceof Difference ? error.signature : error.message;
	return {
		signature,
		text: [
			`${signature} (${details.numShrinks} times smaller)`,
			`replay: npm run differential -- ${where} --path ${details.counterexamplePath ?? ""}`,
			...(details.counterexample === null ? [] : [showScenario(details.counterexample[0])]),
			error instanceof Difference ? error.message : error.stack,
		].join("\n"),
	};
}
