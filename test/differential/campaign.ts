import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { needs } from "../support/requirements.ts";
import { cannotMount } from "../support/scratch.ts";
import { Difference } from "./compare.ts";
import { scenarios } from "./generate.ts";
import type { Rig } from "./rig.ts";
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
	readonly scenarios: number;
	readonly found: readonly Found[];
	readonly tally: Tally;
}

export function replayFromEnvironment(): Replay {
	const { HOLDFAST_SEED, HOLDFAST_PATH } = process.env;
	return { seed: HOLDFAST_SEED === undefined ? Date.now() & 0x7fffffff : Number(HOLDFAST_SEED), path: HOLDFAST_PATH };
}

const SCENARIOS_PER_SEED = 200;
const SHRINK_MILLISECONDS = 60_000;

/**
 * Runs random scenarios until the time is over (or the one that is replayed), and goes on after a difference, of which each kind
 * is shrunk and reported once. `kindsMax`: ends after so many kinds.
 */
export async function campaign(
	rig: Rig,
	replay: Replay,
	seconds: number,
	kindsMax: number,
	onFound: (found: Found) => void = () => {},
): Promise<CampaignReport> {
	const isReplay = replay.path !== undefined;
	const end = Date.now() + seconds * 1000;
	const tally: Tally = { results: new Map(), allowed: new Map() };
	const found = new Map<string, Found>();
	let count = 0;
	let shrinkEnd = 0;
	const once = async (scenario: Scenario) => {
		if (Date.now() > (shrinkEnd === 0 ? end : shrinkEnd) && !isReplay) return;
		try {
			await runScenario(rig, `s${count++}`, scenario, shrinkEnd === 0 ? tally : undefined);
		} catch (error) {
			if (found.has((error as Difference).signature)) return;
			if (shrinkEnd === 0) shrinkEnd = Date.now() + SHRINK_MILLISECONDS;
			throw error;
		}
	};
	for (let seed = replay.seed; found.size < kindsMax && (isReplay || Date.now() < end); seed = (seed + 1) & 0x7fffffff) {
		shrinkEnd = 0;
		const details = await fc.check(fc.asyncProperty(scenarios, once), {
			seed,
			numRuns: isReplay ? 1 : SCENARIOS_PER_SEED,
			...(isReplay ? { path: replay.path as string } : {}),
		});
		if (details.failed) {
			const one = describe(details, seed);
			found.set(one.signature, one);
			onFound(one);
		}
		if (isReplay) break;
	}
	return { scenarios: count, found: [...found.values()], tally };
}

function describe(details: fc.RunDetails<[Scenario]>, seed: number): Found {
	const error = details.errorInstance as Error;
	const path = details.counterexamplePath ?? "";
	return {
		signature: error instanceof Difference ? error.signature : error.message,
		text: [
			`${error instanceof Difference ? error.signature : error.message} (${details.numShrinks} times smaller)`,
			`replay with HOLDFAST_SEED=${seed} HOLDFAST_PATH=${path}`,
			...(details.counterexample === null ? [] : [showScenario(details.counterexample[0])]),
			error instanceof Difference ? error.message : error.stack,
		].join("\n"),
	};
}
