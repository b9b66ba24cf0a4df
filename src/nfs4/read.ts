// READ: bytes of a file, read straight into the reply.

import { TRANSFER_BYTES_MAX } from "../rpc/limits.ts";
import { contentRight } from "./content-right.ts";
import { regularFile } from "./kinds.ts";
import type { Operation } from "./operation.ts";
import { Op, SAFE_HI_MAX } from "./protocol.ts";
import { readStateid } from "./stateid.ts";
import { Nfs4Error, Status } from "./status.ts";

/** eof and the length of the data. */
const HEADER_BYTES = 4 + 4;
const PADDING_BYTES_MAX = 3;

/** RFC 8881 section 18.22. The file's bytes go from the kernel straight to where the reply is sent from. */
export const read: Operation = {
	number: Op.read,
	name: "READ",
	resultBytesMax: 0,
	looks: true,
	run(compound, args, reply) {
		const stateid = readStateid(args, compound.stateid);
		const offsetHi = args.u32();
		const offsetLo = args.u32();
		const count = args.u32();
		const place = compound.here();
		const object = regularFile(compound.object(place));
		const right = contentRight(compound, stateid, object, 1);
		// No file reaches so far, but the caller may still be refused: ask the overlay for nothing at its end.
		const beyond = offsetHi > SAFE_HI_MAX;
		const offset = beyond ? Number.MAX_SAFE_INTEGER : offsetHi * 4294967296 + offsetLo;
		const length = beyond ? 0 : Math.min(count, TRANSFER_BYTES_MAX, Number.MAX_SAFE_INTEGER - offset);
		if (compound.room(reply) < HEADER_BYTES + length) {
			throw new Nfs4Error(compound.tooBigStatus(reply), `There is no room for ${length} bytes in the reply`);
		}
		reply.ensure(HEADER_BYTES + length + PADDING_BYTES_MAX);
		const header = reply.length;
		reply.position += HEADER_BYTES;
		const result = place.served.overlay.read(object, compound.who(place.served), offset, length, reply.memory, reply.position, right);
		reply.patchU32(header, result.eof || beyond ? 1 : 0);
		reply.patchU32(header + 4, result.count);
		reply.position += result.count;
		reply.pad(result.count);
		return Status.ok;
	},
};
