/**
 * Loaded before the program (`node --import`), also in its worker threads: makes the n-th call below src/linux, or use of node:fs, fail.
 * Only calls count that the kernel may refuse with the error number. Told what to do by messages of the test (`FaultyProcess`), or by HOLDFAST_FAULT.
 */

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { constants } from "node:os";
import { getEnvironmentData, isMainThread, setEnvironmentData } from "node:worker_threads";
import { arena, arenaAddress, observeCalls } from "../../src/linux/libc.ts";
import { type FaultOrder, type FaultReport, parseOrder } from "./fault-order.ts";

const SHARED = "holdfast faults";
const [IS_ARMED, SEEN, AT, ERROR, IS_FROM, HITS, NAME_LENGTH] = [0, 1, 2, 3, 4, 5, 6];
const WORDS = 8;
const NAME_BYTES = 200;

const memory = isMainThread
	? new SharedArrayBuffer(WORDS * 4 + NAME_BYTES)
	: ((getEnvironmentData(SHARED) as SharedArrayBuffer | undefined) ?? new SharedArrayBuffer(WORDS * 4 + NAME_BYTES));
if (isMainThread) setEnvironmentData(SHARED, memory);
const words = new Int32Array(memory, 0, WORDS);
const nameBytes = new Uint8Array(memory, WORDS * 4);

export function arm({ at, error, isFrom }: FaultOrder): void {
	words[IS_ARMED] = 0;
	words[SEEN] = 0;
	words[AT] = at;
	words[ERROR] = error;
	words[IS_FROM] = isFrom ? 1 : 0;
	words[HITS] = 0;
	words[NAME_LENGTH] = 0;
	words[IS_ARMED] = 1;
}

export function disarm(): FaultReport {
	words[IS_ARMED] = 0;
	return { seen: words[SEEN], hits: words[HITS], name: Buffer.from(nameBytes.slice(0, words[NAME_LENGTH])).toString() };
}

/** The error number that this call is to have, or 0. */
function take(name: string): number {
	const number = Atomics.add(words, SEEN, 1) + 1;
	if (number !== words[AT] && !(words[IS_FROM] === 1 && number > words[AT])) return 0;
	if (Atomics.add(words, HITS, 1) === 0) {
		const bytes = Buffer.from(name).subarray(0, NAME_BYTES);
		nameBytes.set(bytes);
		words[NAME_LENGTH] = bytes.length;
	}
	return words[ERROR];
}

const { EACCES, EDQUOT, EIO, EMFILE, ENOSPC, EROFS } = constants.errno;
const NEEDS_ROOM = new Set([ENOSPC, EDQUOT]);

// Calls below src/linux

/** Of sockets and of what cannot fail, or whose failure nobody looks at. */
const NEVER = new Set(
	[
		"close",
		"__errno_location",
		"umask",
		"poll",
		"send",
		"sendto",
		"recv",
		"getsockopt",
		"socket",
		"bind",
		"write",
		"getrlimit",
		"setrlimit",
	].concat("posix_fadvise"),
);
const OPENS = new Set(["openat", "openat2", "open_by_handle_at", "fcntl"]);
const CHANGES = new Set(
	[
		"fchmodat",
		"fchownat",
		"utimensat",
		"fallocate",
		"copy_file_range",
		"pwrite",
		"pwritev2",
		"ftruncate",
		"linkat",
		"renameat2",
		"unlinkat",
	].concat(["mkdirat", "mknodat", "symlinkat", "setxattr", "fsetxattr", "removexattr"]),
);
const FLUSHES = new Set(["fsync", "fdatasync", "syncfs", "sync_file_range"]);
const WITH_PATH = new Set(
	["openat", "openat2", "statx", "linkat", "renameat2", "unlinkat", "mkdirat", "mknodat", "symlinkat", "readlinkat", "lgetxattr"].concat(
		"open_by_handle_at",
	),
);
const [SYS_OPENAT2, O_ACCMODE, O_CREAT, O_PATH] = [437, 3, fs.constants.O_CREAT, 0o10000000];

const original = { ...fs };

function textAt(address: number | Uint8Array | undefined): string {
	const start = typeof address === "number" ? address - arenaAddress : -1;
	if (start < 0 || start >= arena.length) return "";
	return arena.toString("latin1", start, arena.indexOf(0, start));
}

function isThere(directory: unknown, name: string): boolean {
	const path = name.startsWith("/") ? name : `/proc/self/fd/${directory}/${name}`;
	return original.lstatSync(Buffer.from(path, "latin1"), { throwIfNoEntry: false }) !== undefined;
}

/** Of what makes a name: the kernel looks first whether there is one. */
const NEW_NAME: Readonly<Record<string, readonly [directory: number, name: number]>> = {
	mkdirat: [0, 1],
	mknodat: [0, 1],
	symlinkat: [1, 2],
	linkat: [2, 3],
};

function mayFail(name: string, given: readonly (number | Uint8Array)[], error: number): boolean {
	if (error === EIO) return true;
	if (error === EMFILE) return OPENS.has(name);
	if (error === EACCES) return WITH_PATH.has(name);
	if (name === "openat") {
		const flags = given[2] as number;
		if ((flags & O_PATH) !== 0) return false;
		if (error === EROFS && (flags & O_ACCMODE) !== 0) return true;
		return (flags & O_CREAT) !== 0 && !isThere(given[0], textAt(given[1]));
	}
	if (FLUSHES.has(name)) return NEEDS_ROOM.has(error);
	if (!CHANGES.has(name)) return false;
	if (error === EROFS && /^(pwrite|pwritev2|ftruncate|fallocate|copy_file_range)$/.test(name)) return false;
	const made = NEW_NAME[name];
	return made === undefined || !isThere(given[made[0]], textAt(given[made[1]]));
}

observeCalls((called, given) => {
	if (words[IS_ARMED] === 0 || NEVER.has(called)) return 0;
	let name = called;
	if (called === "syscall") {
		// mounts are made at a start alone, and their errors are others
		if (given[0] !== SYS_OPENAT2) return 0;
		name = "openat2";
	}
	return mayFail(name, given, words[ERROR]) ? take(name) : 0;
});

// Uses of node:fs

const FS_OPENS = /^(open|opendir|readFile|readdir|writeFile|appendFile|mkdtemp|copyFile|cp)/;
const FS_CHANGES =
	/^(write|append|mkdir|mkdtemp|rename|link|symlink|unlink|rm|truncate|ftruncate|chmod|fchmod|chown|utimes|fsync|fdatasync|copyFile|cp)/;
const FS_NEVER = /^(close|exists$|_toUnixTimestamp|createReadStream|createWriteStream|watch|unwatch)/;
const FS_BY_DESCRIPTOR = /^(read$|readSync|readv|write$|writeSync|writev|f[a-z]+)/;

function mayFailInNode(name: string, given: readonly unknown[], error: number): boolean {
	// what is said to people is tried elsewhere
	if (typeof given[0] === "number" && given[0] <= 2) return false;
	if (error === EIO) return true;
	const isOpen = FS_OPENS.test(name) && typeof given[0] !== "number";
	if (error === EMFILE) return isOpen;
	if (error === EACCES) return typeof given[0] !== "number" && !FS_BY_DESCRIPTOR.test(name);
	if (/^open(Sync)?$/.test(name)) {
		const flags =
			typeof given[1] === "number" ? given[1] : /^r$/.test(String(given[1] ?? "r")) ? 0 : /^r\+/.test(String(given[1])) ? 2 : 2 | O_CREAT;
		if (error === EROFS) return (flags & O_ACCMODE) !== 0;
		return (flags & O_CREAT) !== 0 && original.lstatSync(given[0] as string, { throwIfNoEntry: false }) === undefined;
	}
	if (!FS_CHANGES.test(name)) return false;
	if (error === EROFS && /sync/i.test(name.replace(/Sync$/, ""))) return false;
	const isNew = /^mkdir(Sync)?$/.test(name);
	return !isNew || original.lstatSync(given[0] as string, { throwIfNoEntry: false }) === undefined;
}

const TEXTS: Readonly<Record<number, readonly [code: string, text: string]>> = {
	[EACCES]: ["EACCES", "permission denied"],
	[EDQUOT]: ["EDQUOT", "disk quota exceeded"],
	[EIO]: ["EIO", "i/o error"],
	[EMFILE]: ["EMFILE", "too many open files"],
	[ENOSPC]: ["ENOSPC", "no space left on device"],
	[EROFS]: ["EROFS", "read-only file system"],
};

function nodeError(name: string, path: unknown, errno: number): Error {
	const [code, text] = TEXTS[errno];
	const syscall = name
		.replace(/Sync$/, "")
		.replace(/^(readFile|writeFile|appendFile)$/, "open")
		.replace(/^readdir$/, "scandir");
	const isPath = typeof path === "string" || Buffer.isBuffer(path);
	const where = isPath ? ` '${path}'` : "";
	return Object.assign(new Error(`${code}: ${text}, ${syscall}${where}`), {
		errno: -errno,
		code,
		syscall,
		...(isPath ? { path: String(path) } : {}),
	});
}

/** Not what loads the program. */
function isOfProgram(): boolean {
	const { stack = "" } = new Error();
	return !stack.includes("node:internal/modules/") && !stack.includes("koffi");
}

function errorOf(name: string, given: readonly unknown[]): Error | null {
	if (words[IS_ARMED] === 0 || !mayFailInNode(name, given, words[ERROR]) || !isOfProgram()) return null;
	const errno = take(`node:fs ${name}`);
	return errno === 0 ? null : nodeError(name, given[0], errno);
}

type Any = (...given: unknown[]) => unknown;
const target = fs as unknown as Record<string, Any>;
for (const [name, call] of Object.entries(original) as unknown as [string, Any][]) {
	if (typeof call !== "function" || FS_NEVER.test(name) || /^[A-Z]/.test(name)) continue;
	let made: Any;
	if (name.endsWith("Sync")) {
		made = (...given) => {
			const error = errorOf(name, given);
			if (error === null) return call.apply(fs, given);
			if (name === "existsSync") return false;
			throw error;
		};
	} else {
		made = (...given) => {
			const done = given.at(-1);
			const error = typeof done === "function" ? errorOf(name, given) : null;
			if (error === null) return call.apply(fs, given);
			process.nextTick(done as Any, error);
			return undefined;
		};
	}
	target[name] = Object.assign(made, call);
}
syncBuiltinESMExports();

if (isMainThread) {
	const { HOLDFAST_FAULT: order, HOLDFAST_FAULT_REPORT: report } = process.env;
	if (order !== undefined) {
		arm(parseOrder(order));
		process.on("exit", () => {
			const found = JSON.stringify(disarm());
			if (report !== undefined) original.writeFileSync(report, found);
		});
	}
	process.on("message", (message: FaultOrder | "disarm") => {
		if (message === "disarm") process.send?.(disarm());
		else {
			arm(message);
			process.send?.("armed");
		}
	});
	process.channel?.unref();
}
