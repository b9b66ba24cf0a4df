import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { nfsload } from "./client.mjs";
import { decodeStage } from "./decode.mjs";
import { dropCaches, makeDisk } from "./disks.mjs";
import { must } from "./host.mjs";
import { mountsStage } from "./mounts.mjs";
import { newFilesStage } from "./new-files.mjs";
import { schemesStage } from "./schemes.mjs";
import { newLayers, start } from "./servers.mjs";
import { onMount } from "./syscalls.mjs";
import { fill, largeFile, million, nested } from "./trees.mjs";
import { inMachine } from "./vm-stage.mjs";

/**
 * What servers stand on while cases run. A stage is opened for all its cases; `measure(entry, kind)` then measures one case on one server,
 * and resolves to what nfsload printed, or what the case's own `measure` makes of it.
 */

export const stages = {
	reads: () => standing("ext4", { megabytes: 4096, inodes: 400_000 }, readsTree, prepareUpper),
	million: () => standing("ext4", { megabytes: 8192, inodes: 2_400_000 }, million),
	fresh: () => ({ measure: onFreshDisk, close: async () => {} }),
	"large-ext4": sharedDisk,
	"large-xfs": sharedDisk,
	"large-btrfs": sharedDisk,
	schemes: schemesStage,
	decode: decodeStage,
	"new-files": newFilesStage,
	mounts: mountsStage,
	vm: inMachine,
};

function readsTree(lower, { quick }) {
	fill(join(lower, "lower"), 1000, 4096);
	fill(join(lower, "upper"), 200, 4096);
	fill(join(lower, "merged"), 500, 4096);
	for (const what of ["lower", "upper"]) largeFile(join(lower, `data-${what}`), "large", quick ? 64 : 256);
	fill(join(lower, "entries-lower"), 10_000);
	mkdirSync(join(lower, "entries-upper"));
	fill(join(lower, "entries-merged"), 5000);
	nested(join(lower, "tree-lower"), 2, 10, quick ? 200 : 1000);
	nested(join(lower, "tree-merged"), 2, 5, quick ? 200 : 1000);
}

/** Copies up and creates, through the server itself. */
async function prepareUpper(server, { quick }) {
	const loads = [
		["--op", "setattr", "--path", "upper"],
		["--op", "overwrite", "--path", "data-upper", "--seconds", 60],
		["--op", "create", "--keep", "--count", 500, "--path", "merged"],
		["--op", "create", "--keep", "--count", 10_000, "--path", "entries-upper"],
		["--op", "create", "--keep", "--count", 5000, "--path", "entries-merged"],
	];
	for (let folder = 0; folder < 25; folder++) {
		const path = `tree-merged/${Math.floor(folder / 5)}/${folder % 5}`;
		loads.push(["--op", "create", "--keep", "--count", quick ? 50 : 250, "--path", path]);
	}
	for (const load of loads) {
		const { failure } = await nfsload(server, ["--seconds", 60, "--qd", 16, ...load]);
		if (failure !== undefined) throw new Error(`${load.join(" ")}: ${failure}`);
	}
}

/** Servers that stay up for all cases, on uppers of their own over one lower. */
function standing(fs, size, makeTree, prepare) {
	let disk;
	/** Why the lower is not complete. */
	let unusable = null;
	let uppers = 0;
	const layers = {};
	const servers = {};
	/** By kind: why its upper could not be prepared, null where it was. */
	const broken = {};
	/** Also where one has ended by itself: the next case is to have a server again. */
	const up = async (kind) => {
		if (!servers[kind]?.isRunning()) servers[kind] = await start[kind](layers[kind]);
	};
	const down = async (kind) => {
		const server = servers[kind];
		delete servers[kind];
		await server?.stop();
	};
	const newUpper = (kind) => {
		layers[kind] = newLayers(disk.path, `${kind}-${++uppers}`, [join(disk.path, "lower")]);
	};
	const layOut = (settings) => {
		disk = makeDisk(fs, size);
		try {
			mkdirSync(join(disk.path, "lower"));
			makeTree(join(disk.path, "lower"), settings);
			must("sync", "-f", disk.path);
		} catch (error) {
			unusable = error;
		}
	};
	const prepared = async (kind, settings) => {
		await up(kind);
		broken[kind] = await prepare(servers[kind], settings).then(
			() => null,
			(error) => error,
		);
	};
	return {
		async measure(entry, kind, settings, isFirst) {
			if (disk === undefined) layOut(settings);
			if (unusable !== null) throw unusable;
			if (layers[kind] === undefined) newUpper(kind);
			if (entry.needsUpper) {
				if (broken[kind] === undefined) await prepared(kind, settings);
				if (broken[kind] !== null) throw broken[kind];
			}
			if (entry.restart) {
				await down(kind);
				if (entry.newUpper) newUpper(kind);
				if (entry.cold) dropCaches();
			}
			await up(kind);
			if (isFirst && !entry.restart) await warmUp(entry, servers[kind]);
			return measured(entry, servers[kind], layers[kind]);
		},
		async close() {
			for (const kind of Object.keys(servers)) await down(kind);
			disk?.remove();
		},
	};
}

/** Once for each server: cases may share what is long. */
async function warmUp({ load, warm = [...load, "--seconds", 0.3] }, server) {
	const key = warm.join(" ");
	if (server.warmedUp.has(key)) return;
	server.warmedUp.add(key);
	await nfsload(server, warm);
}

/** A file system, a lower and a server for each measurement. */
async function onFreshDisk(entry, kind) {
	const disk = makeDisk(entry.fs ?? "ext4", entry.size);
	try {
		const server = await overLowers(entry, kind, disk, "fresh");
		try {
			return await server.measure();
		} finally {
			await server.stop();
		}
	} finally {
		disk.remove();
	}
}

/** A file system and a lower for all measurements, an upper and a server for each. */
function sharedDisk() {
	let disk;
	return {
		async measure(entry, kind) {
			const isNew = disk === undefined;
			disk ??= makeDisk(entry.fs, entry.size);
			const server = await overLowers(entry, kind, disk, kind, isNew);
			try {
				return await server.measure();
			} finally {
				await server.stop();
				for (const folder of Object.values(server.layers).flat()) {
					if (!server.layers.lowers.includes(folder)) rmSync(folder, { recursive: true, force: true });
				}
				must("sync", "-f", disk.path);
			}
		},
		async close() {
			disk?.remove();
		},
	};
}

async function overLowers(entry, kind, disk, name, isNew = true) {
	const lowers = Array.from({ length: entry.lowers ?? 1 }, (_, index) => join(disk.path, `lower-${index}`));
	if (isNew) {
		for (const [index, lower] of lowers.entries()) {
			mkdirSync(lower);
			entry.fill(lower, index);
		}
		must("sync", "-f", disk.path);
	}
	const layers = newLayers(disk.path, name, lowers);
	const server = await start[kind](layers);
	return {
		layers,
		stop: () => server.stop(),
		async measure() {
			if (entry.warm !== undefined) {
				const { failure } = await perform(entry, server, entry.warm, "warm");
				if (failure !== undefined) throw new Error(`while warming up: ${failure}`);
			}
			return measured(entry, server, layers);
		},
	};
}

async function measured(entry, server, layers) {
	const run = () => perform(entry, server, entry.load, "work");
	const measure = entry.measure ?? run;
	const result = await measure({ run, server, layers, load: (options) => nfsload(server, options) });
	if (server.isRunning?.() === false) throw new Error(`the server has ended: ${await server.ended}`);
	return { ...result, memory: server.memory?.() };
}

/** On a server by the client, on a mount by system calls. */
async function perform(entry, server, load, folder) {
	if (server.root === undefined) return nfsload(server, load);
	return onMount[entry.onMount.act](join(server.root, folder), entry.onMount.bytes);
}
