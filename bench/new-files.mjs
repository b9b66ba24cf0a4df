import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { nfsload } from "./client.mjs";
import { makeDisk } from "./disks.mjs";
import { must, runFolder } from "./host.mjs";
import { newLayers, start } from "./servers.mjs";
import { fill } from "./trees.mjs";

/** What a small new file costs the disk, and what the first calls of a server cost: docs/decisions/025 and 029. */

export const newFileNames = { holdfast: "holdfast", disk: "the disk itself" };
export const firstNames = { first: "first 1,000", warm: "warm" };

const FILES = 1500;
const FILE_BYTES = 1000;
/** Of each procedure, before a server counts as warm. */
const WARM_CALLS = 8000;
/** They are made to files of their own, so that it is the code that is warm and not what is measured: a thousand in each of these. */
const WARM_FOLDERS = Array.from({ length: WARM_CALLS / 1000 }, (_, i) => `warm-${i}`);
/** In the folder that is measured: its listing comes just before the calls. */
const NAMES = 10_000;
/** A server warms itself up when nobody calls: bounded by time, on a busy machine too. */
const IDLE_MS = 15_000;

export function newFileCases() {
	const entry = (name, unit, take) => ({ name: `new-file/${name}`, unit, of: (found) => ({ number: take(found) }) });
	const also = [entry("writes", "writes", (found) => found.writes), entry("kib", "KiB", (found) => found.kib)];
	const first = Object.keys(calls).map((op) => ({
		name: `first/${op}`,
		unit: "CPU us",
		of: (found) => ({ number: found.server_cpu_us_per_op }),
		stage: "new-files",
		servers: Object.keys(firstNames),
		measure: (kind) => onMemory(op, kind),
	}));
	return [
		{
			...entry("time", "us", (found) => found.us),
			stage: "new-files",
			servers: Object.keys(newFileNames),
			isWhole: true,
			also,
			measure: (kind) => onDisk(kind === "disk" ? ofTheDisk : ofTheServer),
		},
		...first,
	];
}

export function newFilesStage() {
	return { measure: (entry, kind) => entry.measure(kind), close: async () => {} };
}

/** One file after the other is made, written and flushed: time, writes and KiB of the disk for each. */
async function onDisk(make) {
	const disk = makeDisk("ext4");
	try {
		const device = basename(must("findmnt", "-no", "SOURCE", disk.path).trim());
		// Documentation/block/stat.rst: writes, and sectors written
		const written = () => {
			const fields = readFileSync(join("/sys/block", device, "stat"), "utf8")
				.trim()
				.split(/\s+/)
				.map(Number);
			return { writes: fields[4], kib: fields[6] / 2 };
		};
		return await make(disk.path, async (work) => {
			must("sync", "-f", disk.path);
			const before = written();
			const seconds = await work();
			const after = written();
			return {
				us: (seconds * 1e6) / FILES,
				writes: (after.writes - before.writes) / FILES,
				kib: (after.kib - before.kib) / FILES,
			};
		});
	} finally {
		disk.remove();
	}
}

async function ofTheDisk(path, counted) {
	const folder = join(path, "work");
	mkdirSync(folder);
	const content = Buffer.alloc(FILE_BYTES);
	return counted(async () => {
		const begun = performance.now();
		for (let number = 0; number < FILES; number++) {
			const file = openSync(join(folder, `new-file-${number}`), "w");
			writeSync(file, content);
			fsyncSync(file);
			closeSync(file);
		}
		return (performance.now() - begun) / 1000;
	});
}

async function ofTheServer(path, counted) {
	for (const folder of ["lower/warm", "lower/work"]) mkdirSync(join(path, folder), { recursive: true });
	const server = await start.holdfast(newLayers(path, "holdfast", [join(path, "lower")]));
	const load = async (calls, ...options) => {
		const result = await nfsload(server, ["--op", "new-file", "--block", FILE_BYTES, "--count", calls, "--seconds", 100, ...options]);
		if (result.failure !== undefined) throw new Error(result.failure);
		return result.seconds;
	};
	try {
		await load(WARM_CALLS, "--path", "warm");
		await load(FILES / 2, "--stable", "--path", "work");
		return await counted(() => load(2 * FILES, "--stable", "--path", "work"));
	} finally {
		await server.stop();
	}
}

/** Of nfsload, each for 1,000 calls. */
const calls = {
	create: ["--op", "create", "--keep"],
	lookup: ["--op", "lookup"],
	write: ["--op", "overwrite", "--block", FILE_BYTES],
	setattr: ["--op", "setattr"],
	remove: ["--op", "remove", "--existing"],
};

/** CPU of the server for each call, in memory: of its first 1,000 after some idle time, or of 1,000 later ones. */
async function onMemory(op, kind) {
	const path = join(runFolder(), "memory");
	mkdirSync(path, { recursive: true });
	must("mount", "-t", "tmpfs", "holdfast-bench", path);
	try {
		mkdirSync(join(path, "lower/made"), { recursive: true });
		const layers = newLayers(path, "holdfast", [join(path, "lower")]);
		fill(join(layers.upper, "names"), NAMES);
		for (const folder of WARM_FOLDERS) fill(join(layers.upper, folder), 1000);
		const server = await start.holdfast(layers);
		try {
			await delay(IDLE_MS);
			const thousand = async (folder) => {
				const result = await nfsload(server, ["--seconds", 60, "--qd", 16, "--count", 1000, ...calls[op], "--path", folder]);
				if (result.failure !== undefined) throw new Error(result.failure);
				return result;
			};
			if (kind === "warm") for (const folder of WARM_FOLDERS) await thousand(folder);
			return await thousand(op === "create" ? "made" : "names");
		} finally {
			await server.stop();
		}
	} finally {
		must("umount", path);
		rmSync(path, { recursive: true });
	}
}
