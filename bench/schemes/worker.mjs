// One process of a scheme: node bench/schemes/worker.mjs SCHEME PHASE DISK NAME NOTES. The layers are DISK/lower, DISK/NAME-upper and
// DISK/NAME-work; what one process leaves for the next is in NOTES. Prints what it has measured as JSON.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { schemes } from "./all.mjs";
import { cost } from "./process.mjs";
import { events, SUBJECTS, subjectOf } from "./script.mjs";

/** Handles that are decoded, of files all over the tree. */
const SAMPLE = 2000;

const [kind, phase, disk, name, folder] = process.argv.slice(2);
const layers = { lower: join(disk, "lower"), upper: join(disk, `${name}-upper`), work: join(disk, `${name}-work`) };
const notes = (what) => join(folder, `${what}.json`);
const keep = (what, value) => writeFileSync(notes(what), JSON.stringify(value));
const kept = (what) => JSON.parse(readFileSync(notes(what), "utf8"));

const opened = cost();
const { open, namesAreApart = false } = schemes[kind];
const scheme = await open(layers);
const phases = { open: async () => ({}), walk, cold, events: happen, check };
console.log(JSON.stringify({ opened: opened(1), ...(await phases[phase]()) }));
await scheme.close?.();

/** All names of the tree are looked up, with their handles; then some of them again, and decoded. */
async function walk() {
	const found = [];
	const entries = [];
	let spent = 0;
	let cpu = 0;
	const visit = async (directory, path) => {
		const names = [...(await scheme.list(directory))].sort();
		const timed = cost();
		const children = names.map((each) => scheme.child(directory, each));
		for (const child of children) found.push(scheme.handleOf(child));
		const { us, cpu_us } = timed(1);
		spent += us;
		cpu += cpu_us;
		for (const [i, child] of children.entries()) {
			if (isDirectory(child)) await visit(scheme.decode(scheme.handleOf(child)), `${path}/${names[i]}`);
			else entries.push([path, names[i], scheme.handleOf(child)]);
		}
	};
	await visit(scheme.resolve("/tree"), "/tree");
	const count = found.length;
	const step = Math.max(1, Math.floor(entries.length / SAMPLE));
	// of names that lead to a file of their own, and not one after the other
	const sample = shuffled(entries.filter(([, each], i) => i % step === 0 && !each.startsWith("link")));
	keep("sample", sample);
	const again = sample.slice(0, 500).map(([path, each]) => [scheme.resolve(path), each]);
	scheme.forgetObjects?.();
	const directories = again.map(([, each], i) => [scheme.resolve(sample[i][0]), each]);
	const asked = cost();
	for (const [directory, each] of directories) scheme.handleOf(scheme.child(directory, each));
	const encodeAgain = asked(directories.length);
	return {
		names: count,
		distinct: new Set(found).size,
		encode: { us: spent / count, cpu_us: cpu / count },
		encodeAgain,
		warm: decodeTwice(sample),
		inMemory: scheme.forgetObjects === undefined ? undefined : decodeAll(sample),
	};
}

function decodeTwice(sample) {
	decodeAll(sample);
	scheme.forgetObjects?.();
	return decodeAll(sample);
}

function decodeAll(sample) {
	const failures = {};
	let held = 0;
	const timed = cost();
	for (const [, , handle] of sample) {
		try {
			scheme.decode(handle);
			held++;
		} catch (error) {
			failures[error.message.slice(0, 60)] = (failures[error.message.slice(0, 60)] ?? 0) + 1;
		}
	}
	return { ...timed(sample.length), held, of: sample.length, why: Object.keys(failures)[0] };
}

async function cold() {
	return { cold: decodeAll(kept("sample")) };
}

/** Takes handles, lets everything happen, and decodes them. */
async function happen() {
	const handles = {};
	for (const event of events) {
		for (let i = 0; i < SUBJECTS; i++) await event.before?.(scheme, event.places, i);
		handles[event.name] = Array.from({ length: SUBJECTS }, (_, i) => scheme.handleOf(scheme.resolve(subjectOf(event, i).path)));
	}
	const timed = cost();
	for (const event of events) {
		await event.once?.(scheme, event.places);
		for (let i = 0; i < SUBJECTS; i++) await event.each?.(scheme, event.places, i);
	}
	keep("handles", handles);
	return { script: timed(1), ...(await check()) };
}

/** What each handle leads to: decoded first, before anything is looked up. */
async function check() {
	const handles = kept("handles");
	const outcomes = {};
	const changed = {};
	for (const event of events)
		outcomes[event.name] = handles[event.name].map((handle, i) => {
			const outcome = outcomeOf(handle, subjectOf(event, i));
			return outcome !== "held" && event.of === "linked" && namesAreApart ? "apart" : outcome;
		});
	for (const event of events) {
		changed[event.name] = handles[event.name].filter((handle, i) => {
			const { now } = subjectOf(event, i);
			return now !== null && scheme.handleOf(scheme.resolve(now)) !== handle;
		}).length;
	}
	return { outcomes, changed };
}

function outcomeOf(handle, { now, text }) {
	let found;
	try {
		found = scheme.read(scheme.decode(handle));
	} catch (error) {
		if (!/stale|no such|gone|ESTALE/i.test(`${error.message} ${error.code}`)) throw error;
		return now === null ? "stale" : "lost";
	}
	return now !== null && found === text ? "held" : "WRONG";
}

function isDirectory(child) {
	return scheme.isDirectory?.(child) ?? child.isDirectory;
}

/** In an order that is the same each time. */
function shuffled(list) {
	let state = 1;
	const random = () => {
		state = (state * 48271) % 0x7fffffff;
		return state / 0x7fffffff;
	};
	return list
		.map((value) => [random(), value])
		.sort(([one], [other]) => one - other)
		.map(([, value]) => value);
}
