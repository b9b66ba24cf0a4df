// READ: bytes of a file, read straight into the reply.

import { TRANSFER_BYTES_MAX } from "../rpc/limits.ts";
import { ATTRIBUTES_BYTES, writeFirstAttributes, writeObjectAttributes } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { CONTENT_RIGHT, HANDLE_BYTES_MAX, SAFE_HI_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** Status, post_op_attr, count, eof and the length of the data. */
const HEADER_BYTES = 4 + 4 + ATTRIBUTES_BYTES + 4 + 4 + 4;
const PADDING_BYTES_MAX = 3;

/** RFC 1813 section 3.3.6. The file's bytes go from the kernel straight to where the reply is sent from. */
export const read: Nfs3Procedure = {
	name: "READ",
	changes: false,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const offsetHi = args.u32();
		const offsetLo = args.u32();
		const count = args.u32();
		const object = request.open(handle);
		// No file reaches so far, but the caller may still be refused: ask the overlay for nothing at its end.
		const beyond = offsetHi > SAFE_HI_MAX;
		const offset = beyond ? Number.MAX_SAFE_INTEGER : offsetHi * 4294967296 + offsetLo;
		const length = beyond ? 0 : Math.min(count, TRANSFER_BYTES_MAX, Number.MAX_SAFE_INTEGER - offset);
		reply.ensure(HEADER_BYTES + length + PADDING_BYTES_MAX);
		reply.u32(NFS3_OK);
		writeObjectAttributes(reply, request, object);
		const counts = reply.length;
		reply.position += 12;
		const result = request.overlay.read(object, request.who, offset, length, reply.memory, reply.position, CONTENT_RIGHT);
		reply.patchU32(counts, result.count);
		reply.patchU32(counts + 4, result.eof || beyond ? 1 : 0);
		reply.patchU32(counts + 8, result.count);
		reply.position += result.count;
		reply.pad(result.count);
	},
	fail: writeFirstAttributes,
};
