import { join } from "node:path";
import { fill } from "./trees.mjs";

/**
 * Version 4.1: the same loads by nfs41load on holdfast and on nfs-ganesha, and by nfsload on holdfast's version 3. A call is a COMPOUND with
 * SEQUENCE and PUTFH before what is measured; where calls tell attributes, GETATTR follows.
 */

const servers = ["holdfast-4.1", "ganesha-4.1", "holdfast"];
/** Of holdfast's own version 3. */
const own = 0.6;
const depths = { 1: ["--qd", 1], 16: ["--qd", 16] };

export function version41Cases(settings) {
	return [...reads(settings), ...changes(settings)];
}

function reads({ seconds }) {
	const entry = (op, what, depth, load, more) => ({
		name: `v4.1/${op}/${what}/qd${depth}-c1`,
		stage: "reads",
		servers,
		load: ["--seconds", seconds, ...depths[depth], ...load],
		unit: "calls/s",
		...more,
	});
	const cases = [];
	for (const [op, load] of [
		["getattr", ["--op", "getattr", "--path", "lower"]],
		["lookup", ["--op", "lookup", "--path", "lower"]],
		["read-4k", ["--op", "read", "--block", "4k", "--size", "64m", "--path", "data-lower/large"]],
	]) {
		cases.push(
			entry(op, "lower", 1, load, { target: { ratio: 0.9, own } }),
			entry(op, "lower", 16, load, { target: { ratio: 1.5, cpu: 0.6, own }, quick: op === "getattr" }),
		);
	}
	const megabytes = ["--op", "read", "--block", "1m", "--size", "64m", "--path", "data-lower/large"];
	cases.push(entry("read-1m", "lower", 16, megabytes, { unit: "MB/s", target: { ratio: 1, own } }));
	const listing = ["--op", "readdirplus", "--path", "entries-lower"];
	const warm = ["--op", "walk", "--seconds", 60, "--path", "entries-lower"];
	for (const depth of [1, 16]) {
		cases.push(entry("readdir-10k", "lower", depth, listing, { unit: "entries/s", target: { ratio: 1.2, own }, warm }));
	}
	return cases;
}

/** Each on a fresh file system. */
function changes({ quick }) {
	const entry = (op, depth, { warm, load, ...more }) => ({
		name: `v4.1/${op}/qd${depth}-c1`,
		stage: "fresh",
		servers,
		fill(lower) {
			for (const folder of ["work", "warm"]) fill(join(lower, folder), 10);
		},
		warm: [...depths[depth], ...warm],
		load: [...depths[depth], ...load],
		unit: "calls/s",
		...more,
	});
	const writing = (folder, count) => {
		const what = ["--op", "write", "--block", "1m", "--size", "64m", "--path", `${folder}/written`];
		return [...what, "--seconds", 30, "--count", count];
	};
	const creating = (folder, count) => ["--op", "create", "--keep", "--seconds", 60, "--path", folder, "--count", count];
	return [
		entry("write-1m-commit", 16, { warm: writing("warm", 64), load: writing("work", 512), unit: "MB/s", target: { ratio: 1, own } }),
		entry("create", 1, { warm: creating("warm", quick ? 500 : 2000), load: creating("work", quick ? 1000 : 2000), mostRounds: 3 }),
		entry("create", 16, {
			warm: creating("warm", quick ? 500 : 2000),
			load: creating("work", quick ? 1000 : 5000),
			target: { ratio: 0.8, own },
			quick: true,
		}),
	];
}
