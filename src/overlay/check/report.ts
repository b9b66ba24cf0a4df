// What a check tells its caller.

import type { CheckCounts } from "./context.ts";
import type { Finding } from "./findings.ts";
import type { UpperState } from "./layers.ts";

export interface CheckReport {
	readonly upper: string;
	readonly work: string;
	readonly state: UpperState;
	/** The upper is served or mounted at this moment: findings may be of changes that are being made. */
	readonly isLive: boolean;
	readonly findings: readonly Finding[];
	/** Findings that were counted only. */
	readonly omitted: number;
	readonly counts: CheckCounts;
}
