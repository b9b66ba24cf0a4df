// READDIR: the names in a directory.

import { ATTRIBUTES_BYTES, writeFirstAttributes } from "./attributes.ts";
import { entryBytes, LISTING_END_BYTES, writeEntry, writeList } from "./listing.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { COOKIE_VERIFIER_BYTES, HANDLE_BYTES_MAX, LISTING_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

const STATUS_BYTES = 4;

/** RFC 1813 section 3.3.16. Cookies hold for ever, so the verifier is always zero and none is refused. */
export const readdir: Nfs3Procedure = {
	name: "READDIR",
	changes: false,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const cookieHi = args.u32();
		const cookieLo = args.u32();
		args.fixed(COOKIE_VERIFIER_BYTES);
		const count = Math.min(args.u32(), LISTING_BYTES_MAX);
		const directory = request.open(handle);
		const cursor = request.overlay.list(directory, request.who, cookieHi, cookieLo);
		reply.ensure(STATUS_BYTES + Math.max(count, 4 + ATTRIBUTES_BYTES + COOKIE_VERIFIER_BYTES));
		// `count` is about what follows the status.
		const limit = reply.length + STATUS_BYTES + count - LISTING_END_BYTES;
		reply.u32(NFS3_OK);
		writeFirstAttributes(reply, request);
		reply.u64(0, 0);
		writeList(reply, cursor, limit, () => {
			if (reply.length + entryBytes(cursor) > limit) return false;
			writeEntry(reply, cursor);
			return true;
		});
	},
	fail: writeFirstAttributes,
};
