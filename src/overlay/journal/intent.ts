// The intent of the change that is being made, as it stands on disk: how it is written, ended and found again.

import {
	closeSync,
	constants,
	fstatSync,
	lstatSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	renameSync,
	unlinkSync,
} from "node:fs";
import { join } from "node:path";
import { allocateRange, FALLOCATE, syncFileData, writeFrom, writeInPlace } from "../../linux/data.ts";
import { ERRNO } from "../../linux/errno.ts";
import { O, openPath } from "../../linux/open.ts";
import { pathExists } from "../../linux/read-file.ts";
import { getXattrOfOpen, removeXattr, setXattrOfOpen } from "../../linux/xattr.ts";
import type { ChangeKey } from "../../vfs/operations.ts";
import { attempt, failed, must, unlessFull } from "../../vfs/system-errors.ts";
import { crc32 } from "../format/crc32.ts";
import { decodeCompact, encodeCompact } from "./compact.ts";
import type { Step } from "./steps.ts";

export interface Intent {
	readonly sequence: number;
	readonly key: ChangeKey | null;
	readonly handle: Buffer | null;
	readonly steps: readonly Step[];
}

/** An intent as it is found. */
export interface FoundIntent extends Intent {
	readonly hasEnded: boolean;
	readonly place: Place;
}

/** A slot by its number; else the xattr, or the content, of `work/holdfast/intent`. */
type Place = number | "xattr" | "file";

const INTENT_FILE = "intent";
/** An intent that there is no room to carry out, while others are. */
const ASIDE_FILE = "postponed";
/** More than any intent has, but one of a large xattr. */
const ASIDE_BYTES = 16 * 1024;
const SLOTS_FOLDER = "intents";
/** File systems that commit all metadata in the order in which it was changed, whoever asks for a commit. */
const IN_ORDER = new Set(["ext4", "xfs", "btrfs", "f2fs"]);
/** Length of an intent that fits into an xattr on each of them, beside the xattrs that are there already. */
const XATTR_BYTES_MAX = 2048;
const TRUSTED_XATTR = "trusted.holdfast.intent";
const USER_XATTR = "user.holdfast.intent";
const TRUSTED_SLOT_XATTR = "trusted.holdfast";
const USER_SLOT_XATTR = "user.holdfast";
const RESERVED_BYTES = 64 * 1024;

/** Two, written in turn: while one is written, the other has the intent before. */
const SLOTS = 2;
/** Files of a slot, each with a part of the intent as an xattr. */
const PARTS = 4;
/** An empty file whose inode lies beside theirs, for whoever writes after each intent: one block holds both then. */
const SPARE_FILE = "spare";
/** What fits into an inode of 256 bytes of ext4 beside the xattr's name. */
const PART_BYTES = 64;
const SLOT_BYTES_MAX = PARTS * PART_BYTES;
/** Inodes of 256 bytes in a block of 4 KiB of the inode table. */
const INODES_PER_BLOCK = 16;
/** So many files in a row have enough among them that lie in one block. */
const CANDIDATES = 32;

const NO_ROOM: ReadonlySet<number> = new Set([ERRNO.ENOSPC, ERRNO.E2BIG, ERRNO.ERANGE, ERRNO.EDQUOT]);

/**
 * The intent is metadata as the steps are, so that no state of the disk has a step without it. On ext4 it stands in xattrs within the inodes
 * of eight small files in one block of the inode table: to commit it costs this one block. What is longer, and every intent elsewhere, is an
 * xattr of `work/holdfast/intent`; a very long one is the content of that file, flushed at once.
 */
export class IntentStore {
	readonly #folder: string;
	#file = -1;
	/** Negative where there was no room for it. */
	#aside = -1;
	/** Name of the xattr; null where nothing outlives a power failure (tmpfs). */
	#xattr: string | null = null;
	#slotXattr = "";
	/** SLOTS times PARTS, or none. */
	#parts: readonly number[] = [];
	#hasSpare = false;
	#slot = 0;
	#place: Place = "file";

	constructor(folder: string) {
		this.#folder = folder;
	}

	/** Gives the file that lies beside the intents this path, where there is one still. */
	giveSpare(to: string): void {
		if (!this.#hasSpare) return;
		this.#hasSpare = false;
		renameSync(join(this.#folder, SLOTS_FOLDER, SPARE_FILE), to);
	}

	/** Whether what was written outlives a power failure in the order of all other metadata. */
	get isOrdered(): boolean {
		return this.#xattr !== null;
	}

	/** The newest intent, wherever it stands. Makes what is not there to write the next one. */
	open(fileSystem: string, isTrusted: boolean): FoundIntent | null {
		const found = readIntent(this.#folder);
		// so that a full disk does not keep anybody from removing something
		this.#file = openReservedFile(join(this.#folder, INTENT_FILE), fileSystem, FALLOCATE.keepSize, RESERVED_BYTES);
		unlessFull(() => {
			this.#aside = openReservedFile(join(this.#folder, ASIDE_FILE), fileSystem, FALLOCATE.keepSize, ASIDE_BYTES);
		});
		if (IN_ORDER.has(fileSystem)) this.#xattr = isTrusted ? TRUSTED_XATTR : USER_XATTR;
		this.#slotXattr = isTrusted ? TRUSTED_SLOT_XATTR : USER_SLOT_XATTR;
		this.#parts = openSlots(this.#folder) ?? (fileSystem === "ext4" ? layOutSlots(this.#folder, this.#slotXattr) : []);
		this.#hasSpare = pathExists(join(this.#folder, SLOTS_FOLDER, SPARE_FILE));
		this.#place = found?.place ?? "file";
		if (typeof this.#place === "number") this.#slot = this.#place;
		return found;
	}

	close(): void {
		for (const fd of [this.#file, this.#aside, ...this.#parts]) if (fd >= 0) closeSync(fd);
		this.#file = -1;
		this.#aside = -1;
		this.#parts = [];
	}

	/** Keeps an intent beside all that are written from now on, until `dropAside`. OverlayError: there is no room. */
	setAside(intent: Intent): void {
		if (this.#aside < 0) this.#aside = attempt(() => openJournalFile(join(this.#folder, ASIDE_FILE)));
		writeAt(this.#aside, packIntent(intent), 0);
		if (this.#xattr !== null) must(syncFileData(this.#aside), "Cannot flush the journal");
	}

	/** What was set aside was carried out, and no start does so again. */
	dropAside(): void {
		writeAt(this.#aside, ENDED, ENDED_AT);
		if (this.#xattr !== null) must(syncFileData(this.#aside), "Cannot flush the journal");
	}

	write(intent: Intent): void {
		const bytes = encodeIntent(intent, false);
		if (this.#parts.length > 0 && bytes.length - SLOT_HEADER_START <= SLOT_BYTES_MAX) {
			this.#slot = (this.#slot + 1) % SLOTS;
			const status = this.#writeSlot(bytes, false);
			if (status === 0) return;
			if (!NO_ROOM.has(-status)) throw failed("Cannot write to the journal", status);
		}
		if (this.#xattr !== null && bytes.length <= XATTR_BYTES_MAX) {
			const status = setXattrOfOpen(this.#file, this.#xattr, withFileHeader(bytes, false));
			this.#place = "xattr";
			if (status === 0) return;
			if (!NO_ROOM.has(-status)) throw failed("Cannot write to the journal", status);
		}
		writeAt(this.#file, withFileHeader(bytes, false), 0);
		this.#place = "file";
		if (this.#xattr !== null) must(syncFileData(this.#file), "Cannot flush the journal");
	}

	/** No start looks at the steps of the present intent again. It takes the place of a longer value, so there is room. */
	end(sequence: number): void {
		if (typeof this.#place === "number") {
			must(this.#writeSlot(encodeIntent(endOf(sequence), true), true), "Cannot write to the journal");
		} else if (this.#place === "xattr" && this.#xattr !== null) {
			const bytes = withFileHeader(encodeIntent(endOf(sequence), true), true);
			must(setXattrOfOpen(this.#file, this.#xattr, bytes), "Cannot write to the journal");
		} else {
			writeAt(this.#file, ENDED, ENDED_AT);
			if (this.#xattr !== null) must(syncFileData(this.#file), "Cannot flush the journal");
		}
	}

	/** 0, or the negated error number. What was in the slot is lost from the first part on. */
	#writeSlot(bytes: Buffer, hasEnded: boolean): number {
		const slot = withSlotHeader(bytes, hasEnded);
		this.#place = this.#slot;
		for (let part = 0, at = 0; at < slot.length; part++, at += PART_BYTES) {
			const status = setXattrOfOpen(this.#parts[this.#slot * PARTS + part], this.#slotXattr, slot.subarray(at, at + PART_BYTES));
			if (status < 0) return status;
		}
		return 0;
	}
}

function endOf(sequence: number): Intent {
	return { sequence, key: null, handle: null, steps: [] };
}

/** A file of the journal, made if it is not there. Never cuts what is there, whatever keeps it from being opened. */
export function openJournalFile(path: string): number {
	return openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
}

/**
 * A file of the journal that has its room, if there is any: a full disk does not keep it from being written then. btrfs writes elsewhere what it has
 * written once, in new room; it does not do so with a file that is made without.
 */
export function openReservedFile(path: string, fileSystem: string, mode: number, bytes: number): number {
	const file = openJournalFile(path);
	if (fileSystem === "btrfs") writeInPlace(file);
	allocateRange(file, mode, 0, bytes);
	return file;
}

function slotPath(folder: string, part: number): string {
	return join(folder, SLOTS_FOLDER, String(part));
}

/** The files of the slots; null where they are not all there. */
function openSlots(folder: string, flags: "r" | "r+" = "r+"): number[] | null {
	const opened: number[] = [];
	for (let part = 0; part < SLOTS * PARTS; part++) {
		try {
			// a fifo there would never be opened
			if (lstatSync(slotPath(folder, part), { throwIfNoEntry: false })?.isFile() === true) {
				opened.push(openSync(slotPath(folder, part), flags));
				continue;
			}
		} catch (error) {
			for (const fd of opened) closeSync(fd);
			throw error;
		}
		for (const fd of opened) closeSync(fd);
		return null;
	}
	return opened;
}

/**
 * Makes the files of the slots, and one to spare, such that their inodes lie in one block of the inode table. None, where their xattrs do not fit into the
 * inodes, as with inodes of 128 bytes: then one xattr costs less.
 */
function layOutSlots(folder: string, xattr: string): number[] {
	const path = join(folder, SLOTS_FOLDER);
	mkdirSync(path, { recursive: true, mode: 0o700 });
	for (const name of readdirSync(path)) unlinkSync(join(path, name));
	const blocks = new Map<number, string[]>();
	let chosen: string[] = [];
	for (let candidate = 0; candidate < CANDIDATES && chosen.length <= SLOTS * PARTS; candidate++) {
		const at = join(path, `new-${candidate}`);
		const fd = openSync(at, "wx", 0o600);
		const fits = setXattrOfOpen(fd, xattr, Buffer.alloc(PART_BYTES)) === 0 && fstatSync(fd).blocks === 0;
		const block = Math.floor((fstatSync(fd).ino - 1) / INODES_PER_BLOCK);
		closeSync(fd);
		if (!fits) break;
		const together = blocks.get(block) ?? [];
		together.push(at);
		blocks.set(block, together);
		if (together.length > chosen.length) chosen = together;
	}
	const isWhole = chosen.length >= SLOTS * PARTS;
	for (const [part, at] of isWhole ? chosen.entries() : []) {
		if (part < SLOTS * PARTS) renameSync(at, slotPath(folder, part));
		else layOutSpare(at, join(path, SPARE_FILE), xattr);
	}
	for (const name of readdirSync(path)) if (name.startsWith("new-")) unlinkSync(join(path, name));
	return isWhole ? (openSlots(folder) ?? []) : [];
}

function layOutSpare(from: string, to: string, xattr: string): void {
	const fd = openSync(from, "r+");
	removeXattr(fd, xattr);
	closeSync(fd);
	renameSync(from, to);
}

function writeAt(file: number, bytes: Uint8Array, position: number): void {
	for (let done = 0; done < bytes.length; ) {
		done += must(writeFrom(file, done === 0 ? bytes : bytes.subarray(done), position + done), "Cannot write to the journal");
	}
}

/** How an intent names its change: the owner, the number of the change, and the numbers of the request. */
type WrittenKey = readonly [string, ...number[]];

/** The same as it was written once, when a request made one change. */
interface FormerKey {
	readonly client: string;
	readonly xid: number;
	readonly program: number;
	readonly version: number;
	readonly procedure: number;
	readonly length: number;
	readonly checksumHi: number;
	readonly checksumLo: number;
}

function keyOf(written: WrittenKey | FormerKey | null): ChangeKey | null {
	if (written === null) return null;
	if ("client" in written) {
		const { client, xid, program, version, procedure, length, checksumHi, checksumLo } = written;
		return { request: { owner: client, numbers: [xid, program, version, procedure, length, checksumHi, checksumLo] }, change: 0 };
	}
	const [owner, change, ...numbers] = written;
	return { request: { owner, numbers }, change };
}

/**
 * In the file and its xattr: magic, a byte that says that it was carried out, or given up, 2 unused, at 4 the length of the rest, at 8 its
 * CRC, at 12 the compact form of an Intent. In a slot the same from byte 4 on: magic, the byte, 2 bytes of length, CRC, compact form; 64
 * bytes in each part but the last. As an xattr an ended one is without steps.
 */
const INTENT_MAGIC = 0x20;
/** Of earlier versions, whose byte was 1 or 0. */
const INTENT_MAGIC_BEFORE = 0x1e;
const INTENT_AT = 12;
const ENDED_AT = 1;
/** All of its bits, and none where the intent has not ended: it lies outside of the CRC, and no single flipped bit says the other. */
const ENDED = Uint8Array.of(0xff);
const ENDED_BITS_MIN = 4;
const SLOT_HEADER_START = 4;
const SLOT_HEADER_BYTES = INTENT_AT - SLOT_HEADER_START;
const SLOT_MAGIC = 0x21;
const SLOT_MAGIC_BEFORE = 0x1f;

/** A view of memory that the next one uses again, with a CRC and else without a header. */
function encodeIntent({ sequence, key, handle, steps }: Intent, isEnd: boolean): Buffer {
	const request = key === null ? null : [key.request.owner, key.change, ...key.request.numbers];
	const bytes = encodeCompact(isEnd ? { sequence } : { sequence, request, handle, steps }, INTENT_AT);
	bytes.writeUInt32LE(crc32(bytes, INTENT_AT), 8);
	return bytes;
}

function withFileHeader(bytes: Buffer, hasEnded: boolean): Buffer {
	bytes.fill(0, 0, 4);
	bytes[0] = INTENT_MAGIC;
	if (hasEnded) bytes[ENDED_AT] = ENDED[0];
	bytes.writeUInt32LE(bytes.length - INTENT_AT, 4);
	return bytes;
}

function withSlotHeader(bytes: Buffer, hasEnded: boolean): Buffer {
	bytes[SLOT_HEADER_START] = SLOT_MAGIC;
	bytes[SLOT_HEADER_START + ENDED_AT] = hasEnded ? ENDED[0] : 0;
	bytes.writeUInt16LE(bytes.length - INTENT_AT, SLOT_HEADER_START + 2);
	return bytes.subarray(SLOT_HEADER_START);
}

/** Null when it was not written whole: then nothing of it was begun. */
function decodeIntent(bytes: Buffer, place: "xattr" | "file"): FoundIntent | null {
	if (bytes.length < INTENT_AT || (bytes[0] !== INTENT_MAGIC && bytes[0] !== INTENT_MAGIC_BEFORE)) return null;
	const length = bytes.readUInt32LE(4);
	return decodeBody(bytes.subarray(INTENT_AT, INTENT_AT + length), length, bytes.readUInt32LE(8), saysEnded(bytes, INTENT_MAGIC), place);
}

function decodeSlot(bytes: Buffer, slot: number): FoundIntent | null {
	if (bytes.length < SLOT_HEADER_BYTES || (bytes[0] !== SLOT_MAGIC && bytes[0] !== SLOT_MAGIC_BEFORE)) return null;
	const length = bytes.readUInt16LE(2);
	const body = bytes.subarray(SLOT_HEADER_BYTES, SLOT_HEADER_BYTES + length);
	return decodeBody(body, length, bytes.readUInt32LE(4), saysEnded(bytes, SLOT_MAGIC), slot);
}

function saysEnded(bytes: Buffer, magic: number): boolean {
	const byte = bytes[ENDED_AT];
	if (bytes[0] !== magic) return byte !== 0;
	let bits = 0;
	for (let left = byte; left > 0; left >>= 1) bits += left & 1;
	return bits >= ENDED_BITS_MIN;
}

function decodeBody(body: Buffer, length: number, crc: number, hasEnded: boolean, place: Place): FoundIntent | null {
	if (body.length < length || crc32(body, 0) !== crc) return null;
	const written = decodeCompact(body, 0) as {
		readonly sequence: number;
		readonly request?: WrittenKey | FormerKey | null;
		readonly handle?: Buffer | null;
		readonly steps?: readonly Step[];
	};
	const { sequence, request = null, handle = null, steps = [] } = written;
	return { sequence, key: keyOf(request), handle, steps, hasEnded, place };
}

/** An intent that stands elsewhere than others: bytes of its own. */
export function packIntent(intent: Intent): Buffer {
	return Buffer.from(withFileHeader(encodeIntent(intent, false), false));
}

/** Null: it is none. */
export function unpackIntent(bytes: Buffer): Intent | null {
	return decodeIntent(bytes, "file");
}

/** The intent that was set aside and has not been carried out since; null: none. Writes nothing. */
export function readAside(folder: string): Intent | null {
	const fd = openPath(join(folder, ASIDE_FILE), O.rdonly);
	if (fd === -ERRNO.ENOENT) return null;
	must(fd, "Cannot open the journal");
	try {
		const found = attempt(() => decodeIntent(readFileSync(fd), "file"));
		return found === null || found.hasEnded ? null : found;
	} finally {
		closeSync(fd);
	}
}

/** The newest intent, wherever it stands; null when there is none. Writes nothing. */
export function readIntent(folder: string): FoundIntent | null {
	const found: (FoundIntent | null)[] = [];
	const path = join(folder, INTENT_FILE);
	// a fifo there would never be opened
	const file = openPath(path, O.rdonly);
	if (file >= 0) {
		found.push(decodeIntent(readFileSync(file), "file"));
		for (const name of [TRUSTED_XATTR, USER_XATTR]) {
			const value = getXattrOfOpen(file, name);
			if (typeof value !== "number") found.push(decodeIntent(value, "xattr"));
		}
		closeSync(file);
	}
	const parts = openSlots(folder, "r") ?? [];
	for (let slot = 0; slot * PARTS < parts.length; slot++) {
		for (const name of [TRUSTED_SLOT_XATTR, USER_SLOT_XATTR]) {
			const values = parts.slice(slot * PARTS, (slot + 1) * PARTS).map((fd) => getXattrOfOpen(fd, name));
			found.push(decodeSlot(Buffer.concat(values.filter((value) => typeof value !== "number")), slot));
		}
	}
	for (const fd of parts) closeSync(fd);
	return found.reduce((newest, one) => (one !== null && (newest === null || isNewer(one, newest)) ? one : newest), null);
}

function isNewer(a: FoundIntent, b: FoundIntent): boolean {
	return a.sequence > b.sequence || (a.sequence === b.sequence && a.hasEnded);
}
