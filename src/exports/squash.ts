// Squashing: whom an export takes a remote user for.

import type { Credentials } from "../vfs/operations.ts";

/** Whom an export takes a remote user for, as in exports(5). */
export interface SquashOptions {
	/** Uid 0 and gid 0 become the anonymous ones; or only where they come from beyond the loopback interface and Unix sockets. */
	readonly rootSquash: boolean | "beyond-loopback";
	/** Everybody becomes anonymous. */
	readonly allSquash: boolean;
	readonly anonUid: number;
	readonly anonGid: number;
	/** Further groups of the anonymous user. */
	readonly anonGids?: readonly number[];
}

export const DEFAULT_SQUASH: SquashOptions = { rootSquash: "beyond-loopback", allSquash: false, anonUid: 65534, anonGid: 65534 };

/** The credentials a remote user gets; null is one who did not say who they are (AUTH_NONE). `isLoopback`: they come from this host. */
export function squash(user: Credentials | null, options: SquashOptions, isLoopback: boolean): Credentials {
	const { anonUid, anonGid } = options;
	if (user === null || options.allSquash) return { uid: anonUid, gid: anonGid, gids: options.anonGids ?? [] };
	if (!options.rootSquash || (isLoopback && options.rootSquash === "beyond-loopback")) return user;
	const group = (gid: number): number => (gid === 0 ? anonGid : gid);
	return { uid: user.uid === 0 ? anonUid : user.uid, gid: group(user.gid), gids: user.gids.map(group) };
}
