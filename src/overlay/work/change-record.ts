// The record `work/holdfast/change`: what must outlive the server for change attributes to grow.

import { join } from "node:path";
import { changeTimes } from "../../linux/attributes.ts";
import { readInto, syncFile, truncateFile, writeFrom } from "../../linux/data.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { allocate } from "../../linux/memory.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { must } from "../../vfs/system-errors.ts";
import { crc32 } from "../format/crc32.ts";

/** The head of the record. On disk it is in two slots, written in turn; the newer sound one counts. */
export interface ChangeHead {
	/** How often all values of upper had to be moved on. */
	readonly raises: number;
	/** The server ended in order: no value was given out that the inodes do not have. */
	readonly isClean: boolean;
	/** Boot and mount of the writer (see runOf), 16 bytes. */
	readonly run: Buffer;
	/** Milliseconds since 1970, of the writer's clock. */
	readonly time: number;
}

/** An inode of upper that was given out a later value than its ctime says. */
export interface AheadInode {
	readonly handle: FileHandle;
	/** No value given out is higher. Microseconds since 1970. */
	readonly ceiling: number;
}

const MAGIC = 0x68666368;
const VERSION = 1;
const HEAD_SLOT_BYTES = 2048;
const HEAD_BYTES = 48;
const HEAD_CRC_AT = 44;
const INODES_AT = 2 * HEAD_SLOT_BYTES;
const RUN_BYTES = 16;
/** Handles of the kernel have at most 128 bytes. */
const HANDLE_BYTES_MAX = 128;
const INODE_BYTES = 160;
const INODE_HANDLE_AT = 20;
const HALF = 0x100000000;
/** Of a damaged record: far beyond what any export has come to. */
const DAMAGED_RAISES = 2048;

/** Inodes that are ahead stand in numbered places: one pwrite(2) each, which the page cache keeps over a kill. */
export class ChangeRecord {
	readonly #fd: number;
	#sequence = 0;

	constructor(folder: string) {
		const path = join(folder, "change");
		this.#fd = must(openPath(path, O.creat | O.rdwr | O.nofollow, 0o600), `Cannot open ${path}`);
	}

	/** Null: there was none before. */
	read(): ChangeHead | null {
		const bytes = this.#readAt(0, INODES_AT);
		if (bytes.length === 0) return null;
		const slots = [bytes.subarray(0, HEAD_SLOT_BYTES), bytes.subarray(HEAD_SLOT_BYTES)].map(decodeHead).filter((slot) => slot !== null);
		if (slots.length === 0) return { raises: DAMAGED_RAISES, isClean: false, run: Buffer.alloc(RUN_BYTES), time: 0 };
		const newest = slots.reduce((a, b) => (b.sequence > a.sequence ? b : a));
		this.#sequence = newest.sequence;
		return newest.head;
	}

	/** On the disk when it returns. */
	write(head: ChangeHead): void {
		this.#sequence++;
		this.#writeAt(encodeHead(this.#sequence, head), (this.#sequence % 2) * HEAD_SLOT_BYTES);
		must(syncFile(this.#fd), "Cannot flush the record of change attributes");
	}

	writeInode(place: number, inode: AheadInode): void {
		this.#writeAt(encodeInode(inode), INODES_AT + place * INODE_BYTES);
	}

	/** What stands in all places, sound or left of before. */
	inodes(): AheadInode[] {
		const stat = new Stat();
		must(fstat(this.#fd, stat), "Cannot read the record of change attributes");
		const bytes = this.#readAt(INODES_AT, Math.max(0, stat.size - INODES_AT));
		const found: AheadInode[] = [];
		for (let at = 0; at + INODE_BYTES <= bytes.length; at += INODE_BYTES) {
			const inode = decodeInode(bytes.subarray(at, at + INODE_BYTES));
			if (inode !== null) found.push(inode);
		}
		return found;
	}

	forgetInodes(): void {
		const stat = new Stat();
		if (fstat(this.#fd, stat) === 0 && stat.size <= INODES_AT) return;
		must(truncateFile(this.#fd, INODES_AT), "Cannot write the record of change attributes");
	}

	/** Whether the file system gives two changes of an inode one ctime, though it was read in between: kernels before 6.13 do within a tick. */
	hasCoarseTimes(probes: number): boolean {
		const [before, after] = [new Stat(), new Stat()];
		for (let i = 0; i < probes; i++) {
			if (fstat(this.#fd, before) < 0) return true;
			must(changeTimes(this.#fd, "now", "now"), "Cannot write the record of change attributes");
			if (fstat(this.#fd, after) < 0 || (after.ctimeSec === before.ctimeSec && after.ctimeNsec === before.ctimeNsec)) return true;
		}
		return false;
	}

	close(): void {
		close(this.#fd);
	}

	/** As many bytes as there are. */
	#readAt(offset: number, length: number): Buffer {
		const { bytes, address } = allocate(Math.max(length, 1));
		let count = 0;
		while (count < length) {
			const got = must(readInto(this.#fd, address + count, length - count, offset + count), "Cannot read the record of change attributes");
			if (got === 0) break;
			count += got;
		}
		return bytes.subarray(0, count);
	}

	#writeAt(bytes: Buffer, offset: number): void {
		for (let done = 0; done < bytes.length; ) {
			done += must(writeFrom(this.#fd, bytes.subarray(done), offset + done), "Cannot write the record of change attributes");
		}
	}
}

function encodeHead(sequence: number, { raises, isClean, run, time }: ChangeHead): Buffer {
	const slot = Buffer.alloc(HEAD_BYTES);
	slot.writeUInt32LE(MAGIC, 0);
	slot.writeUInt32LE(VERSION, 4);
	slot.writeUInt32LE(sequence, 8);
	slot.writeUInt32LE(raises, 12);
	slot.writeUInt32LE(isClean ? 1 : 0, 16);
	slot.set(run, 20);
	slot.writeUInt32LE(time % HALF, 36);
	slot.writeUInt32LE(Math.floor(time / HALF), 40);
	slot.writeUInt32LE(crc32(slot.subarray(0, HEAD_CRC_AT)), HEAD_CRC_AT);
	return slot;
}

function decodeHead(slot: Buffer): { readonly sequence: number; readonly head: ChangeHead } | null {
	if (slot.length < HEAD_BYTES || slot.readUInt32LE(0) !== MAGIC || slot.readUInt32LE(4) !== VERSION) return null;
	if (crc32(slot.subarray(0, HEAD_CRC_AT)) !== slot.readUInt32LE(HEAD_CRC_AT)) return null;
	return {
		sequence: slot.readUInt32LE(8),
		head: {
			raises: slot.readUInt32LE(12),
			isClean: slot.readUInt32LE(16) === 1,
			run: Buffer.from(slot.subarray(20, 20 + RUN_BYTES)),
			time: slot.readUInt32LE(40) * HALF + slot.readUInt32LE(36),
		},
	};
}

function encodeInode({ handle, ceiling }: AheadInode): Buffer {
	const place = Buffer.alloc(INODE_BYTES);
	place.writeUInt32LE(ceiling % HALF, 4);
	place.writeUInt32LE(Math.floor(ceiling / HALF), 8);
	place.writeUInt32LE(handle.type, 12);
	place.writeUInt32LE(handle.bytes.length, 16);
	place.set(handle.bytes, INODE_HANDLE_AT);
	place.writeUInt32LE(crc32(place.subarray(4)), 0);
	return place;
}

function decodeInode(place: Buffer): AheadInode | null {
	const length = place.readUInt32LE(16);
	if (length === 0 || length > HANDLE_BYTES_MAX || crc32(place.subarray(4)) !== place.readUInt32LE(0)) return null;
	return {
		handle: { type: place.readUInt32LE(12), bytes: Buffer.from(place.subarray(INODE_HANDLE_AT, INODE_HANDLE_AT + length)) },
		ceiling: place.readUInt32LE(8) * HALF + place.readUInt32LE(4),
	};
}
