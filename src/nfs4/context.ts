// What all compounds of a server share.

import type { ClaimOperations } from "../claims/operations.ts";
import type { Namespace } from "../exports/namespace.ts";
import type { PageCache } from "../exports/page-cache.ts";
import type { BackChannels } from "./back-channels.ts";
import type { Owners } from "./owners.ts";

export interface Nfs4Context {
	readonly namespace: Namespace;
	readonly claims: ClaimOperations;
	readonly owners: Owners;
	readonly channels: BackChannels;
	/** Of all exports: a page is found by a handle, which names its export. */
	readonly pages: PageCache;
	/** Milliseconds that only grow. */
	readonly now: () => number;
}
