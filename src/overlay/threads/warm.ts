// The job that has the kernel read metadata or content into memory.

import { namesInPath, openInTree, openNames } from "../../layer/path-search.ts";
import { readAhead, readInto } from "../../linux/data.ts";
import { visitEntries } from "../../linux/directory.ts";
import { openByHandle } from "../../linux/file-handle.ts";
import { allocate } from "../../linux/memory.ts";
import { readLink } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { getXattr } from "../../linux/xattr.ts";
import { FileType } from "../../vfs/operations.ts";

/** Where a thread finds an inode: open already, by its handle, or by names with slashes between them below a directory. */
export type WarmTarget =
	| { readonly by: "descriptor"; readonly fd: number }
	| { readonly by: "handle"; readonly mount: number; readonly type: number; readonly bytes: Uint8Array }
	| { readonly by: "path"; readonly root: number; readonly path: Uint8Array };

/** What a thread looks at so that the kernel has it in memory: an inode, or an entry of it. */
export interface WarmRequest {
	readonly place: WarmTarget;
	readonly name: Uint8Array | null;
	/** The inode with its attributes; all directories above it too; its entries; or its content. */
	readonly what: "inode" | "climb" | "list" | "data";
	readonly offset: number;
	readonly length: number;
	readonly xattrs: readonly string[];
}

const BUFFER_BYTES = 256 * 1024;
const AHEAD_BYTES = 4 * 1024 * 1024;
/** Directories above one; a path has fewer. */
const CLIMB_MAX = 4096;
let buffer: ReturnType<typeof allocate> | null = null;

/** The milliseconds that it took, whatever came of it: whoever waits for it asks again and sees. */
export function warm(request: WarmRequest): number {
	const begun = performance.now();
	const { place } = request;
	if (place.by === "descriptor") look(place.fd, request);
	else {
		const fd = open(place, (request.what === "list" ? O.rdonly | O.noatime | O.directory : O.path) | O.nofollow);
		if (fd >= 0) {
			look(fd, request);
			close(fd);
		}
	}
	return performance.now() - begun;
}

function open(place: Exclude<WarmTarget, { readonly by: "descriptor" }>, flags: number): number {
	if (place.by === "path") return openNames(place.root, namesInPath(Buffer.from(place.path)), flags);
	return openByHandle(place.mount, { type: place.type, bytes: Buffer.from(place.bytes) }, flags);
}

function look(fd: number, request: WarmRequest): void {
	const { name, what, offset, length } = request;
	switch (what) {
		case "inode":
			if (name === null) {
				attributes(fd, request.xattrs);
				return;
			}
			{
				const entry = openInTree(fd, name, O.path | O.nofollow);
				if (entry < 0) return;
				attributes(entry, request.xattrs);
				close(entry);
			}
			return;
		case "climb":
			climb(fd);
			return;
		case "list":
			// whoever asks again is told of a failure
			void visitEntries(fd, () => undefined);
			return;
		case "data":
			buffer ??= allocate(BUFFER_BYTES);
			// the kernel does not see that one question goes on where the other ended
			readAhead(fd, offset, length + AHEAD_BYTES);
			for (let at = offset; at < offset + length; ) {
				const got = readInto(fd, buffer.address, Math.min(BUFFER_BYTES, offset + length - at), at);
				if (got <= 0) return;
				at += got;
			}
	}
}

const stat = new Stat();

function attributes(fd: number, xattrs: readonly string[]): void {
	if (fstat(fd, stat) < 0) return;
	// one that is there brings all others of the inode along
	for (const xattr of xattrs) getXattr(fd, xattr);
	if (stat.type === FileType.lnk) readLink(fd, "");
}

function climb(start: number): void {
	const above = new Stat();
	let fd = start;
	if (fstat(fd, stat) < 0) return;
	for (let i = 0; i < CLIMB_MAX; i++) {
		const parent = openAt(fd, "..", O.path);
		if (fd !== start) close(fd);
		if (parent < 0) return;
		fd = parent;
		if (fstat(fd, above) < 0 || above.sameInode(stat)) break;
		fstat(fd, stat);
	}
	if (fd !== start) close(fd);
}
