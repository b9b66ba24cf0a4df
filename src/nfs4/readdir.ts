// READDIR: the entries of a directory, with the attributes that are asked for.

import { OverlayError, Pending } from "../vfs/errors.ts";
import type { ListCursor, OverlayObject } from "../vfs/operations.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import { type AttributePlan, planOf, writeAttributeError, writeAttributes, writePlainAttributes } from "./attributes.ts";
import { readBitmap } from "./bitmap.ts";
import type { Compound, Place } from "./compound.ts";
import { directory } from "./kinds.ts";
import type { Operation } from "./operation.ts";
import { LISTING_BYTES_MAX, Op, VERIFIER_BYTES } from "./protocol.ts";
import { shownObject } from "./shown.ts";
import { Nfs4Error, OVERLAY_STATUS, Status } from "./status.ts";

/** Behind the entries: "no more entries here" and eof. */
const LISTING_END_BYTES = 8;
/** An entry beside its name and attributes: "one follows", cookie, length of the name. */
const ENTRY_BYTES = 4 + 8 + 4;
/** What an entry counts for dircount: cookie, and the name with its length. */
const DIRECTORY_BYTES = 8 + 4;
/** Entries enough to be worth a reply when the next one has to wait: beginning again from the first costs their square. */
const ENTRIES_BEFORE_WAIT = 64;
/** "." and "..", which are not listed in version 4. */
const DOT_COOKIES = 2;

interface Listing {
	readonly compound: Compound;
	readonly place: Place;
	readonly cursor: ListCursor;
	readonly plan: AttributePlan;
	/** Names of this export may lead into others. */
	readonly hasJunctions: boolean;
}

/** RFC 8881 section 18.23. Cookies hold for ever, so the verifier is always zero and none is refused. */
export const readdir: Operation = {
	number: Op.readdir,
	name: "READDIR",
	resultBytesMax: 0,
	looks: true,
	run(compound, args, reply) {
		const cookieHi = args.u32();
		const cookieLo = args.u32();
		args.fixed(VERIFIER_BYTES);
		const directoryCount = args.u32();
		const asked = args.u32();
		const plan = planOf(readBitmap(args));
		const place = compound.here();
		const { served } = place;
		const object = directory(compound.object(place));
		if (cookieHi === 0 && (cookieLo === 1 || cookieLo === 2)) throw new Nfs4Error(Status.badCookie, "No listing gives this cookie");
		const first = cookieHi === 0 && cookieLo === 0 ? DOT_COOKIES : cookieLo;
		const cursor = served.overlay.list(object, compound.who(served), cookieHi, first);
		const room = compound.room(reply);
		const limit = reply.length + Math.min(asked, room, LISTING_BYTES_MAX) - LISTING_END_BYTES;
		if (reply.length + VERIFIER_BYTES > limit) {
			throw new Nfs4Error(asked > room ? compound.tooBigStatus(reply) : Status.toosmall, "There is no room for a listing");
		}
		const { namespace, pages } = compound.context;
		const hasJunctions = namespace.hasJunctions(served);
		const start = reply.length;
		const { changes } = served.overlay;
		const now = performance.now();
		// what other exports show does not count among the changes of this one
		const key = hasJunctions
			? null
			: `${cookieHi}:${first}:${directoryCount}:${limit - start}:${plan.words}:${object.handle.toString("latin1")}`;
		const page = key === null ? null : pages.get(key, changes, now);
		if (page !== null) {
			reply.raw(page);
			return Status.ok;
		}
		reply.u64(0, 0);
		const fits = writeEntries(reply, { compound, place, cursor, plan, hasJunctions }, limit, directoryCount);
		if (!fits) throw new Nfs4Error(asked > room ? compound.tooBigStatus(reply) : Status.toosmall, "There is no room for a single entry");
		if (key !== null) pages.set(key, changes, now, reply.copyFrom(start));
		return Status.ok;
	},
};

/** False when not even one entry fits. An entry that has to wait ends the list early if there is enough before it; a listing may always be short. */
function writeEntries(reply: XdrWriter, listing: Listing, limit: number, directoryCount: number): boolean {
	const { cursor } = listing;
	let count = 0;
	let directoryBytes = 0;
	let isEnd = false;
	for (;;) {
		const start = reply.length;
		try {
			if (!cursor.next()) {
				isEnd = true;
				break;
			}
			const nameBytes = (cursor.name.length + 3) & ~3;
			const counted = DIRECTORY_BYTES + nameBytes;
			// a hint, which some clients leave at zero: the first entry is always told
			if (count > 0 && directoryCount > 0 && directoryBytes + counted > directoryCount) break;
			const isWritten = start + ENTRY_BYTES + nameBytes <= limit && writeEntry(reply, listing);
			if (!isWritten && reply.length === start && start + ENTRY_BYTES + nameBytes <= limit) continue;
			if (!isWritten || reply.length > limit) {
				reply.rewind(start);
				if (count === 0) return false;
				break;
			}
			directoryBytes += counted;
		} catch (error) {
			if (!(error instanceof Pending) || count < ENTRIES_BEFORE_WAIT) throw error;
			reply.rewind(start);
			break;
		}
		count++;
	}
	reply.bool(false);
	reply.bool(isEnd);
	return true;
}

/** False, with nothing written: the object has gone since, and nobody asked why. */
function writeEntry(reply: XdrWriter, listing: Listing): boolean {
	const { compound, place, cursor, plan, hasJunctions } = listing;
	if (!plan.needsObject && !hasJunctions) {
		writeName(reply, cursor);
		writePlainAttributes(reply, plan, cursor.fileid());
		return true;
	}
	const start = reply.length;
	try {
		const { served } = place;
		const junction = hasJunctions
			? compound.context.namespace.entered(served, compound.object(place), cursor.name, compound.who(served))
			: null;
		if (junction !== null) {
			writeJunction(reply, listing, junction.served, junction.root);
			return true;
		}
		const object = cursor.object();
		if (object === null) {
			if (!plan.wantsError) return false;
			throw new OverlayError("noent", "The object has gone");
		}
		writeName(reply, cursor);
		writeAttributes(reply, plan, shownObject(compound, served, object));
	} catch (error) {
		if (!(error instanceof OverlayError) || !plan.wantsError) throw error;
		reply.rewind(start);
		writeName(reply, cursor);
		writeAttributeError(reply, OVERLAY_STATUS[error.code]);
	}
	return true;
}

/** Attributes of what lies behind the border, with the fileid of the place that it covers. */
function writeJunction(reply: XdrWriter, { compound, cursor, plan }: Listing, served: Place["served"], root: OverlayObject): void {
	compound.who(served);
	compound.enter(served);
	const { hi, lo } = cursor.fileid();
	writeName(reply, cursor);
	writeAttributes(reply, plan, { ...shownObject(compound, served, root), coveredFileid: hi * 4294967296 + lo });
}

function writeName(reply: XdrWriter, cursor: ListCursor): void {
	reply.bool(true);
	reply.u64(cursor.cookieHi, cursor.cookieLo);
	reply.opaque(cursor.name);
}
