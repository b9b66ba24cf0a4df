// Attributes on the wire: fattr3, post_op_attr, wcc_data and sattr3.

import type { Export } from "../exports/export.ts";
import { OverlayError } from "../vfs/errors.ts";
import type { Attributes, OverlayObject, SetAttributes, Timespec } from "../vfs/operations.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import { SAFE_HI_MAX, TimeHow } from "./protocol.ts";
import type { Nfs3Request } from "./request.ts";

/** fattr3 on the wire; post_op_attr is a boolean before it. */
export const ATTRIBUTES_BYTES = 84;

/** ftype3 by FileType. */
const TYPES: readonly number[] = [0, 7, 4, 0, 2, 0, 3, 0, 1, 0, 5, 0, 6];

const SECONDS_MAX = 0xffffffff;
const NANOSECONDS_MAX = 999_999_999;
const MODE_BITS = 0o7777;

/**
 * nfstime3 (RFC 1813 section 2.6) counts unsigned seconds from 1970 to 2106. A time outside is told as the nearest
 * one inside; a client that sets such times back sets the bounds.
 */
export function writeTime(reply: XdrWriter, time: Timespec): void {
	if (time.sec < 0) reply.u64(0, 0);
	else if (time.sec > SECONDS_MAX) reply.u64(SECONDS_MAX, NANOSECONDS_MAX);
	else reply.u64(time.sec, time.nsec);
}

/** Throws "inval" for more nanoseconds than a second has. */
export function readTime(args: XdrReader): Timespec {
	const sec = args.u32();
	const nsec = args.u32();
	if (nsec > NANOSECONDS_MAX) throw new OverlayError("inval", `A time with ${nsec} nanoseconds`);
	return { sec, nsec };
}

/** fattr3 (RFC 1813 section 2.6). */
export function writeAttributes(reply: XdrWriter, served: Export, attributes: Attributes): void {
	reply.ensure(ATTRIBUTES_BYTES);
	reply.u64(TYPES[attributes.type], attributes.mode);
	reply.u64(attributes.nlink, attributes.uid);
	reply.u32(attributes.gid);
	reply.u64(attributes.sizeHi, attributes.sizeLo);
	reply.u64FromNumber(attributes.blocks * 512);
	reply.u64(attributes.rdevMajor, attributes.rdevMinor);
	reply.u64(served.fsidHi, served.fsidLo);
	reply.u64(attributes.fileidHi, attributes.fileidLo);
	writeTime(reply, attributes.atime);
	writeTime(reply, attributes.mtime);
	writeTime(reply, attributes.ctime);
}

/** post_op_attr (RFC 1813 section 2.6). */
export function writePostAttributes(reply: XdrWriter, served: Export, attributes: Attributes | null): void {
	reply.bool(attributes !== null);
	if (attributes !== null) writeAttributes(reply, served, attributes);
}

/** post_op_attr of an object as it is now. */
export function writeObjectAttributes(reply: XdrWriter, request: Nfs3Request, object: OverlayObject | null): void {
	writePostAttributes(reply, request.served, request.attributes(object));
}

/** post_op_attr of the request's first object. */
export function writeFirstAttributes(reply: XdrWriter, request: Nfs3Request): void {
	writeObjectAttributes(reply, request, request.first);
}

/** wcc_data (RFC 1813 section 2.6): a few attributes before the change, all of them after it. */
export function writeWccData(reply: XdrWriter, served: Export, before: Attributes | null, after: Attributes | null): void {
	reply.bool(before !== null);
	if (before !== null) {
		reply.u64(before.sizeHi, before.sizeLo);
		writeTime(reply, before.mtime);
		writeTime(reply, before.ctime);
	}
	writePostAttributes(reply, served, after);
}

/** wcc_data of the request's first object, as it is now. */
export function writeFirstWccData(reply: XdrWriter, request: Nfs3Request): void {
	writeWccData(reply, request.served, request.firstBefore, request.attributes(request.first));
}

/** wcc_data of the request's second object, as it is now. */
export function writeSecondWccData(reply: XdrWriter, request: Nfs3Request): void {
	writeWccData(reply, request.served, request.secondBefore, request.attributes(request.second));
}

/** post_op_fh3 and post_op_attr of an object that was made, wcc_data of its directory. */
export function writeCreated(reply: XdrWriter, request: Nfs3Request, object: OverlayObject): void {
	reply.bool(true);
	reply.opaque(object.handle);
	writeObjectAttributes(reply, request, object);
	writeFirstWccData(reply, request);
}

/** sattr3 (RFC 1813 section 2.6). Throws "inval" for an impossible time and "fbig" for a size beyond 2^53 - 1. */
export function readSetAttributes(args: XdrReader): SetAttributes {
	const change: SetAttributes = {};
	if (args.bool()) change.mode = args.u32() & MODE_BITS;
	if (args.bool()) change.uid = args.u32();
	if (args.bool()) change.gid = args.u32();
	if (args.bool()) {
		const hi = args.u32();
		const lo = args.u32();
		if (hi > SAFE_HI_MAX) throw new OverlayError("fbig", "A size beyond 2^53 - 1 bytes");
		change.size = hi * 4294967296 + lo;
	}
	const atime = readSetTime(args);
	if (atime !== null) change.atime = atime;
	const mtime = readSetTime(args);
	if (mtime !== null) change.mtime = mtime;
	return change;
}

function readSetTime(args: XdrReader): Timespec | "now" | null {
	const how = args.enumeration(TimeHow.clientTime);
	if (how === TimeHow.keep) return null;
	return how === TimeHow.serverTime ? "now" : readTime(args);
}
