// WRITE: writes bytes to a file.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import type { EncodeResults } from "../rpc/program.ts";
import { OverlayError } from "../vfs/errors.ts";
import { writeFirstWccData, writeWccData } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { CONTENT_RIGHT, HANDLE_BYTES_MAX, SAFE_HI_MAX, StableHow } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.7. DATA_SYNC is taken for FILE_SYNC, as the reply then says. */
export const write: Nfs3Procedure = {
	name: "WRITE",
	changes: false,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const offsetHi = args.u32();
		const offsetLo = args.u32();
		const count = args.u32();
		const stable = args.enumeration(StableHow.fileSync);
		const data = args.opaque(RECORD_BYTES_MAX);
		const object = request.change(handle);
		if (count !== data.length) throw new OverlayError("inval", `${data.length} bytes of data where ${count} were announced`);
		const offset = offsetHi * 4294967296 + offsetLo;
		if (offsetHi > SAFE_HI_MAX || offset + count > Number.MAX_SAFE_INTEGER) {
			throw new OverlayError("fbig", "A write that ends beyond 2^53 - 1 bytes");
		}
		const overlay = request.overlay;
		const written = overlay.write(object, request.who, offset, data, CONTENT_RIGHT);
		request.changed = true;
		const served = request.served;
		const before = request.firstBefore;
		const after = request.attributes(object);
		const encode: EncodeResults = (results) => {
			results.u32(NFS3_OK);
			writeWccData(results, served, before, after);
			results.u64(written, stable === StableHow.unstable ? StableHow.unstable : StableHow.fileSync);
			// Read last: a flush that failed while this one waited has changed it.
			results.raw(overlay.writeVerifier);
		};
		if (stable !== StableHow.unstable) return overlay.commit(object).then(() => encode);
		encode(reply);
	},
	fail: writeFirstWccData,
};
