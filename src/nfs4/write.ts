// WRITE: writes bytes to a file.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import { OverlayError } from "../vfs/errors.ts";
import { contentRight } from "./content-right.ts";
import { regularFile } from "./kinds.ts";
import type { Finish, Operation } from "./operation.ts";
import { Op, SAFE_HI_MAX, StableHow } from "./protocol.ts";
import { readStateid } from "./stateid.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.32. DATA_SYNC is taken for FILE_SYNC, as the reply then says. */
export const write: Operation = {
	number: Op.write,
	name: "WRITE",
	resultBytesMax: 16,
	looks: true,
	run(compound, args) {
		const stateid = readStateid(args, compound.stateid);
		const offsetHi = args.u32();
		const offsetLo = args.u32();
		const stable = args.enumeration(StableHow.fileSync);
		const data = args.opaque(RECORD_BYTES_MAX);
		const place = compound.here();
		const { served } = place;
		const object = regularFile(compound.object(place));
		const right = contentRight(compound, stateid, object, 2);
		const offset = offsetHi * 4294967296 + offsetLo;
		if (offsetHi > SAFE_HI_MAX || offset + data.length > Number.MAX_SAFE_INTEGER) {
			throw new OverlayError("fbig", "A write that ends beyond 2^53 - 1 bytes");
		}
		compound.mayWrite(served);
		const { overlay } = served;
		const count = overlay.write(object, compound.who(served), offset, data, right);
		const finish: Finish = (reply) => {
			reply.u64(count, stable === StableHow.unstable ? StableHow.unstable : StableHow.fileSync);
			// Read last: a flush that failed while this one waited has changed it.
			reply.raw(overlay.writeVerifier);
			return Status.ok;
		};
		return stable === StableHow.unstable ? finish : overlay.commit(object).then(() => finish);
	},
};
