import { mkdirSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { dropCaches, makeDisk } from "./disks.mjs";
import { must, runFolder } from "./host.mjs";
import { schemes } from "./schemes/all.mjs";
import { work } from "./schemes/process.mjs";
import { events, makeTree } from "./schemes/script.mjs";

/**
 * The schemes of handles that were proposed in 2017 for overlayfs, as prototypes, beside holdfast as a library: see
 * docs/decisions/022-the-schemes-of-2017.md. One measurement of a scheme is a series of processes over an upper of its own; all cases
 * are made of it.
 */

export const schemeNames = Object.fromEntries(Object.entries(schemes).map(([name, { title }]) => [name, title]));

export function schemeCases() {
	const of = (take) => (measurement) => ({ number: take(measurement) });
	const number = (name, unit, take) => ({ name: `schemes/${name}`, unit, of: of(take) });
	const both = (name, take) => [
		number(name, "us", (found) => take(found).us),
		number(`${name}-cpu`, "CPU us", (found) => take(found).cpu_us),
	];
	const [first, ...also] = [
		number("start/inodes", "inodes", ({ start }) => start.inodes),
		number("start/bytes", "bytes", ({ start }) => start.bytes),
		number("walk/inodes", "inodes", ({ walked }) => walked.inodes),
		number("walk/bytes", "bytes", ({ walked }) => walked.bytes),
		...both("encode-first", ({ walk }) => walk.encode),
		...both("encode-again", ({ walk }) => walk.encodeAgain),
		...both("decode-warm", ({ walk }) => walk.warm),
		...both("decode-restarted", ({ restarted }) => restarted.cold),
		...both("decode-cold", ({ dropped }) => dropped.cold),
		number("decode-cold/lost", "of 1000", ({ dropped: { cold } }) => (1000 * (cold.of - cold.held)) / cold.of),
		...events.map(({ name }) => ({ name: `schemes/survives/${name}`, unit: "handles", of: (measurement) => survival(measurement, name) })),
	];
	return [{ ...first, stage: "schemes", servers: Object.keys(schemes), mostRounds: 3, isWhole: true, also }];
}

/** What came of the handles at once, after a restart, and after another one with nothing in memory. */
function survival({ happened, again, cold }, event) {
	const outcomes = [happened, again, cold].map(({ outcomes }) => countsOf(outcomes[event]));
	const text = new Set(outcomes).size === 1 ? outcomes[0] : outcomes.join(" / ");
	return { text: cold.changed[event] > 0 && text !== "apart" ? `${text}, another now` : text };
}

function countsOf(outcomes) {
	const kinds = [...new Set(outcomes)];
	if (kinds.length === 1) return kinds[0];
	return kinds.map((kind) => `${outcomes.filter((each) => each === kind).length} ${kind}`).join(" + ");
}

export function schemesStage() {
	let disk;
	let rounds = 0;
	return {
		async measure(_entry, scheme, { quick }) {
			if (disk === undefined) {
				disk = makeDisk("ext4", { megabytes: 6144, inodes: 1_500_000 });
				makeTree(makeFolder(disk.path, "lower"), quick ? 0.1 : 1);
				must("sync", "-f", disk.path);
			}
			return measured(scheme, disk.path, `${scheme}-${++rounds}`);
		},
		async close() {
			disk?.remove();
		},
	};
}

async function measured(scheme, disk, name) {
	const notes = makeFolder(runFolder(), `notes-${name}`);
	for (const layer of ["upper", "work"]) makeFolder(disk, `${name}-${layer}`);
	const phase = (which) => work("worker", scheme, which, disk, name, notes);
	const before = usedOf(disk);
	await phase("open");
	const opened = usedOf(disk);
	// the layers are in the kernel's memory for everybody
	must("find", join(disk, "lower"), "-size", "+1000k");
	const walk = await phase("walk");
	const walked = usedOf(disk);
	const restarted = await phase("cold");
	dropCaches();
	const dropped = await phase("cold");
	const happened = await phase("events");
	const again = await phase("check");
	dropCaches();
	const cold = await phase("check");
	return { start: difference(opened, before), walked: difference(walked, opened), walk, restarted, dropped, happened, again, cold };
}

function makeFolder(...path) {
	mkdirSync(join(...path), { recursive: true });
	return join(...path);
}

/** What the file system says is in use, when nothing is left to be written. */
function usedOf(disk) {
	must("sync", "-f", disk);
	const { files, ffree, blocks, bfree, bsize } = statfsSync(disk);
	return { inodes: files - ffree, bytes: (blocks - bfree) * bsize };
}

function difference(later, earlier) {
	return { inodes: later.inodes - earlier.inodes, bytes: later.bytes - earlier.bytes };
}
