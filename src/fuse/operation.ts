// What an operation of FUSE is: one file for each, which decodes, calls the overlay once, and encodes.

import type { FuseMount } from "./mount.ts";
import type { FuseReply } from "./reply.ts";
import type { FuseRequest } from "./request.ts";

export interface FuseOperation {
	/** As linux/fuse.h calls it, without the prefix. */
	readonly name: string;
	/** Of the structure that its arguments begin with: a request with less is answered EINVAL, and never run. */
	readonly argumentBytes: number;
	/** It changes names or attributes, and must not be done twice: it gets a ChangeKey. */
	readonly changes?: boolean;
	/** It waits for what other users do, for as long as that takes, and is given up at any signal. */
	readonly waitsForOthers?: boolean;
	/** The kernel waits for no reply. */
	readonly isSilent?: boolean;
	/**
	 * Writes what follows the header of the reply. OverlayError becomes an error number, Pending lets the request wait and run again. A promise is
	 * for what is done, and has to reach the disk before an empty reply.
	 */
	run(request: FuseRequest, reply: FuseReply, mount: FuseMount): undefined | Promise<void>;
}

/** What this server has no way to do. The kernel does it by itself, or does without, and does not ask again. */
export class NotImplemented extends Error {}

/** Somebody else has a lock that is in the way (EAGAIN). */
export class LockedByOthers extends Error {}

/** A value does not fit the room that the caller has for it (ERANGE). */
export class TooSmall extends Error {}
