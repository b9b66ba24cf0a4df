// What a mount keeps in memory that outlives its server, and where in it.

import { OUT_HEADER_BYTES, PAGE_BYTES, TRANSFER_BYTES_MAX } from "./protocol.ts";

/**
 * Memory of a mount, shared between one server of it and the next: a header, the slots that requests are received into, and a record for each
 * node id. Only what is written takes room. All numbers are in the order of bytes of this machine.
 */

/** "HFFU", and a number that changes with anything below: another server does not go on from it. */
export const KEPT_MAGIC = 0x55464648;
export const KEPT_VERSION = 1;

/** Words of the header. */
export const HEADER = {
	magic: 0,
	version: 1,
	/** What INIT agreed on: the minor version, 0 before that, and the flags taken, of the first 32. */
	minor: 2,
	flags: 3,
	/** The highest node id that was ever in use. */
	nodesHigh: 5,
	/** Eight bytes drawn at the mount, by which the overlay knows its requests from all others. */
	mountId: 6,
	/** Of the keeper: not 0 where the mount is a user namespace's that has one user and one group, as the server has them. */
	isOneUser: 8,
} as const;

/** A slot takes the longest request: a WRITE with its two headers. */
export const LARGE_SLOT_BYTES = TRANSFER_BYTES_MAX + PAGE_BYTES;
/** One request is received at a time; the others wait where they were received. */
export const LARGE_SLOTS = 16;
/** For requests that wait: two names of 255 bytes, or a name and the target of a symlink, with room to spare. */
export const SMALL_SLOT_BYTES = 2 * PAGE_BYTES;
export const SMALL_SLOTS = 1024;

/** The bytes of a node record: look-ups, kind, the handle, the next id of the same hash, and one word to spare. */
export const NODE_BYTES = 80;
/** Inodes that the kernel may know at a time. */
export const NODES_MAX = 1 << 22;

export const LARGE_SLOTS_AT = PAGE_BYTES;
export const SMALL_SLOTS_AT = LARGE_SLOTS_AT + LARGE_SLOTS * LARGE_SLOT_BYTES;
/** Where the record of node id 0 would be. */
export const NODES_AT = SMALL_SLOTS_AT + SMALL_SLOTS * SMALL_SLOT_BYTES;
export const KEPT_BYTES = NODES_AT + NODES_MAX * NODE_BYTES;

/** The longest reply: what a READ gives behind its header. */
export const REPLY_BYTES_MAX = OUT_HEADER_BYTES + TRANSFER_BYTES_MAX;
