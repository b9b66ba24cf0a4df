// Lists directories with getdents64(2).

import { declare, result } from "./libc.ts";
import { type AddressedBytes, allocate } from "./memory.ts";

const getdentsCall = declare("getdents64", "long", ["int", "pointer", "size_t"]);
const lseekCall = declare("lseek", "int64_t", ["int", "int64_t", "int"]);

const BUFFER_BYTES = 256 * 1024;
let buffer: AddressedBytes | undefined;
let view: DataView | undefined;

/** What is told of one entry: a view of its name that is valid during the call, d_type, and the inode number as halves. */
export type EntryVisitor = (name: Uint8Array, type: number, inoHi: number, inoLo: number) => boolean | undefined;

/** Tests make listings fail: before each getdents64(2) of a descriptor `hook` gives 0, or the negated error number that the call is to have. */
export function interceptListings(hook: ((fd: number) => number) | null): void {
	fault = hook;
}

let fault: ((fd: number) => number) | null = null;

/**
 * Visits every entry but "." and ".." of a directory opened for reading, from its beginning; `visit` returns false to
 * end early and must make no system call of its own through this function. 0, or the negated error number.
 */
export function visitEntries(fd: number, visit: EntryVisitor): number {
	const start = result(lseekCall(fd, 0, 0));
	if (start < 0) return start;
	for (;;) {
		const length = visitMore(fd, visit);
		if (length <= 0) return length;
	}
}

/** Goes on where the last call has ended, by at most some thousand entries: 0 at the end, and where `visit` has ended it; negative: an error; else there may be more. */
export function visitMore(fd: number, visit: EntryVisitor): number {
	buffer ??= allocate(BUFFER_BYTES);
	view ??= new DataView(buffer.bytes.buffer, buffer.bytes.byteOffset, BUFFER_BYTES);
	const failure = fault === null ? 0 : fault(fd);
	if (failure < 0) return failure;
	const length = result(getdentsCall(fd, buffer.address, BUFFER_BYTES));
	return length <= 0 || visitBuffer(buffer.bytes, view, length, visit) ? length : 0;
}

/** struct linux_dirent64: u64 ino, s64 offset, u16 record length, u8 type, name, NUL (getdents64(2)). */
function visitBuffer(bytes: Buffer, entries: DataView, length: number, visit: EntryVisitor): boolean {
	for (let at = 0; at < length; ) {
		const recordLength = entries.getUint16(at + 16, true);
		const nameStart = at + 19;
		let nameEnd = nameStart;
		while (bytes[nameEnd] !== 0) nameEnd++;
		const dots = bytes[nameStart] === 0x2e && (nameEnd === nameStart + 1 || (nameEnd === nameStart + 2 && bytes[nameStart + 1] === 0x2e));
		if (!dots) {
			const name = bytes.subarray(nameStart, nameEnd);
			if (visit(name, bytes[at + 18], entries.getUint32(at + 4, true), entries.getUint32(at, true)) === false) return false;
		}
		at += recordLength;
	}
	return true;
}

/** The names of all entries but "." and ".." of a directory opened for reading, or the negated error number: never a part of them. */
export function namesOf(fd: number): Buffer[] | number {
	const names: Buffer[] = [];
	const status = visitEntries(fd, (name) => {
		names.push(Buffer.from(name));
		return undefined;
	});
	return status < 0 ? status : names;
}

/** Whether a directory opened for reading has any entry but "." and "..": 1 or 0, or the negated error number. */
export function hasEntries(fd: number): number {
	let found = 0;
	const status = visitEntries(fd, () => {
		found = 1;
		return false;
	});
	return status < 0 ? status : found;
}
