// One process that holds nothing in memory: node bench/schemes/decode-worker.mjs KIND PHASE DISK WORK ARGUMENTS. Prints JSON.
//
//   encode PATH...    the handles of paths
//   decode HANDLE     what decoding it costs, code and other directories being warm
//   warm FOLDER       what decoding those of all files of a folder costs: from paths that are known, and of objects in memory

import { join } from "node:path";
import { Holdfast } from "./holdfast.mjs";
import { cost } from "./process.mjs";

const INDEX_MS = 2000;

const [kind, phase, disk, name, ...given] = process.argv.slice(2);
const layers = { lower: join(disk, "lower"), upper: join(disk, `${name}-upper`), work: join(disk, `${name}-work`) };
const more = { handles: kind === "portable-handles" ? "portable" : "kernel", nodesMax: 2_000_000 };
const holdfast = new Holdfast(layers, more);

const phases = {
	encode: () => given.map((path) => holdfast.handleOf(holdfast.resolve(path))),
	async decode() {
		(await handlesOf("/warm")).forEach(decodes);
		holdfast.forgetObjects();
		const handle = Buffer.from(given[0], "hex");
		const timed = cost();
		const found = decodes(handle);
		return { ...timed(1), found };
	},
	async warm() {
		const handles = await handlesOf(given[0]);
		// what is measured is not the compiler of JavaScript
		for (let pass = 0; pass < 5; pass++) {
			holdfast.forgetObjects();
			handles.forEach(decodes);
		}
		// a server that has run for a moment knows its index
		await new Promise((resolve) => setTimeout(resolve, INDEX_MS));
		const passes = [];
		for (let pass = 0; pass < 5; pass++) {
			holdfast.forgetObjects();
			const timed = cost();
			handles.forEach(decodes);
			passes.push(timed(handles.length));
		}
		const timed = cost();
		for (let pass = 0; pass < 20; pass++) handles.forEach(decodes);
		return { known: passes.sort((one, other) => one.cpu_us - other.cpu_us)[2], memory: timed(20 * handles.length) };
	},
};
console.log(JSON.stringify(await phases[phase]()));
await holdfast.close();

/** As a server has them: bytes. */
async function handlesOf(path) {
	const folder = holdfast.resolve(path);
	return (await holdfast.list(folder)).map((each) => Buffer.from(holdfast.child(folder, each).handle));
}

function decodes(handle) {
	try {
		holdfast.overlay.decode(handle);
		return true;
	} catch (error) {
		if (error.code !== "stale") throw error;
		return false;
	}
}
