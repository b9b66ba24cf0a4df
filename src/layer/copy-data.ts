// Copies the content of files between layers: cloned where possible, holes kept.

import {
	allocateRange,
	cloneFile,
	copyRange,
	FALLOCATE,
	RWF_NOWAIT,
	readInto,
	readVector,
	seekData,
	seekHole,
	truncateFile,
	writeFrom,
} from "../linux/data.ts";
import { ERRNO } from "../linux/errno.ts";
import { type AddressedBytes, allocate } from "../linux/memory.ts";
import type { FileSystem } from "./layer.ts";

const RANGE_BYTES = 64 * 1024 * 1024;
const BUFFER_BYTES = 1024 * 1024;
let buffer: AddressedBytes | undefined;

/**
 * Gives the empty file `to` the first `size` bytes of `from`: by sharing extents where the file system can, else within the kernel,
 * else through memory. Holes stay holes. 0, or the negated error number.
 */
export function copyData(from: number, to: number, size: number): number {
	if (cloneFile(from, to) === 0) return truncateFile(to, size);
	// the length first: what is not written stays a hole, also at the end
	const sized = truncateFile(to, size);
	if (sized < 0) return sized;
	for (let at = 0; at < size; ) {
		let start = seekData(from, at);
		if (start === -ERRNO.ENXIO) return 0;
		let end = start < 0 ? start : seekHole(from, start);
		if (end < 0) {
			start = at;
			end = size;
		}
		const status = copyExtent(from, to, start, Math.min(end, size));
		if (status < 0) return status;
		at = end;
	}
	return 0;
}

/**
 * Gives the empty file `to` the `size` bytes of `from`, if the kernel has them in memory: `size`, less where that is not so, or the negated error
 * number. `isInMemory`: it always has.
 */
export function copyCached(from: number, to: number, size: number, isInMemory: boolean): number {
	buffer ??= allocate(BUFFER_BYTES);
	const got = isInMemory ? readInto(from, buffer.address, size, 0) : readVector(from, buffer.address, size, 0, RWF_NOWAIT);
	if (got === -ERRNO.EAGAIN || got === -ERRNO.EOPNOTSUPP) return 0;
	return got < size ? got : writeFrom(to, buffer.bytes.subarray(0, size), 0);
}

/** File systems that never share extents between two files. */
const WITHOUT_CLONES = new Set(["ext4", "tmpfs", "f2fs"]);

/** Whether FICLONE may work between the two. A clone is O(1), and durable as soon as its name is. */
export function mayShareExtents(from: FileSystem, to: FileSystem): boolean {
	return from.device === to.device && !WITHOUT_CLONES.has(from.name);
}

/** Ranges of bytes, each with its end behind it. */
export type Ranges = readonly (readonly [start: number, end: number])[];

/** Gives `to` the bytes of `from` in these ranges, whatever it holds there; holes become holes, and its size stays. 0, or the negated error number. */
export function copyRanges(from: number, to: number, ranges: Ranges): number {
	for (const [start, end] of ranges) {
		for (let at = start; at < end; ) {
			let data = seekData(from, at);
			if (data === -ERRNO.ENXIO) data = end;
			let hole = data < 0 ? data : data >= end ? end : seekHole(from, data);
			if (hole < 0) {
				data = at;
				hole = end;
			}
			data = Math.min(data, end);
			hole = Math.min(hole, end);
			const status = clearRange(to, at, data) || copyExtent(from, to, data, hole);
			if (status < 0) return status;
			at = hole;
		}
	}
	return 0;
}

/** Makes a range of a file read as zeros; what is a hole already is left alone. 0, or the negated error number. */
export function clearRange(fd: number, start: number, end: number): number {
	if (start >= end) return 0;
	const data = seekData(fd, start);
	if (data === -ERRNO.ENXIO || data >= end) return 0;
	const status = allocateRange(fd, FALLOCATE.punchHole | FALLOCATE.keepSize, start, end - start);
	if (status !== -ERRNO.EOPNOTSUPP) return status;
	const zeros = Buffer.alloc(Math.min(end - start, BUFFER_BYTES));
	for (let at = start; at < end; ) {
		const written = writeFrom(fd, zeros.subarray(0, Math.min(zeros.length, end - at)), at);
		if (written < 0) return written;
		at += written;
	}
	return 0;
}

function copyExtent(from: number, to: number, start: number, end: number): number {
	let at = start;
	while (at < end) {
		const copied = copyRange(from, to, at, Math.min(end - at, RANGE_BYTES));
		if (copied === 0) return 0;
		if (copied < 0) return cannotCopyInside(copied) ? copyThroughMemory(from, to, at, end) : copied;
		at += copied;
	}
	return 0;
}

function cannotCopyInside(error: number): boolean {
	return error === -ERRNO.EXDEV || error === -ERRNO.EOPNOTSUPP || error === -ERRNO.EINVAL || error === -ERRNO.ENOSYS;
}

function copyThroughMemory(from: number, to: number, start: number, end: number): number {
	buffer ??= allocate(BUFFER_BYTES);
	let at = start;
	while (at < end) {
		const count = readInto(from, buffer.address, Math.min(end - at, BUFFER_BYTES), at);
		if (count <= 0) return count;
		for (let done = 0; done < count; ) {
			const written = writeFrom(to, buffer.bytes.subarray(done, count), at + done);
			if (written < 0) return written;
			done += written;
		}
		at += count;
	}
	return 0;
}
