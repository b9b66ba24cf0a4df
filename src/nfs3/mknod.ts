// MKNOD: makes a device, a fifo or a socket.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import { OverlayError } from "../vfs/errors.ts";
import { FileType, type SetAttributes } from "../vfs/operations.ts";
import { XdrError } from "../xdr/xdr-error.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { readSetAttributes, writeCreated, writeFirstWccData } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

interface Node {
	readonly type: FileType;
	readonly attributes: SetAttributes;
	readonly major: number;
	readonly minor: number;
}

/** FileType by ftype3; null is a type that other procedures make. */
const TYPES: readonly (FileType | null | undefined)[] = [
	undefined,
	null,
	null,
	FileType.blk,
	FileType.chr,
	null,
	FileType.sock,
	FileType.fifo,
];

/** mknoddata3 (RFC 1813 section 3.3.11); null for the types that have no data there. */
function readNode(args: XdrReader): Node | null {
	const wireType = args.u32();
	const type = TYPES[wireType];
	if (type === undefined) throw new XdrError(`${wireType} is no file type`);
	if (type === null) return null;
	const attributes = readSetAttributes(args);
	const device = type === FileType.chr || type === FileType.blk;
	return { type, attributes, major: device ? args.u32() : 0, minor: device ? args.u32() : 0 };
}

/** RFC 1813 section 3.3.11. */
export const mknod: Nfs3Procedure = {
	name: "MKNOD",
	changes: true,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const name = args.opaque(RECORD_BYTES_MAX);
		const node = readNode(args);
		const directory = request.change(handle);
		if (node === null) throw new OverlayError("badtype", "MKNOD makes no files, directories and symbolic links");
		const { type, major, minor, attributes } = node;
		const object = request.overlay.mknod(directory, name, request.who, type, major, minor, attributes, request.key);
		request.changed = true;
		reply.u32(NFS3_OK);
		writeCreated(reply, request, object);
	},
	fail: writeFirstWccData,
};
