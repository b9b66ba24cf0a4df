import { readdirSync } from "node:fs";
import { join } from "node:path";
import { decodeCases } from "./decode.mjs";
import { growthCases } from "./growth.mjs";
import { mountCases } from "./mounts.mjs";
import { newFileCases } from "./new-files.mjs";
import { schemeCases } from "./schemes.mjs";
import { bytesWrittenBy } from "./servers.mjs";
import { fill, largeFile, spaceOfFiles } from "./trees.mjs";
import { version41Cases } from "./version-41.mjs";
import { vmCases } from "./vm-cases.mjs";

/**
 * The table of cases. Names are kept, so that runs can be compared: OPERATION/WHAT/qdDEPTH-cCONNECTIONS, where "lower" is untouched,
 * "upper" was copied up, "merged" is a folder half of which is in a lower and half in the upper.
 *
 * A case has a `stage`, which is what its servers stand on (runner.mjs); `servers` that are compared; and either a `load` of nfsload,
 * of which `unit` says what counts, or a `measure` of its own. `also` are further cases that are made of the same measurements. `of` takes
 * what counts out of a measurement that is not as nfsload prints it. A `target` is against nfs-ganesha: `ratio` is the least ratio of the
 * medians where more is better, the most where less is; `cpu` the most of server CPU for each call; `most` the most of the median itself;
 * `own` is as `ratio`, against holdfast's version 3, `mount` against fuse-overlayfs.
 */

/** What counts, taken from what nfsload printed; "less" where less is better. */
export const units = {
	"calls/s": { of: (result) => result.ops_per_s, better: "more" },
	"entries/s": { of: (result) => result.entries_per_s, better: "more" },
	"MB/s": { of: (result) => result.mb_per_s, better: "more" },
	s: { of: (result) => result.seconds, better: "less" },
	ms: { of: (result) => (result.seconds * 1000) / result.ops, better: "less" },
	MiB: { of: (result) => result.bytes / 2 ** 20, better: "less" },
	us: { of: ({ number }) => number, better: "less" },
	"CPU us": { of: ({ number }) => number, better: "less" },
	writes: { of: ({ number }) => number, better: "less" },
	KiB: { of: ({ number }) => number, better: "less" },
	inodes: { of: ({ number }) => number, better: "less" },
	bytes: { of: ({ number }) => number, better: "less" },
	answers: { of: ({ number }) => number, better: "less" },
	"of 1000": { of: ({ number }) => number, better: "less" },
	/** What came of them, in words. */
	handles: { of: ({ text }) => text, isText: true },
	"KiB/call": { of: (result) => result.bytes / 1024 / result.ops, better: "less" },
};

const both = ["holdfast", "ganesha"];
const all = ["holdfast", "ganesha", "kernel", "fuse-overlayfs"];
const oneByOne = { qd: 1, conns: 1 };
const sixteen = { qd: 16, conns: 1 };
const manyConnections = { qd: 16, conns: 8 };

export function allCases(settings) {
	return [
		...reads(settings),
		...version41Cases(settings),
		...changes(settings),
		...existing(settings),
		...large(),
		...processes(),
		...millions(),
		...growthCases(settings),
		...schemeCases(),
		...decodeCases(settings),
		...newFileCases(),
		...mountCases(settings),
		...vmCases(),
	];
}

/** Calls that change nothing, on servers that stay up. */
function reads({ seconds }) {
	const stage = "reads";
	const entry = (op, what, how, load, more) => ({
		name: `${op}${what === "" ? "" : `/${what}`}/${nameOf(how)}`,
		stage,
		servers: both,
		load: ["--seconds", seconds, ...depthOf(how), ...load],
		unit: "calls/s",
		needsUpper: what === "upper" || what === "merged",
		...more,
	});
	const atSixteen = { target: { ratio: 1.5, cpu: 0.6 } };
	const atOne = { target: { ratio: 1.1 } };
	const cases = [
		entry("null", "", oneByOne, ["--op", "null"], { ...atOne, quick: true }),
		entry("null", "", sixteen, ["--op", "null"], { ...atSixteen, quick: true }),
		entry("null", "", manyConnections, ["--op", "null"], atSixteen),
	];
	for (const op of ["getattr", "lookup", "access", "read-4k"]) {
		const load = (what) =>
			op === "read-4k" ? ["--op", "read", "--block", "4k", "--size", "64m", "--path", `data-${what}/large`] : ["--op", op, "--path", what];
		cases.push(
			entry(op, "lower", oneByOne, load("lower"), { ...atOne, quick: true }),
			entry(op, "lower", sixteen, load("lower"), { ...atSixteen, quick: true }),
			entry(op, "lower", manyConnections, load("lower"), atSixteen),
			entry(op, "upper", oneByOne, load("upper"), atOne),
			entry(op, "upper", sixteen, load("upper"), atSixteen),
		);
		// A file is in one layer; a folder may be in several.
		if (op !== "read-4k") cases.push(entry(op, "merged", sixteen, load("merged"), atSixteen));
	}
	for (const [op, block] of [
		["read-128k", "128k"],
		["read-1m", "1m"],
	]) {
		const load = (what) => ["--op", "read", "--block", block, "--size", "256m", "--path", `data-${what}/large`];
		const more = { unit: "MB/s", target: { ratio: 1.2 } };
		cases.push(
			entry(op, "lower", oneByOne, load("lower"), more),
			entry(op, "lower", sixteen, load("lower"), { ...more, quick: true }),
			entry(op, "lower", manyConnections, load("lower"), more),
			entry(op, "upper", sixteen, load("upper"), more),
		);
	}
	const cold = { restart: true, cold: true, mostRounds: 3 };
	cases.push(
		entry("read-1m-cold", "lower", { qd: 4, conns: 1 }, ["--op", "read", "--block", "1m", "--count", 256, "--path", "data-lower/large"], {
			...cold,
			unit: "MB/s",
		}),
	);
	const listing = { unit: "entries/s", target: { ratio: 1.2 } };
	for (const what of ["lower", "upper", "merged"]) {
		const load = ["--op", "readdirplus", "--path", `entries-${what}`];
		const warm = ["--op", "walk", "--seconds", 60, "--path", `entries-${what}`];
		cases.push(
			entry("readdirplus-10k", what, oneByOne, load, { ...listing, warm, quick: what === "lower" }),
			entry("readdirplus-10k", what, sixteen, load, { ...listing, warm }),
		);
	}
	const walk = { unit: "entries/s", target: { ratio: 1.5 } };
	for (const what of ["lower", "merged"]) {
		const load = ["--op", "walk", "--seconds", 60, "--path", `tree-${what}`];
		cases.push(
			entry("walk-warm", what, oneByOne, load, { ...walk, warm: load }),
			entry("walk-warm", what, sixteen, load, { ...walk, warm: load, quick: what === "lower" }),
			entry("walk-cold", what, { qd: 16, conns: 1 }, load, { ...walk, ...cold }),
		);
	}
	return cases;
}

/** Changes of what a client has made itself, each on a fresh file system. */
function changes({ quick }) {
	const entry = (op, how, load, more) => ({
		name: `${op}/${nameOf(how)}`,
		stage: "fresh",
		servers: both,
		fill(lower) {
			for (const folder of ["work", "warm"]) fill(join(lower, folder), 10);
		},
		warm: [...load, "--count", quick ? 500 : 2000, "--path", op.startsWith("write") ? "warm/written" : "warm"],
		load: [...load, "--path", op.startsWith("write") ? "work/written" : "work"],
		unit: "calls/s",
		...more,
	});
	const cases = [];
	for (const how of [oneByOne, sixteen]) {
		const writing = (block, count) => [
			"--op",
			"write",
			"--block",
			block,
			"--size",
			"64m",
			"--seconds",
			30,
			"--count",
			count,
			...depthOf(how),
		];
		const quickly = { quick: how === sixteen };
		cases.push(
			entry("write-4k-commit", how, writing("4k", 16_384), { ...quickly, unit: "MB/s" }),
			entry("write-1m-commit", how, writing("1m", 512), {
				...quickly,
				unit: "MB/s",
				target: { ratio: 1.0 },
				warm: [...writing("1m", 64), "--path", "warm/written"],
			}),
		);
	}
	for (const op of ["create", "mkdir", "remove", "rename"]) {
		for (const how of op === "create" ? [oneByOne, sixteen, manyConnections] : [oneByOne, sixteen]) {
			// As many calls on every server, for a folder that grows makes them dearer.
			const count = quick ? 1000 : how === oneByOne ? 2000 : 5000;
			const load = ["--op", op, "--seconds", 60, "--keep", ...depthOf(how)];
			const more = how === oneByOne ? { mostRounds: 3 } : { quick: how === sixteen, target: { ratio: 1.5 } };
			const made = entry(op, how, load, more);
			cases.push({ ...made, load: [...made.load, "--count", count] });
		}
	}
	return cases;
}

/** The first change of untouched lower files, which peers copy up for it. */
function existing({ quick }) {
	const count = quick ? 200 : 500;
	const sized = (bytes) => (lower) => {
		fill(join(lower, "work"), count, bytes);
		fill(join(lower, "warm"), 100, bytes);
	};
	const copyUp = (fs) => ({
		name: `copy-up-1k/${fs}/${nameOf(oneByOne)}`,
		stage: "fresh",
		fs,
		servers: all,
		fill: sized(1024),
		warm: ["--op", "overwrite", "--block", "1", "--path", "warm"],
		load: ["--op", "overwrite", "--block", "1", "--seconds", 60, "--path", "work"],
		onMount: { act: "overwrite", bytes: 1 },
		unit: "calls/s",
		quick: fs === "ext4",
		mostRounds: 3,
	});
	return [
		copyUp("ext4"),
		copyUp("xfs"),
		copyUp("btrfs"),
		{
			name: `remove-16k/lower/${nameOf(oneByOne)}`,
			stage: "fresh",
			servers: all,
			fill: sized(16_384),
			warm: ["--op", "remove", "--existing", "--path", "warm"],
			load: ["--op", "remove", "--existing", "--seconds", 60, "--path", "work", ...depthOf(oneByOne)],
			onMount: { act: "remove" },
			mostRounds: 3,
			unit: "calls/s",
			target: { ratio: 50 },
			quick: true,
			async measure({ run, server, layers }) {
				const before = bytesWrittenBy(server.pid);
				const result = await run();
				// What is left in upper and index: a copy that was deleted shows only in what was written.
				return { ...result, copied: spaceOfFiles(layers.upper, ...indices(layers)), written: bytesWrittenBy(server.pid) - before };
			},
			also: [
				{ name: "remove-16k/lower/copied", unit: "MiB", target: { most: 0 }, of: ({ copied }) => ({ bytes: copied }) },
				{ name: "remove-16k/lower/written", unit: "KiB/call", of: ({ written, ops }) => ({ bytes: written, ops }) },
			],
		},
	];
}

/** A work folder holds that of the peer, or holdfast's. */
function indices({ work }) {
	return readdirSync(work).flatMap((kind) =>
		readdirSync(join(work, kind))
			.filter((name) => name === "index")
			.map((name) => join(work, kind, name)),
	);
}

/** One lower file of 1 GiB, on a file system that all rounds share. */
function large() {
	const entry = (op, fs, more) => ({
		name: `${op}-1g/${fs}`,
		stage: `large-${fs}`,
		fs,
		size: { megabytes: 4608 },
		servers: all,
		fill(lower) {
			largeFile(join(lower, "work"), "large", 1024);
			fill(join(lower, "warm"), 50, 1024);
		},
		unit: "ms",
		mostRounds: 3,
		...more,
	});
	const copyUp = (fs, more) =>
		entry("copy-up", fs, {
			warm: ["--op", "overwrite", "--block", "1", "--path", "warm"],
			load: ["--op", "overwrite", "--block", "1", "--seconds", 60, "--path", "work"],
			onMount: { act: "overwrite", bytes: 1 },
			...more,
		});
	const unlink = (fs, more) =>
		entry("unlink", fs, {
			warm: ["--op", "remove", "--existing", "--path", "warm"],
			load: ["--op", "remove", "--existing", "--seconds", 60, "--path", "work"],
			onMount: { act: "remove" },
			...more,
		});
	return [
		copyUp("ext4", { target: { ratio: 1 / 50 } }),
		unlink("ext4", { target: { ratio: 1 / 500 } }),
		copyUp("xfs"),
		unlink("xfs"),
		copyUp("btrfs"),
	];
}

/** What a server takes before anybody has come. */
function processes() {
	const entry = { stage: "fresh", servers: both, fill: (lower) => fill(join(lower, "work"), 10), quick: true };
	return [
		{ ...entry, name: "start/empty-upper", unit: "ms", measure: async ({ server }) => ({ seconds: server.startMs / 1000, ops: 1 }) },
		{ ...entry, name: "memory/start", unit: "MiB", measure: async () => ({}), of: ({ memory }) => ({ bytes: memory.resident }) },
	];
}

/** On lowers of a million files. */
function millions() {
	const entry = { stage: "million", servers: both, mostRounds: 3 };
	return [
		...[oneByOne, sixteen].map((how) => ({
			...entry,
			name: `readdirplus-1m/lower/${nameOf(how)}`,
			// Once through all of it.
			warm: ["--op", "walk", "--seconds", 100, "--path", "wide"],
			load: ["--op", "readdirplus", "--seconds", 3, ...depthOf(how), "--path", "wide"],
			unit: "entries/s",
		})),
		{
			...entry,
			name: `walk-1m/lower/${nameOf(sixteen)}`,
			restart: true,
			mostRounds: 2,
			load: ["--op", "walk", ...depthOf(sixteen), "--seconds", 100, "--path", "deep"],
			unit: "entries/s",
			also: [
				{ name: "memory/walk-1m/resident", unit: "MiB", target: { ratio: 0.7 }, of: ({ memory }) => ({ bytes: memory.resident }) },
				{ name: "memory/walk-1m/peak", unit: "MiB", of: ({ memory }) => ({ bytes: memory.peak }) },
			],
		},
	];
}

function nameOf({ qd, conns }) {
	return `qd${qd}-c${conns}`;
}

function depthOf({ qd, conns }) {
	return ["--qd", qd, "--conns", conns];
}
