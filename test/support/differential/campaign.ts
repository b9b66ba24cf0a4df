import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { needs } from "../requirements.ts";
import { cannotMount, type Scratch } from "../scratch.ts";
import { ALLOWED } from "./allowed-differences.ts";
import { Difference, runScenario, type Tally } from "./run-scenario.ts";
import { type Scenario, scenarios, showScenario } from "./scenario.ts";

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
	readonly replay: Replay;
	/** The shrunk scenario and what differs. */
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

/**
 * Runs random scenarios until the time is over (or the one that is replayed), and goes on after a difference, of which each kind
 * is shrunk and reported once. `differencesMax`: ends after so many kinds.
 */
export async function campaign(
	made: Scratch,
	replay: Replay,
	seconds: number,
	differencesMax: number,
	onFound: (found: Found) => void = () => {},
): Promise<CampaignReport> {
	const top = made.mount("ext4", "differential", 512);
	execFileSync("mount", ["-o", "remount,noatime", top]);
	const end = Date.now() + seconds * 1000;
	const found: Found[] = [];
	const known = new Set<string>();
	const tally: Tally = { results: new Map() };
	let count = 0;
	let isShrinking = false;
	let isSkipping = false;
	const once = async (scenario: Scenario) => {
		if (isSkipping || (!isShrinking && replay.path === undefined && Date.now() > end)) return;
		try {
			await runScenario(join(top, `s${count++}`), scenario, ALLOWED, isShrinking ? undefined : tally);
		} catch (error) {
			if (!(error instanceof Difference) || known.has(error.signature)) {
				if (error instanceof Difference) return;
				throw error;
			}
			isShrinking = true;
			throw error;
		}
	};
	for (
		let seed = replay.seed;
		found.length < differencesMax && (Date.now() < end || replay.path !== undefined);
		seed = (seed + 1) & 0x7fffffff
	) {
		isShrinking = false;
		isSkipping = false;
		const details = await fc.check(fc.asyncProperty(scenarios, once), {
			seed,
			...(replay.path === undefined ? {} : { path: replay.path }),
			numRuns: replay.path === undefined ? 200 : 1,
		});
		if (details.failed) {
			const error = details.errorInstance as Error;
			const signature = error instanceof Difference ? error.signature : error.message;
			known.add(signature);
			const one = {
				signature,
				replay: { seed, path: details.counterexamplePath ?? undefined },
				text: [
					`${signature} (${details.numShrinks} times smaller)`,
					`replay with HOLDFAST_SEED=${seed} HOLDFAST_PATH=${details.counterexamplePath}`,
					...(details.counterexample === null ? [] : [showScenario(details.counterexample[0])]),
					error.message,
				].join("\n"),
			};
			found.push(one);
			onFound(one);
		}
		if (replay.path !== undefined) break;
	}
	return { scenarios: count, found, tally };
}
