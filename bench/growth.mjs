import { join } from "node:path";
import { below, chain, fill } from "./trees.mjs";

/**
 * How the cost of a call grows: one case for each point of a curve, holdfast only. A point is measured on a server of its own, and has a
 * cell for each operation: microseconds of time and of the server's CPU for each call, 16 at a time.
 */

export const curves = {
	"tree-size": { title: "Files walked before", points: [1000, 10_000, 100_000, 1_000_000] },
	handles: { title: "Handles given out, all used in turn", points: [1000, 10_000, 100_000, 1_000_000] },
	depth: { title: "Path depth", points: [1, 10, 50, 200, 1000, 2000] },
	layers: { title: "Number of lowers, the folder being in each of them", points: [1, 10, 100, 500] },
};
export const operations = { getattr: "GETATTR", lookup: "LOOKUP", read: "READ 4k", create: "CREATE" };

const FILES = 1000;
const CREATED = 2000;
/** Points from here on are measured once: a round of theirs may take a minute. */
const LARGE = 1_000_000;

/** What the servers of a curve stand on, and the folders that are used there. */
const places = {
	"tree-size": (files) => ({
		stage: "million",
		walk: { 1000: "deep/0/0/0", 10000: "deep/0/0", 100000: "deep/0", 1000000: "deep" }[files],
		used: "deep/0/0/0",
		created: "new",
	}),
	handles: (handles) => ({ stage: "million", used: "wide", objects: handles, created: "new" }),
	depth: (depth) => ({
		stage: "fresh",
		fill(lower) {
			below(lower, depth, (bottom) => {
				fill(join(bottom, "used"), FILES, 4096);
				fill(join(bottom, "new"), 1);
			});
		},
		used: `${chain(depth)}/used`,
		created: `${chain(depth)}/new`,
	}),
	layers: (layers) => ({
		stage: "fresh",
		lowers: layers,
		fill(lower, index) {
			fill(join(lower, "used"), FILES / layers, 4096, index * (FILES / layers));
			fill(join(lower, "new"), 1);
		},
		used: "used",
		created: "new",
	}),
};

export function growthCases(settings) {
	return Object.entries(curves).flatMap(([curve, { points }]) =>
		points.map((point) => {
			const place = places[curve](point);
			return {
				name: `growth/${curve}/${point}`,
				curve,
				point,
				servers: ["holdfast"],
				mostRounds: point >= LARGE ? 1 : 2,
				restart: true,
				newUpper: true,
				...place,
				measure: ({ load }) => measure(load, place, settings),
			};
		}),
	);
}

async function measure(load, { walk, used, objects, created }, { quick, seconds }) {
	const cells = {};
	if (walk !== undefined) await succeed(load, ["--op", "walk", "--qd", 16, "--seconds", 100, "--path", walk]);
	const chosen = objects === undefined ? [] : ["--objects", objects];
	const loads = {
		getattr: ["--op", "getattr", "--path", used, ...chosen],
		lookup: ["--op", "lookup", "--path", used, ...chosen],
		read: ["--op", "read", "--block", "4k", "--path", used, ...chosen],
		create: ["--op", "create", "--keep", "--count", quick ? 1000 : CREATED, "--path", created],
	};
	for (const [operation, options] of Object.entries(loads)) {
		const timed = operation === "create" ? 60 : seconds;
		const warm = operation === "create" ? [] : ["--warm", 0.3];
		const result = await succeed(load, [...options, ...warm, "--qd", 16, "--seconds", timed]);
		cells[operation] = { time: 1e6 / result.ops_per_s, cpu: result.server_cpu_us_per_op };
	}
	return { cells };
}

async function succeed(load, options) {
	const result = await load(options);
	if (result.failure !== undefined) throw new Error(result.failure);
	return result;
}
