// The way into the C library: how calls are declared, and the memory in which their arguments lie.

import { koffi, loadLibrary } from "./koffi.ts";
import { allocate } from "./memory.ts";

/**
 * The C library through FFI. Every call of the program into C is declared in this folder, because a wrong signature is a crash.
 *
 * Addresses travel as Numbers (user space ends below 2^47) and arguments are built in one arena that is never freed;
 * a call copies what it needs out of the arena before the next one is made, so nothing here is re-entrant or asynchronous.
 */
const libc = loadLibrary("libc.so.6");

/** Takes Numbers (or byte arrays, where declared so) and returns a Number. */
export type NativeFunction = (...parameters: (number | Uint8Array)[]) => number;

/** `given`: the parameters; what a pointer leads to still lies in the arena. */
type CallHook = (name: string, given: readonly (number | Uint8Array)[]) => number | undefined;
let beforeCall: CallHook | null = null;

/** Declares a function of the C library. `pointer` arguments are addresses as Numbers. */
export function declare(name: string, result: string, parameters: readonly string[]): NativeFunction {
	const call = libc.func(
		name,
		result,
		parameters.map((parameter) => (parameter === "pointer" ? "int64_t" : parameter)),
	) as NativeFunction;
	if (beforeCall === null) return call;
	const before = beforeCall;
	return (...given) => {
		const error = before(name, given) ?? 0;
		if (error === 0) return call(...given);
		errnoView[0] = error;
		return -1;
	};
}

/**
 * Tests count calls, or make them fail: `hook` runs before each call of what is declared afterwards, so this comes before the other modules of
 * this folder are loaded. It gives the error number that the call is to have.
 */
export function observeCalls(hook: CallHook): void {
	beforeCall = hook;
}

let beforeChange: ((name: string) => number | undefined) | null = null;

/**
 * Tests stop the world between two system calls by throwing here: `hook` runs before each call that changes what is on disk. It may give the error
 * number that the call is to have.
 */
export function interceptChanges(hook: ((name: string) => number | undefined) | null): void {
	beforeChange = hook;
}

/** As declare, for a call that changes what is on disk. */
export function declareChange(name: string, result: string, parameters: readonly string[]): NativeFunction {
	const call = declare(name, result, parameters);
	return (...given) => {
		const error = beforeChange === null ? 0 : (beforeChange(name) ?? 0);
		if (error === 0) return call(...given);
		errnoView[0] = error;
		return -1;
	};
}

const errnoView = new Int32Array(koffi.view(declare("__errno_location", "void *", [])(), 4) as ArrayBuffer);

/** Turns the C convention (-1 and errno) into ours: the result, or the negated error number. */
export function result(value: number): number {
	return value < 0 ? -errnoView[0] : value;
}

const ARENA_BYTES = 256 * 1024;
const arenaMemory = allocate(ARENA_BYTES);
export const arena: Buffer = arenaMemory.bytes;
export const arenaAddress: number = arenaMemory.address;
export const arenaWords = new Uint32Array(arena.buffer, arena.byteOffset, ARENA_BYTES / 4);
export const arenaView = new DataView(arena.buffer, arena.byteOffset, ARENA_BYTES);

/** Places of the arena, in bytes. Two paths, because link and rename take two. */
export const PLACE = {
	path: 0,
	otherPath: 8192,
	openHow: 16384,
	fileHandle: 16448,
	mountId: 16640,
	statx: 16896,
	times: 17216,
	statfs: 17280,
	ioctl: 17536,
	offset: 17856,
	value: 65536,
} as const;

/** Largest xattr value or list that Linux hands out (XATTR_SIZE_MAX, XATTR_LIST_MAX). */
export const VALUE_BYTES = 65536;
const PATH_BYTES = 8191;

export type PathBytes = Uint8Array | string;

/** Copies a path into the arena, ends it with NUL, and returns its address. */
export function putPath(place: number, path: PathBytes): number {
	let length: number;
	if (typeof path === "string") {
		if (path.length > PATH_BYTES / 3) throw new RangeError("The path is too long for a system call");
		length = arena.write(path, place, "utf8");
	} else {
		length = path.length;
		if (length > PATH_BYTES) throw new RangeError("The path is too long for a system call");
		arena.set(path, place);
	}
	arena[place + length] = 0;
	return arenaAddress + place;
}
