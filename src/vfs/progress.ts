// How far long work is: told as it goes, whoever listens.

import { channel } from "node:diagnostics_channel";

/** Published on "holdfast:progress". */
export interface Progress {
	/** What is being done, for people. */
	readonly what: string;
	readonly count: number;
	/** Of what, in the plural. */
	readonly unit: string;
}

const progress = channel("holdfast:progress");

/** How many directories of a layer have been seen. */
export function tellDirectories(layer: string, directories: number): void {
	tellProgress(layer, directories, "directories");
}

/** Costs nothing worth mentioning where nobody listens. */
export function tellProgress(what: string, count: number, unit: string): void {
	if (progress.hasSubscribers) progress.publish({ what, count, unit } satisfies Progress);
}
