// The reader of tar archives against what other programs write, and against bytes that nobody meant.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
	chmodSync,
	closeSync,
	ftruncateSync,
	linkSync,
	lutimesSync,
	mkdirSync,
	openSync,
	readFileSync,
	rmSync,
	symlinkSync,
	utimesSync,
	writeFileSync,
	writeSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { needs } from "../../test/support/requirements.ts";
import { type Scratch, scratch } from "../../test/support/scratch.ts";
import { END, type RawEntry, raw } from "../../test/support/tar-archive.ts";
import { sourceOf } from "./byte-source.ts";
import { readTar, type TarEntry } from "./tar-reader.ts";
import { UnpackError } from "./unpack-error.ts";

const SEED = 20_260_815;

interface Found extends Pick<TarEntry, "type" | "size" | "mode" | "uid" | "gid" | "mtime" | "major" | "minor"> {
	readonly name: string;
	readonly linkName: string;
	readonly content: string;
}

async function* cut(bytes: Buffer, lengths: readonly number[]): AsyncGenerator<Buffer> {
	for (let at = 0, turn = 0; at < bytes.length; turn++) {
		const length = lengths[turn % lengths.length];
		yield bytes.subarray(at, at + length);
		at += length;
	}
}

interface Reading {
	readonly isChecked?: boolean;
	/** Whether the content of the entry at that place is read, or passed over. */
	readonly reads?: (place: number) => boolean;
}

const EVERY_THIRD_IS_PASSED_OVER = (place: number) => place % 3 !== 2;

async function entriesOf(bytes: Buffer, lengths: readonly number[] = [bytes.length + 1], reading: Reading = {}): Promise<Found[]> {
	const { isChecked = false, reads = EVERY_THIRD_IS_PASSED_OVER } = reading;
	const found: Found[] = [];
	for await (const entry of readTar({ source: sourceOf(cut(bytes, lengths)), isChecked })) {
		const content = Buffer.alloc(Math.min(entry.size, 1 << 24));
		const isRead = reads(found.length);
		if (isRead) for await (const { bytes, offset } of entry.content) if (offset < content.length) bytes.copy(content, offset);
		const { type, size, mode, uid, gid, mtime, major, minor } = entry;
		const isDevice = type.endsWith("device");
		found.push({
			name: entry.name.toString("latin1").replace(/(?<=.)\/$/, ""),
			linkName: type === "link" || type === "symlink" ? entry.linkName.toString("latin1") : "",
			content: isRead ? content.toString("latin1") : "passed over",
			...{ type, size, mode, uid, gid, mtime, major: isDevice ? major : 0, minor: isDevice ? minor : 0 },
		});
	}
	return found;
}

/** The entries, or the sentence of the refusal. Anything else that is thrown is a fault. */
async function outcomeOf(bytes: Buffer, lengths: readonly number[], isChecked: boolean): Promise<Found[] | string> {
	try {
		return await entriesOf(bytes, lengths, { isChecked });
	} catch (error) {
		assert.ok(error instanceof UnpackError, `${(error as Error).stack}`);
		assert.match(error.message, /^[^\n]+$/);
		return error.message;
	}
}

const lengths = fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1, maxLength: 5 });

/** What the other program is given, and what is to be found. */
interface Spec {
	readonly name: string;
	readonly type: "file" | "directory" | "symlink" | "link" | "fifo" | "character-device" | "block-device";
	readonly data: string;
	readonly linkName: string;
	readonly mode: number;
	readonly uid: number;
	readonly gid: number;
	readonly mtime: number;
	readonly major: number;
	readonly minor: number;
}

const FORMATS = ["ustar", "gnu", "pax"] as const;

/** Takes a list of lists of entries with the format each is to be written in; gives a line in hex for each. */
const PYTHON = `
import io, json, sys, tarfile
kinds = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE,
  "fifo": tarfile.FIFOTYPE, "character-device": tarfile.CHRTYPE, "block-device": tarfile.BLKTYPE}
formats = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
for format, entries in json.load(sys.stdin):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=formats[format]) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry["name"])
            info.type = kinds[entry["type"]]
            info.linkname = entry["linkName"]
            data = bytes.fromhex(entry["data"])
            info.size = len(data)
            info.mode, info.uid, info.gid, info.mtime = entry["mode"], entry["uid"], entry["gid"], entry["mtime"]
            info.devmajor, info.devminor = entry["major"], entry["minor"]
            archive.addfile(info, io.BytesIO(data))
    print(out.getvalue().hex())
`;

const component = fc.stringMatching(/^[a-z][a-z0-9 ._=%-]{0,20}$/);
const specOf = (name: fc.Arbitrary<string>, times: fc.Arbitrary<number>, ids: fc.Arbitrary<number>): fc.Arbitrary<Spec> =>
	fc
		.record({
			name,
			type: fc.constantFrom<Spec["type"]>("file", "file", "directory", "symlink", "link", "fifo", "character-device", "block-device"),
			data: fc.uint8Array({ maxLength: 1400 }).map((bytes) => Buffer.from(bytes).toString("hex")),
			linkName: name,
			mode: fc.integer({ min: 0, max: 0o7777 }),
			uid: ids,
			gid: ids,
			mtime: times,
			major: fc.integer({ min: 0, max: 4095 }),
			minor: fc.integer({ min: 0, max: 1_048_575 }),
		})
		.map((spec) => ({
			...spec,
			data: spec.type === "file" ? spec.data : "",
			linkName: spec.type === "link" || spec.type === "symlink" ? spec.linkName : "",
			...(spec.type.endsWith("device") ? {} : { major: 0, minor: 0 }),
		}));
const short = specOf(component, fc.integer({ min: 0, max: 0o77777777777 }), fc.integer({ min: 0, max: 0o7777777 }));
const long = specOf(
	fc.array(component, { minLength: 1, maxLength: 20 }).map((names) => names.join("/")),
	fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
	fc.integer({ min: 0, max: 0xfffffffe }),
);

test("tar reader: entries that Python's tarfile writes as ustar, gnu and pax are read as they were given", {
	skip: needs("python3"),
}, async () => {
	const samples = FORMATS.flatMap((format) =>
		fc
			.sample(fc.tuple(fc.array(format === "ustar" ? short : long, { maxLength: 8 }), lengths), { numRuns: 40, seed: SEED })
			.map(([entries, cuts]) => ({ format, entries, cuts })),
	);
	// one process for all of them, for it takes long to start
	const written = spawnSync("python3", ["-c", PYTHON], {
		input: JSON.stringify(samples.map(({ format, entries }) => [format, entries])),
		encoding: "latin1",
		maxBuffer: 1 << 28,
	});
	assert.equal(written.status, 0, written.stderr);
	const archives = written.stdout.trim().split("\n");
	assert.equal(archives.length, samples.length);
	for (const [index, { format, entries, cuts }] of samples.entries()) {
		const expected = entries.map(({ data, mtime, ...spec }, place) => ({
			...spec,
			size: data.length / 2,
			mtime: { sec: mtime, nsec: 0 },
			content: EVERY_THIRD_IS_PASSED_OVER(place) ? Buffer.from(data, "hex").toString("latin1") : "passed over",
		}));
		assert.deepEqual(await entriesOf(Buffer.from(archives[index], "hex"), cuts), expected, `${format}, sample ${index}`);
	}
});

/** A name of any bytes but the two that no name holds. */
const anyName = fc
	.uint8Array({ minLength: 1, maxLength: 80 })
	.map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x5f : byte))))
	.filter((bytes) => ![".", "..", "f"].includes(bytes.toString("latin1")));

const treeEntry = fc.record({
	name: anyName,
	inFolder: fc.boolean(),
	type: fc.constantFrom("file" as const, "directory" as const, "symlink" as const),
	hasLink: fc.boolean(),
	data: fc.uint8Array({ maxLength: 2000 }),
	sec: fc.integer({ min: 0, max: 2 ** 31 }),
	mode: fc.integer({ min: 0, max: 0o777 }),
});

test("tar reader: trees that GNU tar packs as v7, ustar, gnu and posix are read as they lie there", { skip: needs("tar") }, async (t) => {
	const made = scratch(t);
	const entries = fc.uniqueArray(treeEntry, { minLength: 1, maxLength: 8, selector: ({ name }) => name.toString("latin1") });
	await fc.assert(
		fc.asyncProperty(entries, lengths, async (tree, cuts) => {
			const top = join(made.path, "tree");
			rmSync(top, { recursive: true, force: true });
			mkdirSync(top);
			mkdirSync(join(top, "f"));
			const pathOf = (name: Buffer) => Buffer.concat([Buffer.from(`${top}/`), name]);
			const expected = new Map<string, Partial<Found>>();
			for (const { name, inFolder, type, hasLink, data, sec, mode } of tree) {
				const place = inFolder ? Buffer.concat([Buffer.from("f/"), name]) : name;
				const key = `./${place.toString("latin1")}`;
				const mtime = { sec, nsec: 0 };
				if (type === "symlink") {
					symlinkSync(name, pathOf(place));
					lutimesSync(pathOf(place), sec, sec);
					expected.set(key, { type, size: 0, mtime, linkName: name.toString("latin1") });
					continue;
				}
				// readable, and open to the one who removes it
				const bits = mode | (type === "directory" ? 0o700 : 0o400);
				if (type === "directory") mkdirSync(pathOf(place));
				else writeFileSync(pathOf(place), data);
				chmodSync(pathOf(place), bits);
				utimesSync(pathOf(place), sec, sec);
				if (type === "directory") expected.set(key, { type, size: 0, mtime, mode: bits });
				else expected.set(key, { type, size: data.length, mtime, mode: bits, content: Buffer.from(data).toString("latin1") });
				if (type !== "file" || !hasLink) continue;
				// the first one has the content
				linkSync(pathOf(place), join(top, `f/zz-link ${expected.size}`));
				expected.set(`./f/zz-link ${expected.size}`, { mtime, mode: bits });
			}
			for (const format of ["v7", "ustar", "gnu", "posix"]) {
				const bytes = execFileSync("tar", ["-c", `--format=${format}`, "-C", top, "."], { maxBuffer: 1 << 26 });
				const found = await entriesOf(bytes, cuts, { reads: () => true });
				assert.equal(found.length, expected.size + 2, `${format}: how many entries`);
				const contents = new Map(found.map(({ name, content }) => [name, content]));
				for (const [key, fields] of expected) {
					const entry = found.find(({ name }) => name === key);
					assert.ok(entry, `${format}: ${key}`);
					const isLink = entry.type === "link";
					for (const [field, value] of Object.entries(fields)) {
						if (isLink && field === "content") assert.equal(contents.get(entry.linkName), value, `${format}: content of the link ${key}`);
						else if (!isLink || (field !== "type" && field !== "size")) {
							assert.deepEqual(entry[field as keyof Found], value, `${format}: ${field} of ${key}`);
						}
					}
				}
			}
		}),
		{ numRuns: 20, seed: SEED },
	);
});

function sparseFile(made: Scratch, size: number, extents: readonly (readonly [offset: number, data: string])[]): Buffer {
	const path = join(made.path, "sparse");
	const fd = openSync(path, "w");
	for (const [offset, data] of extents) writeSync(fd, data, offset);
	ftruncateSync(fd, size);
	closeSync(fd);
	return readFileSync(path);
}

test("tar reader: sparse files in all four forms of GNU tar have their content and size", { skip: needs("tar") }, async (t) => {
	const made = scratch(t);
	const many = Array.from({ length: 60 }, (_, index) => [index * 100_000, `extent ${index}`] as const);
	for (const [size, extents] of [
		[5_000_000, [[4096, "one"]]],
		[6_000_000, many],
		[3_000_000, []],
		[8192, [[8190, "xy"]]],
	] as const) {
		const content = sparseFile(made, size, extents).toString("latin1");
		made.file("zzz", "what follows");
		for (const args of [["--format=gnu"], ...["0.0", "0.1", "1.0"].map((version) => ["--format=posix", `--sparse-version=${version}`])]) {
			const bytes = execFileSync("tar", ["-c", "--sparse", ...args, "-C", made.path, "sparse", "zzz"], { maxBuffer: 1 << 26 });
			if (size > 8192) assert.ok(bytes.length < 1_000_000, "it was packed with its holes left out");
			const found = await entriesOf(bytes, [1000, 1, 511], { reads: () => true });
			assert.deepEqual(
				found.map((entry) => [entry.name, entry.size]),
				[
					["sparse", size],
					["zzz", 12],
				],
				args.join(" "),
			);
			assert.ok(found[0].content === content, `content, ${args.join(" ")}`);
			assert.deepEqual(await entriesOf(bytes, [700], { reads: () => false }).then((all) => all.map(({ name }) => name)), ["sparse", "zzz"]);
		}
	}
});

test("tar reader: any bytes give the same entries, or the same sentence, however they are cut into chunks", async () => {
	const entry: fc.Arbitrary<RawEntry> = fc.record(
		{
			name: fc.constantFrom("a", "a/", "b/c", "x".repeat(100)),
			type: fc.constantFrom("0", "1", "2", "3", "5", "7", "L", "K", "x", "g", "S", "V", "\0"),
			data: fc.constantFrom("", "x", "y".repeat(600), "12 path=s/f\n", "16 size=0000001\n", "3\n0\n1\n", "22 GNU.sparse.major=1\n"),
			link: fc.constantFrom("", "a"),
			mtime: fc.constantFrom(0, -1, -5),
			magic: fc.constantFrom("ustar\x0000", "ustar  \0", ""),
			size: fc.constantFrom(0, 1, 512, 0o77777777777),
			pax: fc.dictionary(
				fc.constantFrom("path", "size", "mtime", "uid", "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.map", "GNU.sparse.size"),
				fc.constantFrom("", "1", "0", "-1", "x", "1,1", "99999999999999999999"),
			),
		},
		{ requiredKeys: ["name"] },
	);
	const change = fc.record({ at: fc.nat(), byte: fc.nat(255) });
	let refused = 0;
	let read = 0;
	await fc.assert(
		fc.asyncProperty(
			fc.array(entry, { maxLength: 5 }),
			fc.array(change, { maxLength: 2 }),
			fc.nat(40),
			lengths,
			fc.boolean(),
			async (entries, changes, cutOff, cuts, isChecked) => {
				const whole = Buffer.concat([...entries.map(raw), END]);
				for (const { at, byte } of changes) whole[at % whole.length] = byte;
				const bytes = whole.subarray(0, whole.length - Math.max(0, cutOff - 30) * 256);
				const first = await outcomeOf(bytes, [bytes.length + 1], isChecked);
				assert.deepEqual(await outcomeOf(bytes, cuts, isChecked), first);
				if (typeof first === "string") refused++;
				else read++;
			},
		),
		{ numRuns: 1500, seed: SEED },
	);
	assert.ok(refused > 100 && read > 100, `${refused} refused and ${read} read: both are tried`);
});

test("tar reader: numbers before 1970, old magics, long names of either kind, and values that are empty", async () => {
	const pax = { "SCHILY.xattr.user.empty": "", path: "", mtime: "-0.5" };
	const [gnu, negative, old, solaris, empty, both] = await entriesOf(
		Buffer.concat([
			...[
				{ name: "x", type: "L", data: `${"n".repeat(300)}\0` },
				{ name: "x", type: "K", data: `${"k".repeat(300)}\0` },
				{ name: "gnu", type: "2", magic: "ustar  \0" },
				{ name: "negative", mtime: -1 },
				{ name: "old", magic: "", type: "\0", data: "1", device: [77, 77] as const },
				{ name: "x", type: "X", data: "13 path=other\n".replace("13", "14") },
				{ name: "solaris" },
				{ name: "empty", pax },
				{ name: "x", type: "L", data: "of-gnu\0" },
				{ name: "both", pax: { path: "of-pax" } },
			].map(raw),
			END,
		]),
	);
	assert.deepEqual([gnu.name, gnu.linkName], ["n".repeat(300), "k".repeat(300)]);
	assert.deepEqual(negative.mtime, { sec: -1, nsec: 0 });
	assert.deepEqual([old.type, old.size], ["file", 1]);
	assert.equal(solaris.name, "other");
	assert.deepEqual([empty.name, empty.mtime], ["empty", { sec: -1, nsec: 500_000_000 }]);
	assert.equal(both.name, "of-gnu", "as Go's archive/tar has it");
});
