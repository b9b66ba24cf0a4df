// READDIRPLUS: the names in a directory with attributes and handles.

import { objectAt } from "../vfs/listing.ts";
import type { Attributes, OverlayObject } from "../vfs/operations.ts";
import { ATTRIBUTES_BYTES, writeFirstAttributes, writePostAttributes } from "./attributes.ts";
import { entryBytes, LISTING_END_BYTES, writeEntry, writeList } from "./listing.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { COOKIE_VERIFIER_BYTES, HANDLE_BYTES_MAX, LISTING_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

const STATUS_BYTES = 4;
/** "One follows" of each entry is not among what dircount counts. */
const FOLLOWS_BYTES = 4;

/**
 * RFC 1813 section 3.3.17. `maxcount` bounds all that follows the status; `dircount` the names, fileids and cookies, beyond
 * the first entry: clients exist that send less than one entry takes, and mean it as a hint.
 */
export const readdirplus: Nfs3Procedure = {
	name: "READDIRPLUS",
	changes: false,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const cookieHi = args.u32();
		const cookieLo = args.u32();
		args.fixed(COOKIE_VERIFIER_BYTES);
		const directoryCount = Math.min(args.u32(), LISTING_BYTES_MAX);
		const count = Math.min(args.u32(), LISTING_BYTES_MAX);
		const directory = request.open(handle);
		const cursor = request.overlay.list(directory, request.who, cookieHi, cookieLo);
		reply.ensure(STATUS_BYTES + Math.max(count, 4 + ATTRIBUTES_BYTES + COOKIE_VERIFIER_BYTES));
		const limit = reply.length + STATUS_BYTES + count - LISTING_END_BYTES;
		const start = reply.length;
		const { changes } = request.overlay;
		const now = performance.now();
		const key = `${cookieHi}:${cookieLo}:${directoryCount}:${count}:${directory.handle.toString("latin1")}`;
		const page = request.pages.get(key, changes, now);
		if (page !== null) {
			reply.raw(page);
			return;
		}
		let directoryBytes = 0;
		reply.u32(NFS3_OK);
		writeFirstAttributes(reply, request);
		reply.u64(0, 0);
		writeList(reply, cursor, limit, () => {
			const bytes = entryBytes(cursor);
			// A first bound without the object, whose look-up is the expensive part.
			if (reply.length + bytes + 8 > limit) return false;
			if (directoryBytes > 0 && directoryBytes + bytes - FOLLOWS_BYTES > directoryCount) return false;
			const object = objectAt(cursor);
			const attributes = object === null ? null : request.attributes(object);
			if (reply.length + bytes + objectBytes(object, attributes) > limit) return false;
			directoryBytes += bytes - FOLLOWS_BYTES;
			writeEntry(reply, cursor, attributes);
			writePostAttributes(reply, request.served, attributes);
			reply.bool(object !== null);
			if (object !== null) reply.opaque(object.handle);
			return true;
		});
		request.pages.set(key, changes, now, reply.copyFrom(start));
	},
	fail: writeFirstAttributes,
};

/** post_op_attr and post_op_fh3. */
function objectBytes(object: OverlayObject | null, attributes: Attributes | null): number {
	const handleBytes = object === null ? 0 : 4 + ((object.handle.length + 3) & ~3);
	return 8 + (attributes === null ? 0 : ATTRIBUTES_BYTES) + handleBytes;
}
