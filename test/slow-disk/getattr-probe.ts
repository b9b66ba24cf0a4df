/**
 * A client in a process of its own that asks for attributes which the server has in its caches, one request after the other, and says how
 * long it waits. Started by fork(); told by messages.
 */

import { closeSync, openSync, readFileSync, readlinkSync, readSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Nfs3Client, ok } from "../support/nfs3-client.ts";

export type ProbeCommand =
	| {
			readonly connect: {
				readonly port: number;
				readonly serverPid: number;
				readonly slowDevice: number;
				readonly handles: readonly string[];
			};
	  }
	| "begin"
	| "end";

export interface Waits {
	readonly count: number;
	/** Milliseconds from here on. */
	readonly p50: number;
	readonly p99: number;
	readonly longest: number;
	/** When the longest began, after the begin of the measurement. */
	readonly longestAt: number;
	/** For how much of it, but its first `SUSPICIOUS_MILLISECONDS`, the server's main thread ran, and waited for a processor. */
	readonly longestRan: number;
	readonly longestWaitedToRun: number;
	/** As if one request had been sent each millisecond, also while one waited. */
	readonly p99OfAllTime: number;
	/** Where the server's main thread was seen while a request waited for longer than `SUSPICIOUS_MILLISECONDS`, and how often. */
	readonly seenIn: Readonly<Record<string, number>>;
	/** Calls for the slow disk in which it was seen again and again for this long. */
	readonly slowCalls: readonly { readonly place: string; readonly milliseconds: number }[];
}

/** Milliseconds. */
interface Scheduled {
	readonly ran: number;
	readonly waitedToRun: number;
}

interface Place {
	readonly text: string;
	readonly isSlowDisk: boolean;
}

/** Between two requests: with none, this client would take a processor from those that are measured. */
const PAUSE_MILLISECONDS = 1;
const SUSPICIOUS_MILLISECONDS = 8;
const SAMPLE_MILLISECONDS = 4;
const SLOW_CALL_MILLISECONDS_MIN = 40;
/** x86-64, what a server may wait in. */
const SYSTEM_CALLS: Readonly<Record<number, string>> = {
	0: "read",
	1: "write",
	17: "pread64",
	18: "pwrite64",
	20: "writev",
	74: "fsync",
	75: "fdatasync",
	191: "getxattr",
	192: "lgetxattr",
	193: "fgetxattr",
	196: "flistxattr",
	202: "futex",
	217: "getdents64",
	257: "openat",
	262: "newfstatat",
	267: "readlinkat",
	232: "epoll_wait",
	281: "epoll_pwait",
	304: "open_by_handle_at",
	303: "name_to_handle_at",
	306: "syncfs",
	326: "copy_file_range",
	332: "statx",
	437: "openat2",
	5: "fstat",
	8: "lseek",
	190: "fsetxattr",
	316: "renameat2",
	72: "fcntl",
	265: "linkat",
	258: "mkdirat",
	263: "unlinkat",
};

const TAKES_A_PATH: readonly string[] = ["openat", "openat2", "newfstatat", "statx", "readlinkat", "name_to_handle_at"];

let client: Nfs3Client | undefined;
let serverPid = 0;
let slowDevice = 0;
let handles: readonly Buffer[] = [];
let measuring: Promise<Waits> | undefined;
let isEnding = false;

process.on("message", async (command: ProbeCommand) => {
	if (command === "begin") {
		isEnding = false;
		measuring = measure();
		process.send?.("begun");
	} else if (command === "end") {
		isEnding = true;
		process.send?.(await measuring);
	} else {
		client?.close();
		client = await Nfs3Client.connect(command.connect.port);
		serverPid = command.connect.serverPid;
		slowDevice = command.connect.slowDevice;
		handles = command.connect.handles.map((hex) => Buffer.from(hex, "hex"));
		for (const handle of [...handles, ...handles]) await ok(client.getattr(handle), "GETATTR that is to be cached");
		process.send?.("connected");
	}
});

process.on("disconnect", () => process.exit());

async function measure(): Promise<Waits> {
	const waits: number[] = [];
	const seenIn: Record<string, number> = {};
	const slowCalls: { place: string; from: number; milliseconds: number }[] = [];
	let inCall: (typeof slowCalls)[number] | undefined;
	const begun = performance.now();
	let longest = 0;
	let longestAt = 0;
	let scheduled: Scheduled | undefined;
	let scheduledOfLongest: Scheduled | undefined;
	let since = Number.POSITIVE_INFINITY;
	const sampler = setInterval(() => {
		if (performance.now() - since < SUSPICIOUS_MILLISECONDS) return;
		scheduled ??= serverScheduled();
		const { text, isSlowDisk } = whereServerIs();
		seenIn[text] = (seenIn[text] ?? 0) + 1;
		if (text !== inCall?.place) {
			inCall = { place: text, from: performance.now(), milliseconds: 0 };
			if (isSlowDisk) slowCalls.push(inCall);
		}
		inCall.milliseconds = performance.now() - inCall.from;
	}, SAMPLE_MILLISECONDS);
	for (let i = 0; !isEnding; i++) {
		since = performance.now();
		await ok((client as Nfs3Client).getattr(handles[i % handles.length]), "cached GETATTR");
		const wait = performance.now() - since;
		waits.push(wait);
		if (wait > longest) {
			longest = wait;
			longestAt = since - begun;
			scheduledOfLongest = scheduled && minus(serverScheduled(), scheduled);
		}
		scheduled = undefined;
		since = Number.POSITIVE_INFINITY;
		inCall = undefined;
		await sleep(PAUSE_MILLISECONDS);
	}
	clearInterval(sampler);
	const ofAllTime = waits.flatMap((wait) => Array.from({ length: Math.max(1, Math.ceil(wait)) }, (_, missed) => wait - missed));
	return {
		count: waits.length,
		p50: quantile(waits, 0.5),
		p99: quantile(waits, 0.99),
		longest,
		longestAt,
		longestRan: scheduledOfLongest?.ran ?? 0,
		longestWaitedToRun: scheduledOfLongest?.waitedToRun ?? 0,
		p99OfAllTime: quantile(ofAllTime, 0.99),
		seenIn,
		slowCalls: slowCalls.filter(({ milliseconds }) => milliseconds >= SLOW_CALL_MILLISECONDS_MIN),
	};
}

function quantile(values: readonly number[], q: number): number {
	const sorted = [...values].sort((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
}

/** The system call of its main thread, with the path that it is given. */
function whereServerIs(): Place {
	try {
		const [number, first, second] = readFileSync(`/proc/${serverPid}/syscall`, "utf8").trim().split(" ");
		if (number === "running") return { text: "JavaScript", isSlowDisk: false };
		const name = SYSTEM_CALLS[Number(number)] ?? `system call ${number}`;
		const file = Number.parseInt(first, 16) | 0;
		const path = TAKES_A_PATH.includes(name) ? textAt(BigInt(second)) : "";
		return { text: `${name} ${descriptor(file)} ${path}`.trim(), isSlowDisk: isOfSlowDisk(file) };
	} catch {
		return { text: "unknown", isSlowDisk: false };
	}
}

function serverScheduled(): Scheduled {
	const [ran, waitedToRun] = readFileSync(`/proc/${serverPid}/task/${serverPid}/schedstat`, "utf8").split(" ").map(Number);
	return { ran: ran / 1e6, waitedToRun: waitedToRun / 1e6 };
}

function minus(later: Scheduled, earlier: Scheduled): Scheduled {
	return { ran: later.ran - earlier.ran, waitedToRun: later.waitedToRun - earlier.waitedToRun };
}

function isOfSlowDisk(file: number): boolean {
	try {
		return file > 2 && statSync(`/proc/${serverPid}/fd/${file}`).dev === slowDevice;
	} catch {
		return false;
	}
}

function descriptor(number: number): string {
	try {
		return number < 0 ? "" : readlinkSync(`/proc/${serverPid}/fd/${number}`).replace(/^.*holdfast-test-[^/]*\//, "");
	} catch {
		return "";
	}
}

function textAt(address: bigint): string {
	const memory = openSync(`/proc/${serverPid}/mem`, "r");
	try {
		const bytes = Buffer.alloc(64);
		readSync(memory, bytes, 0, bytes.length, address);
		return bytes.toString("latin1").split("\0")[0] ?? "";
	} finally {
		closeSync(memory);
	}
}
