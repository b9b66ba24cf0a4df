// Ranges of a file: where its data and holes are, room for it, holes made in it, and ranges taken over from other files.

import { changeTimes } from "../../linux/attributes.ts";
import { allocateRange, FALLOCATE, seekData, seekHole, truncateFile } from "../../linux/data.ts";
import { ERRNO } from "../../linux/errno.ts";
import { close, O } from "../../linux/open.ts";
import type { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import type { ContentRight, CopyRights, Credentials, SeekResult, SeekTarget } from "../../vfs/operations.ts";
import { failed, must } from "../../vfs/system-errors.ts";
import { ensureUpper } from "../copy-up/copy-up.ts";
import { notePartial, preparePartial, prepareWrite } from "../copy-up/partial-access.ts";
import { dataOf } from "../data/data-files.ts";
import type { PartialFile } from "../data/partial-file.ts";
import { demandContent, MAY } from "../engine/access.ts";
import { type Engine, writableOf } from "../engine/engine.ts";
import { refuseProtectedWrite } from "../engine/protection.ts";
import { statOf } from "../lookup/stat.ts";
import { awaitCut, type Node } from "../nodes/node.ts";
import { clearPrivilege } from "./attributes.ts";

/** What one call reserves: a few milliseconds, also where it fills many small holes. */
export const SPACE_BYTES_MAX = 2 * 1024 * 1024;
/** What one call frees: 256 extents at most, and each may keep the main thread for as long as the disk takes to hear of it. */
export const FREED_BYTES_MAX = 1024 * 1024;
/** Pieces from one place each that one seek looks at in a partial file. */
const PIECES_MAX = 256;

/** Makes a file ready for other content in a range. Pending until it may be written; null where it has all its data. */
export function prepareContent(
	engine: Engine,
	node: Node,
	stat: Stat,
	who: Credentials,
	offset: number,
	length: number,
): PartialFile | null {
	ensureUpper(engine, node);
	const partial = prepareWrite(engine, node, stat.size, offset, length);
	beginContent(engine, node, stat, who);
	return partial;
}

/** The last moment before content changes. */
function beginContent(engine: Engine, node: Node, stat: Stat, who: Credentials): void {
	writableOf(engine).journal.endLastChangeOf(node.top.handle);
	engine.changeAttribute.expect(node);
	clearPrivilege(engine, node, stat, who);
	node.stat = null;
	engine.memory.changes++;
}

/** Attributes of a file that the caller may write at this offset. */
export function demandWrite(engine: Engine, node: Node, who: Credentials, offset: number, right: ContentRight): Stat {
	writableOf(engine);
	awaitCut(node);
	const stat = statOf(engine, node);
	demandContent(engine, node, stat, who, MAY.write, right);
	refuseProtectedWrite(engine, node, stat, offset);
	return stat;
}

/** See OverlayOperations.seek. */
export function seekRange(engine: Engine, node: Node, who: Credentials, offset: number, what: SeekTarget, right: ContentRight): SeekResult {
	awaitCut(node);
	const stat = statOf(engine, node);
	demandContent(engine, node, stat, who, MAY.read, right);
	const { size } = stat;
	if (offset >= size) throw new OverlayError("nxio", "The file ends before");
	const partials = node.isUpper ? engine.partials : null;
	const partial = partials?.of(node) ?? null;
	let at = offset;
	for (let pieces = 0; at < size && pieces < PIECES_MAX; pieces++) {
		const source = partial === null ? dataOf(engine, node) : (partials as NonNullable<typeof partials>).sourceAt(partial, node.top, at);
		const end = partial === null ? size : (partials as NonNullable<typeof partials>).endOfPiece(partial, at, size);
		engine.patience?.guardData(source, engine.descriptors.data(source, false), at, 1);
		const fd = engine.descriptors.data(source, false);
		const found = what === "data" ? nextData(fd, at, end) : nextHole(fd, at, end);
		if (found < end) return { offset: found, isEnd: false };
		at = end;
	}
	// a hole may always be said to be data
	if (at < size && what === "data") return { offset: at, isEnd: false };
	return { offset: size, isEnd: true };
}

/** Where a file system cannot say, all is data. */
function nextData(fd: number, offset: number, end: number): number {
	const found = seekData(fd, offset);
	if (found === -ERRNO.ENXIO) return end;
	if (found === -ERRNO.EINVAL || found === -ERRNO.EOPNOTSUPP) return offset;
	return must(found, "Cannot look for data in a file");
}

function nextHole(fd: number, offset: number, end: number): number {
	const found = seekHole(fd, offset);
	// the file that the data is in ends before
	if (found === -ERRNO.ENXIO) return offset;
	if (found === -ERRNO.EINVAL || found === -ERRNO.EOPNOTSUPP) return end;
	return must(found, "Cannot look for a hole in a file");
}

/** See OverlayOperations.allocate. */
export function allocate(
	engine: Engine,
	node: Node,
	who: Credentials,
	offset: number,
	length: number,
	right: ContentRight,
	keepsSize: boolean,
): number {
	const stat = demandWrite(engine, node, who, offset, right);
	const piece = Math.min(length, SPACE_BYTES_MAX);
	const end = offset + piece;
	if (end > Number.MAX_SAFE_INTEGER) throw new OverlayError("fbig", "The file would be too large");
	if (piece === 0) return 0;
	ensureUpper(engine, node);
	const grows = !keepsSize && end > stat.size;
	if (grows) preparePartial(engine, node, stat.size, { size: end });
	beginContent(engine, node, stat, who);
	const fd = engine.descriptors.data(node.top, true);
	// which parts of a partial file are still in a lower its record says, whatever is allocated in upper
	const status = allocateRange(fd, keepsSize ? FALLOCATE.keepSize : 0, offset, piece);
	// a full disk may have room for a part, and the file be as long by now
	if (status < 0 && grows) truncateFile(fd, stat.size);
	must(status, "Cannot reserve room for a file");
	notePartial(engine, node, grows ? { size: end } : {});
	return piece;
}

/** See OverlayOperations.deallocate. */
export function deallocate(engine: Engine, node: Node, who: Credentials, offset: number, length: number, right: ContentRight): number {
	const stat = demandWrite(engine, node, who, offset, right);
	const wanted = Math.min(length, stat.size - offset);
	if (wanted <= 0) return length;
	const piece = Math.min(wanted, FREED_BYTES_MAX);
	const partial = prepareContent(engine, node, stat, who, offset, piece);
	const fd = engine.descriptors.data(node.top, true);
	must(allocateRange(fd, FALLOCATE.punchHole | FALLOCATE.keepSize, offset, piece), "Cannot make a hole in a file");
	must(changeTimes(fd, undefined, "now"), "Cannot set the times of a file");
	if (partial !== null) engine.partials?.noteWritten(partial, offset, piece);
	return offset + piece >= stat.size ? length : piece;
}

/** See OverlayOperations.cloneRange; in a thread, since the kernel first writes out what is not on the disk of the source. */
export function cloneRange(
	engine: Engine,
	source: Node,
	sourceOffset: number,
	target: Node,
	offset: number,
	length: number,
	who: Credentials,
	rights: CopyRights,
): Promise<void> {
	awaitCut(source);
	const from = statOf(engine, source);
	demandContent(engine, source, from, who, MAY.read, rights.read);
	const to = demandWrite(engine, target, who, offset, rights.write);
	const bytes = length === 0 ? from.size - sourceOffset : length;
	if (bytes < 0 || sourceOffset + bytes > from.size) throw new OverlayError("inval", "The source ends before the end of the range");
	if (source === target && sourceOffset < offset + bytes && offset < sourceOffset + bytes) {
		throw new OverlayError("inval", "The two ranges of one file overlap");
	}
	if (bytes === 0) return Promise.resolve();
	const partial = prepareContent(engine, target, to, who, offset, bytes);
	// of a file that is copied up in part, a copy in the background would put back what the lower has
	if (partial !== null && partial.missing > 0) throw new OverlayError("notsupp", "The file is not wholly in upper yet");
	const partialSource = source.isUpper ? (engine.partials?.of(source) ?? null) : null;
	if (partialSource !== null && partialSource.missing > 0) throw new OverlayError("notsupp", "The file is not wholly in upper yet");
	const data = partialSource === null ? dataOf(engine, source) : source.top;
	const fromFd = must(data.layer.handles.open(data.handle, O.rdonly | O.noatime), "Cannot open a file");
	const toFd = target.top.layer.handles.open(target.top.handle, O.rdwr | O.noatime);
	if (toFd < 0) close(fromFd);
	must(toFd, "Cannot open a file");
	const top = target.top;
	const end = () => {
		close(fromFd);
		close(toFd);
		// others may have looked at it since the clone began
		engine.changeAttribute.expect(target);
		target.stat = null;
		engine.memory.changes++;
		if (partial !== null && target.top === top && !partial.isEnded) engine.partials?.noteChanged(partial, true);
	};
	return engine.offload.run({ kind: "clone", from: fromFd, to: toFd, sourceOffset, offset, length: bytes }).then(
		(status) => {
			end();
			if ((status as number) < 0) throw failed("Cannot share a range of a file", status as number);
		},
		(error) => {
			end();
			throw new OverlayError("io", (error as Error).message);
		},
	);
}
