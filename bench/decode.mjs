import { linkSync, mkdirSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { nfsload } from "./client.mjs";
import { dropCaches, makeDisk } from "./disks.mjs";
import { must, repository } from "./host.mjs";
import { connect, JUKEBOX } from "./rpc.mjs";
import { work } from "./schemes/process.mjs";
import { start } from "./servers.mjs";
import { fill } from "./trees.mjs";

/** What it costs to find an object by its handle, with handles of the kernel and portable ones: docs/handles.md, "What decoding costs". */

export const decodeNames = { "kernel-handles": "kernel", "portable-handles": "portable" };

const servers = Object.keys(decodeNames);
const SIZES = { 10: 10, "10k": 10_000, "1m": 1_000_000 };
const DEPTHS = [5, 50];
/** Links of one inode, of which ext4 has at most 65,000. */
const LINKS_MAX = 60_000;
/** Of the tree that takes a walk over all directories. */
const WORST_DEPTH = 100;
const WORST_DIRECTORIES = 100_000;

export function decodeCases({ quick }) {
	const sizes = quick ? ["10", "10k"] : Object.keys(SIZES);
	const entry = (name, unit, take, more) => ({ name: `decode/${name}`, unit, of: (found) => ({ number: take(found) }), ...more });
	const costs = (name, more, take = (found) => found) => {
		const cpu = entry(`${name}-cpu`, "CPU us", (found) => take(found).cpu_us);
		return {
			...entry(name, "us", (found) => take(found).us),
			stage: "decode",
			servers,
			mostRounds: 3,
			isWhole: true,
			also: [cpu],
			...more,
		};
	};
	const cold = sizes.flatMap((size) =>
		DEPTHS.flatMap((depth) => [
			costs(`cold/depth-${depth}/dir-${size}`, { path: pathOf(depth, size), needsWide: size === "1m" ? depth : undefined, how: "decode" }),
			costs(`disk/depth-${depth}/dir-${size}`, {
				path: pathOf(depth, size),
				needsWide: size === "1m" ? depth : undefined,
				how: "decode",
				drops: true,
			}),
		]),
	);
	const warm = DEPTHS.map((depth) => {
		const memory = costs(`memory/depth-${depth}`, {}, (found) => found.memory);
		const known = costs(`warm/depth-${depth}`, { path: folderOf(depth, "10k"), how: "warm" }, (found) => found.known);
		return { ...known, also: [...known.also, { name: memory.name, unit: memory.unit, of: memory.of }, ...memory.also] };
	});
	const portableOnly = { servers: ["portable-handles"] };
	return [
		...warm,
		...["lookup", "readdirplus", "walk", "getattr"].map((op) => ({
			...entry(`serve/${op}`, "CPU us", (found) => found.server_cpu_us_per_op),
			stage: "decode",
			servers,
			isWhole: true,
			how: "serve",
			load: ["--op", op, "--path", folderOf(5, "10k").slice(1), "--qd", "16", "--seconds", op === "walk" ? "60" : "1"],
		})),
		...cold,
		costs("worst/found", { path: "worst", how: "worst" }),
		costs("worst/absent", { path: "absent", how: "worst", ...portableOnly }),
		{
			...entry("meanwhile/p99-alone", "us", ({ alone }) => alone.p99),
			...portableOnly,
			stage: "decode",
			how: "meanwhile",
			isWhole: true,
			mostRounds: 3,
			also: [
				entry("meanwhile/p99", "us", ({ meanwhile }) => meanwhile.p99),
				entry("meanwhile/longest-alone", "us", ({ alone }) => alone.longest),
				entry("meanwhile/longest", "us", ({ meanwhile }) => meanwhile.longest),
				entry("meanwhile/search", "ms", ({ seconds }) => seconds, {}),
				entry("meanwhile/jukebox", "answers", ({ jukebox }) => jukebox),
			].map((each) => (each.unit === "ms" ? { ...each, of: ({ seconds }) => ({ seconds, ops: 1 }) } : each)),
		},
	];
}

/** The folder of a size so many names down that a file in it is at this depth. */
function folderOf(depth, size) {
	return `/depth-${depth}${"/level".repeat(depth - 3)}/${size}`;
}

function pathOf(depth, size) {
	return `${folderOf(depth, size)}/${nameOf(Math.floor(SIZES[size] / 2))}`;
}

const nameOf = (number) => `file-${String(number).padStart(7, "0")}`;

export function decodeStage() {
	let disk;
	/** The depth at which the folder of a million names is now. */
	let wide;
	let worst;
	const handles = new Map();
	const layersOf = (kind) => ({
		lowers: [join(disk.path, "lower")],
		upper: join(disk.path, `${kind}-upper`),
		work: join(disk.path, `${kind}-work`),
	});
	const handleOf = async (kind, path) => {
		const key = `${kind} ${path}`;
		if (!handles.has(key)) handles.set(key, (await work("decode-worker", kind, "encode", disk.path, kind, path))[0]);
		return handles.get(key);
	};
	const prepare = () => {
		disk = makeDisk("ext4", { megabytes: 6144, inodes: 500_000 });
		const lower = join(disk.path, "lower");
		fill(join(lower, "warm"), 500);
		mkdirSync(join(lower, "worst"));
		for (const depth of DEPTHS) {
			for (const size of ["10", "10k"]) fill(join(lower, folderOf(depth, size)), SIZES[size]);
			for (let level = 1; level < depth - 2; level++) {
				const above = join(lower, `depth-${depth}${"/level".repeat(level - 1)}`);
				for (let i = 0; i < 9; i++) mkdirSync(join(above, `beside-${i}`));
			}
		}
		for (const kind of servers) for (const layer of ["upper", "work"]) mkdirSync(join(disk.path, `${kind}-${layer}`));
		must("sync", "-f", disk.path);
	};
	/** The folder of a million names is made once, and moved. */
	const placeWide = (depth) => {
		const place = join(disk.path, "lower", folderOf(depth, "1m"));
		if (wide === undefined) fillWithLinks(place, SIZES["1m"]);
		else if (wide !== place) renameSync(wide, place);
		wide = place;
		must("sync", "-f", disk.path);
	};
	const prepareWorst = async () => {
		worst = await makeWorst(join(disk.path, "lower"));
		for (const kind of servers) for (const path of Object.values(worst)) await handleOf(kind, path);
		unlinkSync(join(disk.path, "lower", worst.absent));
		must("sync", "-f", disk.path);
	};
	const measures = {
		async decode({ path, needsWide, drops }, kind) {
			if (needsWide !== undefined) placeWide(needsWide);
			const handle = await handleOf(kind, path);
			if (drops) dropCaches();
			else must("find", join(disk.path, "lower", `depth-${path.split("/")[1].slice(6)}`), "-name", "nothing");
			return foundOnly(await work("decode-worker", kind, "decode", disk.path, kind, handle));
		},
		warm: ({ path }, kind) => work("decode-worker", kind, "warm", disk.path, kind, path),
		async worst({ path }, kind) {
			if (worst === undefined) await prepareWorst();
			must("find", join(disk.path, "lower/worst"), "-name", "nothing");
			const result = await work("decode-worker", kind, "decode", disk.path, kind, await handleOf(kind, worst[path]));
			return path === "absent" ? result : foundOnly(result);
		},
		async serve({ load }, kind) {
			const server = await start[kind](layersOf(kind));
			try {
				const { failure } = await nfsload(server, load);
				if (failure !== undefined) throw new Error(failure);
				return await nfsload(server, load);
			} finally {
				await server.stop();
			}
		},
		async meanwhile(_entry, kind) {
			if (worst === undefined) await prepareWorst();
			const [own, sought] = [await handleOf(kind, pathOf(5, "10")), await handleOf(kind, worst.worst)].map((hex) =>
				Buffer.from(hex, "hex"),
			);
			// what takes long is what is not in memory
			dropCaches();
			const server = await start[kind](layersOf(kind));
			try {
				return await besides(server.port, own, sought);
			} finally {
				await server.stop();
			}
		},
	};
	return {
		async measure(entry, kind) {
			if (disk === undefined) prepare();
			return measures[entry.how](entry, kind);
		},
		async close() {
			disk?.remove();
		},
	};
}

function foundOnly(result) {
	if (!result.found) throw new Error("the object was not found");
	return result;
}

function fillWithLinks(folder, count) {
	mkdirSync(folder, { recursive: true });
	let first;
	for (let number = 0; number < count; number++) {
		const path = `${folder}/${nameOf(number)}`;
		if (number % LINKS_MAX !== 0) {
			linkSync(first, path);
			continue;
		}
		first = path;
		writeFileSync(path, "");
	}
}

/**
 * A path so deep that a handle has one bit for each of its names, and beside each directory of it others whose bits are the same: whoever
 * looks for it looks into all of them. Resolves to the path, and another one below the same directory.
 */
async function makeWorst(lower) {
	const { idBelow, LOWER_ROOT, mayBe } = await import(join(repository, "dist/src/layer/portable-id.js"));
	const { Stat } = await import(join(repository, "dist/src/linux/stat.js"));
	const stat = new Stat();
	const names = ["worst", ...Array.from({ length: WORST_DEPTH - 2 }, () => "level"), "object"];
	let id = LOWER_ROOT;
	for (const name of names) id = idBelow(id, Buffer.from(name), stat);
	const beside = [];
	for (let i = 0; beside.length < WORST_DIRECTORIES / (WORST_DEPTH - 2); i++) {
		if (mayBe(id.bytes, 1, Buffer.from(`beside-${i}`))) beside.push(`beside-${i}`);
	}
	let folder = join(lower, "worst");
	for (let level = 0; level < WORST_DEPTH - 2; level++) {
		for (const name of beside) mkdirSync(`${folder}/${name}`);
		folder = `${folder}/level`;
		mkdirSync(folder);
	}
	for (const name of ["object", "absent"]) writeFileSync(`${folder}/${name}`, "");
	const below = folder.slice(lower.length);
	return { worst: `${below}/object`, absent: `${below}/absent` };
}

/** Attributes of one object are asked for all the time: first alone, then while another client waits for one that is searched for. */
async function besides(port, own, sought) {
	const one = await connect(port);
	const other = await connect(port);
	const waits = async (isOver) => {
		const times = [];
		while (!isOver()) {
			const begun = performance.now();
			if ((await one.getattr(own)) !== 0) throw new Error("the attributes are not to be had");
			times.push((performance.now() - begun) * 1000);
		}
		times.sort((a, b) => a - b);
		return { p99: times[Math.floor(times.length * 0.99)], longest: times.at(-1) };
	};
	await waits(after(1000));
	const alone = await waits(after(2000));
	let jukebox = 0;
	let status;
	const begun = performance.now();
	const search = (async () => {
		do {
			if (status === JUKEBOX) await new Promise((resolve) => setTimeout(resolve, 100));
			status = await other.getattr(sought);
			if (status === JUKEBOX) jukebox++;
		} while (status === JUKEBOX);
	})();
	const meanwhile = await waits(() => status !== undefined && status !== JUKEBOX);
	await search;
	const seconds = (performance.now() - begun) / 1000;
	one.close();
	other.close();
	if (status !== 0) throw new Error(`the object was not found: status ${status}`);
	return { alone, meanwhile, seconds, jukebox };
}

function after(ms) {
	const end = performance.now() + ms;
	return () => performance.now() > end;
}
