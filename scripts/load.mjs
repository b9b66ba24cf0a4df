// Measures what clients wait for under load, and what the server holds: see "Load" in docs/development.md.
//
//   npm run load -- hold-ups [--fs ext4|xfs|btrfs|tmpfs|root] [--extents N] [--whiteouts N] [--entries N] [--waiting N]
//   npm run load -- mixed-work [--fs ...] [--connections N] [--seconds S] [--seed N]
//   npm run load -- kills|full-disks [--fs ...|all] [--handles kernel|portable|all] [--connections N] [--seconds S] [--seed N] [--nfs 3|4] [--async]
//   npm run load -- fuse-kills [--seconds S] [--seed N]
//   npm run load -- faults [--fs ...] [--handles kernel|portable|all] [--only WORD] [--seconds S | --stride N] [--seed N]
//
// hold-ups: how long a cached GETATTR waits at worst beside cuts and removals of large files, directories full of whiteouts, waiting changes, and pages
// of a huge directory. mixed-work: latencies of all procedures, with memory and descriptors before, during and after. kills: SIGKILL under load
// again and again, and every acknowledged change looked for after each start; full-disks: the same on a small disk that is full most of the time.
// fuse-kills: the server of a FUSE mount is killed under git, gcc, sqlite and find, which see no error. faults: calls of the server fail at random places. All print a table in Markdown, and exit 1 where something has failed.

import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { loadavg } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const text = { type: "string" };
const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: {
		fs: text,
		extents: { ...text, default: "60000" },
		whiteouts: { ...text, default: "40000" },
		entries: { ...text, default: "1000000" },
		waiting: { ...text, default: "64000" },
		handles: { ...text, default: "all" },
		connections: text,
		only: { ...text, default: "" },
		seconds: text,
		stride: text,
		nfs: { ...text, default: "3" },
		async: { type: "boolean", default: false },
		seed: { ...text, default: String(randomInt(2 ** 31)) },
	},
});
const number = (name, fallback) => {
	const value = Number(values[name] ?? fallback);
	if (!Number.isInteger(value) || value < 0) fail(`--${name} takes a whole number`);
	return value;
};
const [what] = positionals;
const isKilled = what === "kills" || what === "full-disks";
const fileSystems = ["ext4", "xfs", "btrfs", "tmpfs"];
values.fs ??= isKilled ? "all" : "ext4";
if (![...fileSystems, isKilled ? "all" : "root"].includes(values.fs))
	fail(`--fs takes ext4, xfs, btrfs, tmpfs or ${isKilled ? "all" : "root"}`);
if (!["kernel", "portable", "all"].includes(values.handles)) fail("--handles takes kernel, portable or all");
if (!["3", "4"].includes(values.nfs)) fail("--nfs takes 3 or 4");
if (spawnSync(join(root, "scripts/build.sh"), { stdio: "inherit" }).status !== 0) process.exit(1);

const campaigns = { "hold-ups": holdUps, "mixed-work": mixedWork, kills, "full-disks": kills, "fuse-kills": fuseKills, faults };
if (!Object.hasOwn(campaigns, what ?? "")) fail(`name one of ${Object.keys(campaigns).join(", ")}`);
await campaigns[what]().catch((error) => fail(error.stack));

async function holdUps() {
	const { measureHoldUps } = await import(join(root, "dist/test/load/hold-ups.js"));
	console.log(`on ${values.fs}, load of the machine ${loadavg()[0].toFixed(1)}; milliseconds\n`);
	row("beside", "it takes", "GETATTRs", "median", "99th percentile", "longest", "the server ran", "and waited for a processor");
	row("---", ...Array(7).fill("--:"));
	const options = {
		fileSystem: values.fs,
		extents: number("extents"),
		whiteouts: number("whiteouts"),
		entries: number("entries"),
		waiting: number("waiting"),
	};
	await measureHoldUps(options, ({ name, took, waits }) => {
		row(
			name,
			took.toFixed(0),
			waits.count,
			...[waits.p50, waits.p99, waits.longest, waits.longestRan, waits.longestWaitedToRun].map((ms) => ms.toFixed(1)),
		);
		if (waits.longest > 50) console.error(`${name}: the server was seen in ${JSON.stringify(waits.seenIn)}`);
	});
}

async function mixedWork() {
	const { measureMixedWork } = await import(join(root, "dist/test/load/mixed-work.js"));
	const options = { fileSystem: values.fs, connections: number("connections", 200), seconds: number("seconds", 300), seed: number("seed") };
	console.log(
		`${options.connections} connections, ${options.seconds} s, on ${values.fs}, seed ${options.seed}, load of the machine before ${loadavg()[0].toFixed(1)}\n`,
	);
	const { latencies, failures, before, during, after } = await measureMixedWork(options);
	row("milliseconds", "calls", "median", "99th percentile", "longest");
	row("---", "--:", "--:", "--:", "--:");
	for (const [name, { count, p50, p99, longest }] of Object.entries(latencies)) {
		row(name, count.toLocaleString("en"), ...[p50, p99, longest].map((ms) => ms.toFixed(1)));
	}
	console.log();
	row("the server holds", "before", "during (most)", "after");
	row("---", "--:", "--:", "--:");
	row("MiB resident", ...[before, during, after].map(({ mebibytes }) => mebibytes.toFixed(0)));
	row("descriptors", ...[before, during, after].map(({ descriptors }) => descriptors));
	row("seconds of CPU", ...[before, during, after].map(({ cpuSeconds }) => cpuSeconds.toFixed(1)));
	for (const failure of new Set(failures)) console.error(failure);
	if (failures.length > 0) fail(`${failures.length} requests have failed`);
}

async function kills() {
	const { runKills } = await import(join(root, "dist/test/load/kills.js"));
	const isFull = what === "full-disks";
	const places = (values.fs === "all" ? fileSystems : [values.fs]).flatMap((fileSystem) =>
		(values.handles === "all" ? ["kernel", "portable"] : [values.handles]).map((handles) => ({ fileSystem, handles })),
	);
	const connections = number("connections", 32);
	const seconds = Math.ceil(number("seconds", 600) / places.length);
	console.log(
		`${connections} connections, ${seconds} s each, seed ${values.seed}, load of the machine before ${loadavg()[0].toFixed(1)}\n`,
	);
	const columns = [
		"kills",
		"before ready",
		"starts when full",
		"requests",
		"acknowledged",
		"sent again",
		"checks",
		"refused",
		"answers not kept",
		"freed",
	];
	row("disk", ...columns, "failures");
	row("---", ...Array(columns.length + 1).fill("--:"));
	const failures = [];
	const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);
	const totals = [];
	for (const [at, { fileSystem, handles }] of places.entries()) {
		const found = await runKills({
			fileSystem,
			handles,
			seconds,
			seed: number("seed") + at,
			connections,
			isFull,
			version: values.nfs,
			isSync: !values.async,
		});
		const figures = [
			...[found.kills, found.killsOfStarts, sum(found.startsWhenFull), found.requests, found.acknowledged, found.resent, found.checks],
			...[sum(found.refused), sum(found.unkept), found.freed, found.failures.length],
		];
		row(`${fileSystem}, ${handles} handles`, ...figures.map((figure) => figure.toLocaleString("en")));
		if (isFull)
			console.error(
				`${fileSystem}, ${handles}: started with ${JSON.stringify(found.startsWhenFull)}, refused ${JSON.stringify(found.refused)}, postponed ${found.postponed}, not kept ${JSON.stringify(found.unkept)}`,
			);
		for (const failure of found.failures) console.error(failure);
		failures.push(...found.failures);
		for (const [at, figure] of figures.entries()) totals[at] = (totals[at] ?? 0) + figure;
	}
	if (places.length > 1) row("all", ...totals.map((figure) => figure.toLocaleString("en")));
	if (failures.length > 0) fail(`${failures.length} failures`);
}

async function fuseKills() {
	const { killUnderPrograms } = await import(join(root, "dist/test/load/fuse-kills.js"));
	const { Scratch } = await import(join(root, "dist/test/support/scratch.js"));
	const end = Date.now() + number("seconds", 300) * 1000;
	console.log(`seed ${values.seed}, load of the machine before ${loadavg()[0].toFixed(1)}`);
	const made = new Scratch();
	try {
		const { kills, rounds, longestMs } = await killUnderPrograms(made, number("seed"), () => Date.now() < end);
		console.log(`${kills} kills, no error, rounds of each program ${JSON.stringify(rounds)}, longest wait ${longestMs} ms`);
	} finally {
		await made.close();
	}
}

async function faults() {
	const { tryFaults } = await import(join(root, "dist/test/load/faults.js"));
	const stride = values.stride === undefined ? null : Math.max(1, number("stride"));
	const [seconds, seed] = [number("seconds", 300), number("seed")];
	const failures = [];
	for (const handles of values.handles === "all" ? ["kernel", "portable"] : [values.handles]) {
		const extent = stride === null ? `${seconds} s of faults` : `all places with EIO, one of ${stride} with other errors`;
		console.log(`${extent} on ${values.fs}, ${handles} handles, seed ${seed}`);
		const options = { fileSystem: values.fs, handles, seconds, stride, seed, only: values.only };
		const { places, refused } = await tryFaults(options, (what) => {
			failures.push(what);
			console.error(what);
		});
		console.log(`${places} places, at ${refused} of them the request was refused, ${failures.length} failures`);
	}
	if (failures.length > 0) fail("something has failed");
}

function row(...cells) {
	console.log(`| ${cells.join(" | ")} |`);
}

function fail(reason) {
	console.error(`load: ${reason}`);
	process.exit(1);
}
