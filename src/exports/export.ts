// One export: a name, an overlay, and who may use it as whom.

import { exportIdOf } from "../handle/wire-handle.ts";
import { AuthFlavor } from "../rpc/rpc-message.ts";
import type { OverlayOperations } from "../vfs/operations.ts";
import { AllowedClients, type ClientRule } from "./allowed-clients.ts";
import { DEFAULT_SQUASH, type SquashOptions } from "./squash.ts";

export interface ExportOptions {
	/** The path by which clients mount it, such as "/" or "/golden". */
	readonly name: string;
	readonly overlay: OverlayOperations;
	readonly squash?: Partial<SquashOptions>;
	/** Who may use it; none: everybody. */
	readonly clients?: readonly ClientRule[];
	/** Calls are taken from privileged peers only, where the rule for a client does not say otherwise; default: false. */
	readonly isSecure?: boolean;
	/** It is not for other users of this host; default: false. */
	readonly isOwnersOnly?: boolean;
	/** Flavors of authentication (RFC 5531 section 8.2) that are taken, the best first; default: AUTH_SYS and AUTH_NONE. */
	readonly flavors?: readonly number[];
}

/** An overlay as it is served: the same for all front ends. */
export interface Export {
	/** Absolute, such as "/" or "/golden". */
	readonly name: string;
	/** The parts of the name between its slashes. */
	readonly components: readonly Uint8Array[];
	/** The export id in the bytes of its handles, as a signed 32-bit number. */
	readonly id: number;
	/** Its place among the exports of its server. */
	readonly number: number;
	readonly overlay: OverlayOperations;
	readonly squash: SquashOptions;
	readonly clients: AllowedClients;
	readonly isSecure: boolean;
	readonly isOwnersOnly: boolean;
	readonly flavors: readonly number[];
	/** Its file system number (fsid, RFC 1813 section 2.6) in two halves. */
	readonly fsidHi: number;
	readonly fsidLo: number;
}

/** RangeError with a sentence for the user. Exports that were given the same rules for clients share what is made of them, by way of `known`. */
export function makeExport(options: ExportOptions, number: number, known: Map<readonly ClientRule[], AllowedClients>): Export {
	const { name, overlay, flavors = [AuthFlavor.sys, AuthFlavor.none] } = options;
	const rules = options.clients ?? EVERYBODY;
	const clients = known.get(rules) ?? new AllowedClients(rules);
	known.set(rules, clients);
	const id = exportIdOf(overlay.root.handle);
	if (id === undefined) throw new RangeError(`The export ${name} has a root without a handle.`);
	return {
		name,
		components: components(Buffer.from(name)),
		id,
		number,
		overlay,
		squash: { ...DEFAULT_SQUASH, ...options.squash },
		clients,
		isSecure: options.isSecure ?? false,
		isOwnersOnly: options.isOwnersOnly ?? false,
		flavors,
		...fsidOf(overlay.root.handle),
	};
}

const EVERYBODY: readonly ClientRule[] = [];

const SLASH = 0x2f;

/** The names in a path: empty ones, from doubled and trailing slashes, are none. */
export function components(path: Uint8Array): Uint8Array[] {
	const names: Uint8Array[] = [];
	let start = 0;
	for (let index = 0; index <= path.length; index++) {
		if (index < path.length && path[index] !== SLASH) continue;
		if (index > start) names.push(path.subarray(start, index));
		start = index + 1;
	}
	return names;
}

/** Drawn from the root's handle, so that it stays the same over restarts and differs between exports. */
function fsidOf(rootHandle: Uint8Array): { readonly fsidHi: number; readonly fsidLo: number } {
	let hi = 0x811c9dc5;
	let lo = 0x2545f491;
	for (const byte of rootHandle) {
		hi = Math.imul(hi ^ byte, 0x01000193);
		lo = Math.imul(((lo << 5) | (lo >>> 27)) ^ byte, 0x9e3779b1);
	}
	return { fsidHi: hi >>> 0, fsidLo: lo >>> 0 };
}
