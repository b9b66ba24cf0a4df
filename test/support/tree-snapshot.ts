import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { type BigIntStats, closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from "node:fs";
import { join } from "node:path";
import { missing } from "./requirements.ts";

export interface SnapshotOptions {
	/** Inode numbers, change times and allocated blocks too: for "nothing at all has happened here". */
	readonly exact?: boolean;
	/** Owner, mode and times are left out: for trees that a program has made anew. */
	readonly contentsOnly?: boolean;
	readonly ignore?: (path: string) => boolean;
}

/** One line of text for each object, by its path from the top ("." is the top itself). */
export type TreeSnapshot = ReadonlyMap<string, string>;

const TYPES: readonly [number, string][] = [
	[0o010000, "fifo"],
	[0o020000, "chr"],
	[0o040000, "dir"],
	[0o060000, "blk"],
	[0o100000, "reg"],
	[0o120000, "lnk"],
	[0o140000, "sock"],
];

/** All that a local path shows of a tree; reading it leaves no trace but access times. */
export function snapshotTree(top: string, options: SnapshotOptions = {}): TreeSnapshot {
	const xattrs = options.contentsOnly ? new Map<string, string>() : byDecodedPath(readXattrs(top));
	const found = new Map<string, string>();
	const visit = (path: string) => {
		if (options.ignore?.(path)) return;
		const real = path === "." ? top : join(top, path);
		const stat = lstatSync(real, { bigint: true });
		found.set(path, describe(real, stat, options) + (xattrs.get(path) ?? ""));
		if (!stat.isDirectory()) return;
		for (const name of readdirSync(real).sort()) visit(path === "." ? name : `${path}/${name}`);
	};
	visit(".");
	return found;
}

function describe(path: string, stat: BigIntStats, options: SnapshotOptions): string {
	const type = TYPES.find(([bits]) => BigInt(bits) === (stat.mode & 0o170000n))?.[1] ?? "unknown";
	const fields = [type];
	if (!options.contentsOnly) {
		fields.push(`mode=${(stat.mode & 0o7777n).toString(8)}`, `owner=${stat.uid}:${stat.gid}`);
		fields.push(`mtime=${stat.mtimeNs}`);
		if (type !== "dir") fields.push(`nlink=${stat.nlink}`);
	}
	if (options.exact) fields.push(`ino=${stat.ino}`, `ctime=${stat.ctimeNs}`, `blocks=${stat.blocks}`, `dirsize=${stat.size}`);
	if (type === "reg") fields.push(`size=${stat.size}`, `sha256=${sha256OfFile(path)}`);
	if (type === "lnk") fields.push(`target=${JSON.stringify(readlinkSync(path))}`);
	if (type === "chr" || type === "blk") fields.push(`rdev=${stat.rdev}`);
	return fields.join(" ");
}

export function sha256OfFile(path: string): string {
	const hash = createHash("sha256");
	const buffer = Buffer.allocUnsafe(1 << 20);
	const descriptor = openSync(path, "r");
	try {
		for (let count = readSync(descriptor, buffer); count > 0; count = readSync(descriptor, buffer)) hash.update(buffer.subarray(0, count));
	} finally {
		closeSync(descriptor);
	}
	return hash.digest("hex");
}

/** Paths as Node.js lists them: bytes that are no UTF-8 are all shown alike. */
function byDecodedPath(xattrs: ReadonlyMap<string, string>): Map<string, string> {
	return new Map([...xattrs].map(([path, line]) => [Buffer.from(path, "latin1").toString(), line]));
}

/**
 * By path, its bytes as Latin-1: " name=hex name=hex" in order of names, without those that begin with `left`. Node.js has no call for
 * them.
 */
export function readXattrs(top: string, left?: string): Map<string, string> {
	if (missing("getfattr")) throw new Error("snapshots need getfattr (package attr)");
	const text = execFileSync("getfattr", ["--recursive", "--no-dereference", "--physical", "--match=-", "--dump", "--encoding=hex", "."], {
		cwd: top,
		encoding: "latin1",
		maxBuffer: 1 << 28,
		stdio: ["ignore", "pipe", "ignore"],
	});
	const found = new Map<string, string>();
	for (const block of text.split("\n\n")) {
		const [head, ...lines] = block.split("\n").filter((line) => line !== "" && !(left !== undefined && line.startsWith(left)));
		if (!head?.startsWith("# file: ") || lines.length === 0) continue;
		const path = head.slice("# file: ".length).replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
		found.set(path, ` ${lines.sort().join(" ")}`);
	}
	return found;
}

/** What differs, one line each, at most `most`; empty when nothing does. */
export function compareTrees(expected: TreeSnapshot, actual: TreeSnapshot, most = 20): string[] {
	const lines: string[] = [];
	for (const [path, was] of expected) {
		const is = actual.get(path);
		if (is === undefined) lines.push(`missing: ${path} (${was})`);
		else if (is !== was) lines.push(`differs: ${path}\n    expected ${onlyDifferent(was, is)}\n    actual   ${onlyDifferent(is, was)}`);
	}
	for (const [path, is] of actual) if (!expected.has(path)) lines.push(`unexpected: ${path} (${is})`);
	return lines.length > most ? [...lines.slice(0, most), `and ${lines.length - most} more`] : lines;
}

/** Throws with the differences. */
export function assertSameTree(expected: TreeSnapshot, actual: TreeSnapshot, what: string): void {
	const differences = compareTrees(expected, actual);
	if (differences.length > 0) throw new Error(`${what}:\n${differences.join("\n")}`);
}

function onlyDifferent(one: string, other: string): string {
	const others = new Set(other.split(" "));
	return one
		.split(" ")
		.filter((field) => !others.has(field))
		.join(" ");
}
