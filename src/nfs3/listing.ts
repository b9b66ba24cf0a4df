// What READDIR and READDIRPLUS share: entries on the wire, and the list that ends at a bound.

import { OverlayError, Pending } from "../vfs/errors.ts";
import type { Attributes, ListCursor } from "../vfs/operations.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";

/** Behind the entries: "no more entries here" and eof. */
export const LISTING_END_BYTES = 8;

/** Entries enough to be worth a reply when the next one has to wait: beginning again from the first costs their square. */
const ENTRIES_BEFORE_WAIT = 64;

/** What an entry takes beside its name, in READDIR: "one follows", fileid, length of the name, cookie. */
const ENTRY_BYTES = 4 + 8 + 4 + 8;

/** The bytes of the entry at the cursor as READDIR writes it, and as all of READDIRPLUS but attributes and handle. */
export function entryBytes(cursor: ListCursor): number {
	return ENTRY_BYTES + ((cursor.name.length + 3) & ~3);
}

/** `attributes`: of the entry, where they are known. */
export function writeEntry(reply: XdrWriter, cursor: ListCursor, attributes: Attributes | null = null): void {
	reply.bool(true);
	if (attributes !== null) reply.u64(attributes.fileidHi, attributes.fileidLo);
	else {
		const fileid = cursor.fileid();
		reply.u64(fileid.hi, fileid.lo);
	}
	reply.opaque(cursor.name);
	reply.u64(cursor.cookieHi, cursor.cookieLo);
}

/**
 * Writes a dirlist (RFC 1813 sections 3.3.16, 3.3.17) whose entries end at `limit` of the record. `writeNext` writes the entry at the cursor, or returns false when it
 * does not fit. An entry that has to wait ends the list early if there is enough before it; a listing may always be short.
 * Throws "toosmall" when not even one entry fits.
 */
export function writeList(reply: XdrWriter, cursor: ListCursor, limit: number, writeNext: () => boolean): void {
	if (reply.length > limit) throw new OverlayError("toosmall", "The reply has no room for the directory's attributes");
	let count = 0;
	let eof = false;
	for (;;) {
		const entry = reply.length;
		try {
			if (!cursor.next()) {
				eof = true;
				break;
			}
			if (!writeNext()) {
				if (count === 0) throw new OverlayError("toosmall", "The reply has no room for a single entry");
				break;
			}
		} catch (error) {
			if (!(error instanceof Pending) || count < ENTRIES_BEFORE_WAIT) throw error;
			reply.rewind(entry);
			break;
		}
		count++;
	}
	reply.bool(false);
	reply.bool(eof);
}
