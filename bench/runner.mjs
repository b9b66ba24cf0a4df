import { spawnSync } from "node:child_process";
import { cpus, loadavg, release } from "node:os";
import { units } from "./cases.mjs";
import { prepareNamespaces, repository } from "./host.mjs";
import { stages } from "./stages.mjs";
import { summary } from "./statistics.mjs";

/** After these no measurement of a quick run begins, but for cases that were asked for and are of use only as a whole. */
const QUICK_MS = 105_000;

/**
 * Runs cases: stage by stage, and each case round robin over its servers. Resolves to all that a report needs: the conditions, and for
 * each case and server the summaries of its rounds, or why there are none.
 */
export async function runCases(cases, settings) {
	// The first process of a namespace is not ended by signals that it does not ask for.
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(130));
	prepareNamespaces();
	const begun = Date.now();
	let done = 0;
	const run = { ...conditions(settings), cases: [] };
	for (const name of new Set(cases.map(({ stage }) => stage))) {
		const stage = stages[name]();
		for (const entry of cases.filter((each) => each.stage === name)) {
			const results = await runCase(
				stage,
				entry,
				settings,
				begun + (settings.quick && !entry.isWhole ? QUICK_MS : Number.POSITIVE_INFINITY),
			);
			run.cases.push(...results);
			const seconds = ((Date.now() - begun) / 1000).toFixed(0);
			console.error(`bench: ${seconds} s, ${++done} of ${cases.length}: ${entry.name}: ${progress(results[0])}`);
		}
		await stage.close();
	}
	return { ...run, minutes: (Date.now() - begun) / 60_000, loadAfter: loadavg()[0] };
}

/** Resolves to a result for the case, and one for each that is made of the same measurements. */
async function runCase(stage, entry, settings, end) {
	const measurements = Object.fromEntries(entry.servers.map((kind) => [kind, []]));
	const failures = {};
	const rounds = Math.min(settings.rounds, entry.mostRounds ?? Number.POSITIVE_INFINITY);
	for (let round = 0; round < rounds; round++) {
		// Whoever is first finds other caches than who comes next.
		const turn = entry.servers.map((_, index) => entry.servers[(index + round) % entry.servers.length]);
		for (const kind of turn) {
			if (Date.now() > end) {
				if (round === 0) failures[kind] ??= "not run: time was over";
				continue;
			}
			try {
				const result = await stage.measure(entry, kind, settings, round === 0);
				if (result.failure !== undefined) throw new Error(result.failure);
				measurements[kind].push(result);
			} catch (error) {
				failures[kind] ??= error.message;
			}
		}
	}
	return [entry, ...(entry.also ?? [])].map(({ name, unit, target, curve, point, of = (measurement) => measurement }) => ({
		name,
		unit,
		target: target ?? null,
		curve,
		point,
		servers: Object.fromEntries(
			entry.servers.map((kind) => [
				kind,
				{
					...(units[unit]?.isText ? textsOf(unit, measurements[kind], of) : {}),
					...(curve === undefined ? summaries(unit, measurements[kind], of) : { cells: cellsOf(measurements[kind]) }),
					failure: failures[kind] ?? null,
				},
			]),
		),
	}));
}

function summaries(unit, measurements, of) {
	return {
		value: units[unit].isText ? null : summary(measurements.map((each) => units[unit].of(of(each)))),
		cpu: summary(measurements.map((each) => each.server_cpu_us_per_op)),
		memory: {
			resident: summary(measurements.map(({ memory }) => memory?.resident)),
			peak: summary(measurements.map(({ memory }) => memory?.peak)),
		},
		latency: {
			p50: summary(measurements.map((each) => each.p50_us)),
			p99: summary(measurements.map((each) => each.p99_us)),
		},
	};
}

/** Rounds that differ are told each. */
function textsOf(unit, measurements, of) {
	return { text: [...new Set(measurements.map((each) => units[unit].of(of(each))))].join(" or ") };
}

function cellsOf(measurements) {
	const operations = Object.keys(measurements[0]?.cells ?? {});
	const of = (operation, what) => summary(measurements.map(({ cells }) => cells[operation][what]));
	return Object.fromEntries(operations.map((operation) => [operation, { time: of(operation, "time"), cpu: of(operation, "cpu") }]));
}

function progress({ servers }) {
	return Object.entries(servers)
		.map(([kind, { value, failure }]) => `${kind} ${failure ?? value?.median.toPrecision(4) ?? "done"}`)
		.join(", ");
}

function conditions({ quick, only, rounds, seconds }) {
	const output = (command, ...args) => spawnSync(command, args, { encoding: "utf8", cwd: repository }).stdout?.trim() ?? "";
	const version = (name) => output("dpkg-query", "-W", "-f", "$" + "{Version}", name);
	return {
		date: new Date().toISOString().slice(0, 10),
		commit: output("git", "describe", "--always", "--dirty"),
		kernel: release(),
		processors: `${cpus().length} x ${cpus()[0].model}`,
		node: process.versions.node,
		peers: { "nfs-ganesha": version("nfs-ganesha"), "fuse-overlayfs": version("fuse-overlayfs") },
		quick,
		only,
		rounds,
		seconds,
		loadBefore: loadavg()[0],
	};
}
