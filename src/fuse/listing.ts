// READDIR and READDIRPLUS: the entries of a directory behind a cookie, as many as fit.

import { OverlayError, Pending } from "../vfs/errors.ts";
import { objectAt } from "../vfs/listing.ts";
import { FileType, type ListCursor } from "../vfs/operations.ts";
import { writeEntry, writeNoEntry } from "./attributes.ts";
import type { FuseMount } from "./mount.ts";
import type { FuseOperation } from "./operation.ts";
import { DIRENT_BYTES, ENTRY_BYTES, TRANSFER_BYTES_MAX } from "./protocol.ts";
import type { FuseReply } from "./reply.ts";
import type { FuseRequest } from "./request.ts";

/** "." and "..": the kernel wants no node ids of them. */
const LAST_DOT_COOKIE = 2;
/** The type of an entry that is not known: who wants it looks at the object. */
const DT_UNKNOWN = 0;

/** struct fuse_read_in. */
export const readdir: FuseOperation = {
	name: "READDIR",
	argumentBytes: 40,
	run: (request, reply, mount) => list(request, reply, mount, false),
};

/** The same, with struct fuse_entry_out before each entry, which counts as a look-up. */
export const readdirplus: FuseOperation = {
	name: "READDIRPLUS",
	argumentBytes: 40,
	run: (request, reply, mount) => list(request, reply, mount, true),
};

/** An entry that has to wait, or fails, ends a list that has some before it: a listing may always be short, and these are counted. */
function list(request: FuseRequest, reply: FuseReply, mount: FuseMount, isPlus: boolean): undefined {
	const cursor = mount.overlay.list(mount.object(request.nodeId), mount.who, request.word(3), request.word(2));
	const limit = reply.position + Math.min(request.word(4), TRANSFER_BYTES_MAX);
	const start = reply.position;
	for (;;) {
		const entry = reply.position;
		try {
			if (!cursor.next()) return;
			if (entry + entryBytes(cursor, isPlus) > limit) break;
			if (isPlus) writePlus(reply, mount, cursor);
			else writeDirent(reply, cursor, cursor.fileid(), DT_UNKNOWN);
		} catch (error) {
			if (entry === start || !(error instanceof Pending || error instanceof OverlayError)) throw error;
			reply.position = entry;
			return;
		}
	}
	if (reply.position === start) throw new OverlayError("inval", "There is no room for a single entry");
}

function entryBytes({ name }: ListCursor, isPlus: boolean): number {
	return (isPlus ? ENTRY_BYTES : 0) + ((DIRENT_BYTES + name.length + 7) & ~7);
}

/** struct fuse_direntplus. */
function writePlus(reply: FuseReply, mount: FuseMount, cursor: ListCursor): void {
	const isDot = cursor.cookieHi === 0 && cursor.cookieLo <= LAST_DOT_COOKIE;
	const object = isDot ? null : objectAt(cursor);
	if (object === null) {
		writeNoEntry(reply, mount);
		writeDirent(reply, cursor, cursor.fileid(), isDot ? FileType.dir : DT_UNKNOWN);
		return;
	}
	const { fileidHi, fileidLo } = writeEntry(reply, mount, object);
	writeDirent(reply, cursor, { hi: fileidHi, lo: fileidLo }, object.type);
}

/** struct fuse_dirent. */
function writeDirent(reply: FuseReply, { name, cookieHi, cookieLo }: ListCursor, fileid: { hi: number; lo: number }, type: number): void {
	reply.u64(fileid.hi, fileid.lo);
	reply.u64(cookieHi, cookieLo);
	reply.u32(name.length);
	reply.u32(type);
	reply.raw(name);
	reply.zeros(-name.length & 7);
}
