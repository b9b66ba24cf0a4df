// GETLK, SETLK and SETLKW: locks of ranges and of whole files, where others than the kernel lock the same files.

import type { ByteRange, HostLocker, HostLockOperations, LockType } from "../claims/operations.ts";
import { OverlayError } from "../vfs/errors.ts";
import type { FuseMount } from "./mount.ts";
import { type FuseOperation, LockedByOthers, NotImplemented } from "./operation.ts";
import type { FuseRequest } from "./request.ts";

/** Bytes of struct fuse_lk_in; its words, in which the range ends with its last byte. */
const IN_BYTES = 48;
const [FILE, OWNER, START, END, TYPE, PID, FLAGS] = [0, 2, 4, 6, 8, 9, 10];
const LK_FLOCK = 1 << 0;
/** fcntl(2). */
const [READ_LOCK, WRITE_LOCK, UNLOCK] = [0, 1, 2];
/** The last byte of a range up to the end: 2^63 - 1. */
const [LAST_HI, LAST_LO] = [0x7fffffff, 0xffffffff];

export const getlk: FuseOperation = {
	name: "GETLK",
	argumentBytes: IN_BYTES,
	run(request, reply, mount) {
		const found = locksOf(mount).test(lockerOf(request, mount), typeOf(request), rangeOf(request));
		const isRead = found?.type === "read";
		const last = found === null ? { hi: request.word(END + 1), lo: request.word(END) } : lastOf(found);
		reply.u64(found?.offsetHi ?? request.word(START + 1), found?.offsetLo ?? request.word(START));
		reply.u64(last.hi, last.lo);
		reply.u32(found === null ? UNLOCK : isRead ? READ_LOCK : WRITE_LOCK);
		reply.u32(found?.pid ?? 0);
	},
};

export const setlk: FuseOperation = {
	name: "SETLK",
	argumentBytes: IN_BYTES,
	run: (request, _reply, mount) => set(request, mount, false),
};

/** Whoever waits holds nothing but the place of the request, and may be interrupted. */
export const setlkw: FuseOperation = {
	name: "SETLKW",
	argumentBytes: IN_BYTES,
	waitsForOthers: true,
	run: (request, _reply, mount) => set(request, mount, true),
};

/** The owner of FLUSH and of locks of ranges. */
export function rangeOwner(request: FuseRequest, word: number): Buffer {
	return ownerOf("range", request, word);
}

function set(request: FuseRequest, mount: FuseMount, waits: boolean): undefined {
	const locks = locksOf(mount);
	const by = lockerOf(request, mount);
	if (request.word(TYPE) === UNLOCK) locks.unlock(by.handle, by.owner, rangeOf(request));
	else if (!locks.lock(by, typeOf(request), rangeOf(request), waits)) throw new LockedByOthers();
}

function locksOf({ locks }: FuseMount): HostLockOperations {
	if (locks === null) throw new NotImplemented();
	return locks;
}

function lockerOf(request: FuseRequest, { table }: FuseMount): HostLocker {
	const isFlock = (request.word(FLAGS) & LK_FLOCK) !== 0;
	return {
		handle: table.handle(request.nodeId),
		openFile: request.data(4 * FILE, 8),
		owner: ownerOf(isFlock ? "flock" : "range", request, OWNER),
		pid: request.word(PID),
	};
}

/** Processes own locks of ranges, and open files locks by flock(2): their numbers have nothing to do with each other. */
function ownerOf(kind: "range" | "flock", request: FuseRequest, word: number): Buffer {
	return Buffer.concat([OWNER_KIND[kind], request.data(4 * word, 8)]);
}

const OWNER_KIND = { range: Buffer.from("r"), flock: Buffer.from("f") };

function typeOf(request: FuseRequest): LockType {
	const type = request.word(TYPE);
	if (type !== READ_LOCK && type !== WRITE_LOCK) throw new OverlayError("inval", `fcntl(2) with a lock of type ${type}`);
	return type === READ_LOCK ? "read" : "write";
}

function rangeOf(request: FuseRequest): ByteRange {
	const [offsetHi, offsetLo] = [request.word(START + 1), request.word(START)];
	const [endHi, endLo] = [request.word(END + 1), request.word(END)];
	if (endHi > LAST_HI || offsetHi > endHi || (offsetHi === endHi && offsetLo > endLo))
		throw new OverlayError("inval", "No range of a file");
	if (endHi === LAST_HI && endLo === LAST_LO) return { offsetHi, offsetLo, lengthHi: 0xffffffff, lengthLo: 0xffffffff };
	const lo = endLo - offsetLo + 1;
	const borrow = lo < 0 ? -1 : lo > 0xffffffff ? 1 : 0;
	return { offsetHi, offsetLo, lengthHi: endHi - offsetHi + borrow, lengthLo: lo >>> 0 };
}

/** The last byte of a range that may be another front end's: no byte beyond 2^63 - 1 is named to the kernel. */
function lastOf({ offsetHi, offsetLo, lengthHi, lengthLo }: ByteRange): { readonly hi: number; readonly lo: number } {
	const lo = offsetLo + lengthLo - 1;
	const hi = offsetHi + lengthHi + (lo < 0 ? -1 : lo > 0xffffffff ? 1 : 0);
	return hi > LAST_HI ? { hi: LAST_HI, lo: LAST_LO } : { hi, lo: lo >>> 0 };
}
