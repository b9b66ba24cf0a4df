// Share reservations: which modes of opens go together on one object, and what an owner has opened.

import { ClaimError } from "./errors.ts";
import { packShare } from "./open-record.ts";
import type { ShareMode } from "./operations.ts";
import type { Crowd, FileRecord, OpenState } from "./records.ts";

export const ACCESS = { read: 1, write: 2, both: 3 } as const;
const DENY_MAX = 3;

/** "inval" for what is no mode (RFC 8881 section 18.16.3). */
export function checkMode({ access, deny }: ShareMode): void {
	if (access < ACCESS.read || access > ACCESS.both || deny < 0 || deny > DENY_MAX)
		throw new ClaimError("inval", "There is no such share mode");
}

/** One bit for each of the twelve modes: together, which of them an owner has opened. */
export function modeBit({ access, deny }: ShareMode): number {
	return 1 << ((access - 1) * 4 + deny);
}

/** The modes that ask for no more than this one. */
function within(modes: number, { access, deny }: ShareMode): number {
	let found = 0;
	for (let bit = 0; bit < 12; bit++) {
		const [itsAccess, itsDeny] = [(bit >> 2) + 1, bit & 3];
		if ((modes & (1 << bit)) !== 0 && (itsAccess & ~access) === 0 && (itsDeny & ~deny) === 0) found |= 1 << bit;
	}
	return found;
}

/** What they add up to. */
function unionOf(modes: number): ShareMode {
	let [access, deny] = [0, 0];
	for (let bit = 0; bit < 12; bit++) {
		if ((modes & (1 << bit)) === 0) continue;
		access |= (bit >> 2) + 1;
		deny |= bit & 3;
	}
	return { access, deny };
}

/** The modes that are left of a downgrade: some of them add up to exactly the new one, or it is "inval" (RFC 8881 section 18.18.3). */
export function downgraded(modes: number, mode: ShareMode): number {
	checkMode(mode);
	const left = within(modes, mode);
	const union = unionOf(left);
	if (union.access !== mode.access || union.deny !== mode.deny) throw new ClaimError("inval", "No opens of this owner add up to that mode");
	return left;
}

/**
 * Whether opens of the object are in the way of a mode. All of them are asked, also opens of the same owner, as the rule of RFC 8881 section 9.7 is, and as
 * other servers have it.
 */
export function hasConflict({ crowd, firstOpen }: FileRecord, mode: ShareMode): boolean {
	if (crowd === null) {
		for (let open = firstOpen; open !== null; open = open.nextInFile) if (conflictsWith(open, mode)) return true;
		return false;
	}
	const { access, deny } = mode;
	return (
		((access & ACCESS.read) !== 0 && crowd.denyReaders > 0) ||
		((access & ACCESS.write) !== 0 && crowd.denyWriters > 0) ||
		((deny & ACCESS.read) !== 0 && crowd.readers > 0) ||
		((deny & ACCESS.write) !== 0 && crowd.writers > 0)
	);
}

/** Whether one open is. */
export function conflictsWith(open: OpenState, { access, deny }: ShareMode): boolean {
	return (open.deny & access) !== 0 || (open.access & deny) !== 0;
}

/** The open has these modes from now on, and the counts of its file say so. */
export function setModes(open: OpenState, modes: number): void {
	const { crowd } = open.file;
	if (crowd !== null) count(crowd, open, -1);
	const { access, deny } = unionOf(modes);
	open.share = packShare(modes, access, deny);
	if (crowd !== null) count(crowd, open, 1);
}

/** The open goes. */
export function dropModes(open: OpenState): void {
	if (open.file.crowd !== null) count(open.file.crowd, open, -1);
}

/** An open comes to a crowd, or leaves it. */
export function count(crowd: Crowd, { access, deny }: ShareMode, by: number): void {
	if ((access & ACCESS.read) !== 0) crowd.readers += by;
	if ((access & ACCESS.write) !== 0) crowd.writers += by;
	if ((deny & ACCESS.read) !== 0) crowd.denyReaders += by;
	if ((deny & ACCESS.write) !== 0) crowd.denyWriters += by;
}
