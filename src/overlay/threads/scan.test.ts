// Listings of directories by hash, whole and in windows.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { needs } from "../../../test/support/requirements.ts";
import { scratch } from "../../../test/support/scratch.ts";
import { sipHash, sipHashed, sipKey } from "../../handle/sip-hash.ts";
import { ERRNO } from "../../linux/errno.ts";
import { makeDirectory, makeNode } from "../../linux/names.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { Stat, statAt } from "../../linux/stat.ts";
import { setXattr } from "../../linux/xattr.ts";
import { HASH_BITS, hashName, nameHashed, type ScanRequest, type ScanResult, type ScanSource, scan } from "./scan.ts";

const KEY = sipKey(Buffer.from("000102030405060708090a0b0c0d0e0f", "hex"));
const ROOT = { skip: needs("root") };

type Kind = "file" | "directory" | "whiteout" | "xattr whiteout";

function make(directory: number, name: Uint8Array, kind: Kind): void {
	if (kind === "directory") assert.equal(makeDirectory(directory, name, 0o700), 0);
	else if (kind === "whiteout") assert.equal(makeNode(directory, name, 0o020000, 0, 0), 0);
	else {
		const fd = openAt(directory, name, O.creat | O.excl | O.wronly, 0o600);
		assert.ok(fd >= 0, `errno ${-fd}`);
		if (kind === "xattr whiteout") assert.equal(setXattr(fd, "trusted.overlay.whiteout", Buffer.alloc(0)), 0);
		close(fd);
	}
}

type Content = readonly (readonly [string, Kind])[];

/** Real directories with the given content, from the topmost down; names are latin1 for any bytes. */
function sources(parent: string, layers: readonly Content[], fields: Partial<ScanSource> = {}): ScanSource[] {
	return layers.map((content, i) => {
		mkdirSync(join(parent, `${i}`));
		const fd = openPath(join(parent, `${i}`), O.rdonly | O.directory);
		for (const [name, kind] of content) make(fd, Buffer.from(name, "latin1"), kind);
		return { fd, space: i + 1, asksForDirectories: false, whiteoutXattr: null, ...fields };
	});
}

function fixture(context: TestContext) {
	const folder = scratch(context);
	const path = folder.mount("tmpfs", "tmpfs", 64);
	return {
		path,
		make(layers: readonly Content[], fields: Partial<ScanSource> = {}): ScanSource[] {
			const made = sources(mkdtempSync(join(path, "d")), layers, fields);
			folder.beforeRemoval(() => {
				for (const { fd } of made) close(fd);
			});
			return made;
		},
	};
}

function scanAll(list: readonly ScanSource[], changes: Partial<ScanRequest> = {}): ScanResult {
	const result = scan({
		sources: list,
		key: KEY,
		fromHi: 0,
		fromLo: 0,
		afterHi: 0,
		afterLo: 0,
		limit: 1_000_000,
		hashBits: HASH_BITS,
		...changes,
	});
	assert.ok(typeof result !== "number", `errno ${result}`);
	return result;
}

function namesOf({ entries, count }: ScanResult): string[] {
	return Array.from({ length: count }, (_, i) =>
		Buffer.from(entries.names.subarray(entries.nameStarts[i], entries.nameStarts[i + 1])).toString("latin1"),
	);
}

function cookiesOf({ entries, count }: ScanResult): bigint[] {
	return Array.from({ length: count }, (_, i) => (BigInt(entries.cookieHi[i]) << 32n) | BigInt(entries.cookieLo[i]));
}

/** The place of a name: SipHash without its highest bit, and not one of the three that are taken. */
function placeOf(name: string, bits: number = HASH_BITS): bigint {
	const bytes = Buffer.from(name, "latin1");
	sipHash(KEY, bytes, 0, bytes.length);
	const hash = ((BigInt(sipHashed[0]) << 32n) | BigInt(sipHashed[1])) & ((1n << BigInt(bits)) - 1n);
	return hash < 3n ? hash + 3n : hash;
}

const files = (names: readonly string[]): Content => names.map((name) => [name, "file"] as const);
const numbered = (count: number) => Array.from({ length: count }, (_, i) => `name-${i}`);

test("the hash of a name is SipHash folded into 3 .. 2^63-1, of just the bytes between start and end", () => {
	for (const name of [...numbered(1000), "", "a", "\xff"]) {
		const bytes = Buffer.from(`xx${name}yyy`, "latin1");
		hashName(KEY, bytes, 2, 2 + name.length, HASH_BITS);
		const place = (BigInt(nameHashed[0]) << 32n) | BigInt(nameHashed[1]);
		assert.equal(place, placeOf(name));
		hashName(KEY, bytes, 2, 2 + name.length, 4);
		assert.deepEqual([nameHashed[0], BigInt(nameHashed[1])], [0, placeOf(name, 4)]);
		assert.ok(nameHashed[1] >= 3 && nameHashed[1] < 16 + 3);
	}
});

test("entries come in the order of their hashes, which are their cookies, with the inode numbers of their real ones", ROOT, (t) => {
	const { make } = fixture(t);
	// beyond 4,096 another way of sorting takes over
	for (const count of [0, 1, 100, 5000]) {
		const [source] = make([files(numbered(count))]);
		const result = scanAll([source]);
		const expected = numbered(count).sort((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1));
		assert.deepEqual(namesOf(result), expected);
		assert.deepEqual(
			cookiesOf(result),
			expected.map((name) => placeOf(name)),
		);
		assert.equal(result.end, null);
		const stat = new Stat();
		for (let i = 0; i < count; i += 97) {
			statAt(source.fd, expected[i], stat);
			assert.deepEqual([result.entries.inoHi[i], result.entries.inoLo[i], result.entries.spaces[i]], [stat.inoHi, stat.inoLo, 1]);
		}
	}
});

test("of names in several directories the topmost wins, and a whiteout hides all below it", ROOT, (t) => {
	const list = fixture(t).make([
		[
			["top", "file"],
			["both", "file"],
			["hidden", "whiteout"],
			["twice", "whiteout"],
			["nothing below", "whiteout"],
			["merged", "directory"],
		],
		[
			["both", "directory"],
			["hidden", "file"],
			["middle", "file"],
			["back", "file"],
			["under", "whiteout"],
		],
		[
			["both", "file"],
			["twice", "file"],
			["back", "whiteout"],
			["merged", "directory"],
			["under", "file"],
			["bottom", "file"],
		],
	]);
	const result = scanAll(list);
	const names = namesOf(result);
	assert.deepEqual([...names].sort(), ["back", "both", "bottom", "merged", "middle", "top"]);
	const spaceOf = (name: string) => result.entries.spaces[names.indexOf(name)];
	assert.deepEqual(["top", "both", "middle", "back", "merged", "bottom"].map(spaceOf), [1, 1, 2, 2, 1, 3]);
});

test("a device that is not 0:0 is no whiteout, and an empty file with the xattr is one only where they are looked for", ROOT, (t) => {
	const { make: sourcesOf } = fixture(t);
	const content: Content = [
		["x", "xattr whiteout"],
		["w", "whiteout"],
		["f", "file"],
	];
	for (const [hasXattrWhiteouts, expected] of [
		[false, ["b", "device", "f", "x"]],
		[true, ["b", "device", "f"]],
	] as const) {
		const list = sourcesOf([content, files(["x", "w", "b"])], { whiteoutXattr: hasXattrWhiteouts ? "trusted.overlay.whiteout" : null });
		assert.equal(makeNode(list[0].fd, "device", 0o020600, 1, 3), 0);
		assert.deepEqual(namesOf(scanAll(list)).sort(), expected);
	}
});

test("where subdirectories take a look-up their inode numbers are not used", ROOT, (t) => {
	const list = fixture(t).make(
		[
			[
				["d", "directory"],
				["f", "file"],
			],
		],
		{ asksForDirectories: true, space: 9 },
	);
	const result = scanAll(list);
	const spaces = namesOf(result).map((name, i) => [name, result.entries.spaces[i]]);
	assert.deepEqual(spaces.sort(), [
		["d", 0],
		["f", 9],
	]);
});

/** The names of all windows, each begun where the one before said that it ended. */
function byWindows(list: readonly ScanSource[], limit: number, hashBits: number): string[][] {
	const windows: string[][] = [];
	let from = 0n;
	for (;;) {
		const request = { fromHi: Number(from >> 32n), fromLo: Number(from & 0xffffffffn), limit, hashBits };
		const result = scanAll(list, request);
		windows.push(namesOf(result));
		if (result.end === null) return windows;
		const end = (BigInt(result.end.hi) << 32n) | BigInt(result.end.lo);
		assert.ok(end >= from);
		from = end + 1n;
	}
}

test("windows of any size cover every entry once, in order, and are no larger than they may", ROOT, (t) => {
	const list = fixture(t).make([files(numbered(150)), files([...numbered(300)])]);
	const whole = namesOf(scanAll(list));
	assert.equal(whole.length, 300);
	for (const limit of [1, 2, 7, 64, 299, 300, 301]) {
		const windows = byWindows(list, limit, HASH_BITS);
		assert.deepEqual(windows.flat(), whole, `windows of ${limit}`);
		assert.ok(windows.every((names) => names.length <= limit));
	}
});

test("a window of a large directory is the same whether it was cut on the way or at the end", ROOT, (t) => {
	const list = fixture(t).make([files(numbered(5000))]);
	const whole = namesOf(scanAll(list));
	// 4,500: sorted by columns and cut once; 100: cut many times
	for (const limit of [100, 2400, 4500]) assert.deepEqual(namesOf(scanAll(list, { limit })), whole.slice(0, limit));
});

test("names that share a hash get consecutive cookies in the order of their bytes, and none is lost", ROOT, (t) => {
	const list = fixture(t).make([files(numbered(100))]);
	const result = scanAll(list, { hashBits: 4 });
	const names = namesOf(result);
	assert.deepEqual([...names].sort(), numbered(100).sort());
	const cookies = cookiesOf(result);
	let previous = 2n;
	names.forEach((name, i) => {
		const place = placeOf(name, 4);
		assert.equal(cookies[i], place > previous ? place : previous + 1n);
		if (i > 0 && placeOf(names[i - 1], 4) === place) assert.ok(Buffer.compare(Buffer.from(names[i - 1]), Buffer.from(name)) < 0);
		previous = cookies[i];
	});
	assert.ok(previous >= 100n);
});

test("names that share a hash are never parted by the end of a window", ROOT, (t) => {
	const list = fixture(t).make([files(numbered(100))]);
	const windows = byWindows(list, 3, 4);
	assert.deepEqual(windows.flat().sort(), numbered(100).sort());
	const where = new Map<bigint, number>();
	windows.forEach((names, i) => {
		for (const name of names) {
			const place = placeOf(name, 4);
			assert.equal(where.get(place) ?? i, i);
			where.set(place, i);
		}
	});
});

test("a directory that cannot be read gives the negated error number", () => {
	const source: ScanSource = { fd: -1, space: 1, asksForDirectories: false, whiteoutXattr: null };
	const request = { sources: [source], key: KEY, fromHi: 0, fromLo: 0, afterHi: 0, afterLo: 0, limit: 10, hashBits: HASH_BITS };
	assert.equal(scan(request), -ERRNO.EBADF);
});

/** Names of any bytes that a directory may hold. */
const anyName = fc
	.uint8Array({ minLength: 1, maxLength: 12 })
	.map((bytes) => Buffer.from(bytes).toString("latin1"))
	.filter((name) => !/[/\0]/.test(name) && name !== "." && name !== "..");

test("whatever lies in up to three layers, all windows together are their union, once each", ROOT, (t) => {
	const { path } = fixture(t);
	const name = fc.oneof(anyName, fc.constantFrom("a", "b", "c", "d", "e", "f"));
	const kind = fc.constantFrom<Kind>("file", "directory", "whiteout", "xattr whiteout");
	const layer = fc.uniqueArray(fc.tuple(name, kind), { maxLength: 12, selector: ([of]) => of });
	fc.assert(
		fc.property(
			fc.array(layer, { minLength: 1, maxLength: 3 }),
			fc.integer({ min: 1, max: 8 }),
			fc.constantFrom(1, 4, 16, HASH_BITS),
			fc.boolean(),
			(layers, limit, hashBits, hasXattrWhiteouts) => {
				const expected: string[] = [];
				const seen = new Set<string>();
				for (const content of layers) {
					for (const [of, what] of content) {
						const isHidden = what === "whiteout" || (what === "xattr whiteout" && hasXattrWhiteouts);
						if (!seen.has(of) && !isHidden) expected.push(of);
						seen.add(of);
					}
				}
				const parent = mkdtempSync(join(path, "p"));
				const list = sources(parent, layers, { whiteoutXattr: hasXattrWhiteouts ? "trusted.overlay.whiteout" : null });
				try {
					assert.deepEqual(byWindows(list, limit, hashBits).flat().sort(), expected.sort());
					const cookies = cookiesOf(scanAll(list, { hashBits }));
					assert.ok(cookies.every((cookie, i) => cookie > (cookies[i - 1] ?? 2n)));
				} finally {
					for (const { fd } of list) close(fd);
					rmSync(parent, { recursive: true });
				}
			},
		),
		{ numRuns: 150 },
	);
});
