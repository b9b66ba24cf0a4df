/** Faults in service, at random places for some time or at all of them: see "Faults" in docs/development.md. */

import { FaultCampaign, type FaultCounts } from "../crash/fault-campaign.ts";
import { ERRORS } from "../crash/fault-order.ts";
import { REQUESTS } from "../crash/fault-requests.ts";
import { generator } from "../support/random.ts";
import { type FileSystem, Scratch } from "../support/scratch.ts";

export interface FaultLoad {
	readonly fileSystem: FileSystem;
	readonly handles: "kernel" | "portable";
	readonly seconds: number;
	/** Instead of random places for some time: one of so many of each request, and each of them with EIO, which all calls may have. Null: random ones. */
	readonly stride: number | null;
	readonly seed: number;
	/** A part of the names of the requests. */
	readonly only: string;
}

/** One call of so many fails, from a random one on: small enough that a run ends soon. */
const STRIDE = 12;
const AT_ONCE = 4;

export async function tryFaults(options: FaultLoad, fail: (what: string) => void): Promise<FaultCounts> {
	const { fileSystem, handles, seconds, seed, only } = options;
	const made = new Scratch();
	try {
		const campaign = new FaultCampaign(made, fail);
		const disk = made.mount(fileSystem, "disk", 2000);
		const random = generator(seed);
		const requests = REQUESTS.filter(({ name }) => name.includes(only));
		if (options.stride !== null) {
			for (let at = 0; at < requests.length; at += AT_ONCE) {
				for (const memory of ["hot", "cold"] as const) {
					for (const error of Object.keys(ERRORS)) {
						const stride = error === "EIO" ? 1 : options.stride;
						const given = { memory, handles, errors: [error], stride, first: 1 + random(stride), fileSystem: disk };
						await campaign.run(requests.slice(at, at + AT_ONCE), given);
					}
				}
			}
			return campaign.counts;
		}
		const end = performance.now() + seconds * 1000;
		do {
			const chosen = Array.from({ length: Math.min(AT_ONCE, requests.length) }, () => requests[random(requests.length)]);
			const errors = Object.keys(ERRORS).filter(() => random(2) === 1);
			const memory = random(2) === 1 ? "hot" : "cold";
			await campaign.run(chosen, { memory, handles, errors, stride: STRIDE, first: 1 + random(STRIDE), fileSystem: disk });
		} while (performance.now() < end);
		return campaign.counts;
	} finally {
		made.remove();
	}
}
