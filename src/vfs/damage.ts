// Damage that is found in what an export keeps: told as it is found, whoever listens.

import { channel } from "node:diagnostics_channel";

/** Published on "holdfast:damage". */
export interface Damage {
	/** One sentence without its full stop. */
	readonly what: string;
}

const damage = channel("holdfast:damage");

export function tellDamage(what: () => string): void {
	if (damage.hasSubscribers) damage.publish({ what: what() } satisfies Damage);
}
