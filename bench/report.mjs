import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { units } from "./cases.mjs";
import { decodeNames } from "./decode.mjs";
import { curves, operations } from "./growth.mjs";
import { repository } from "./host.mjs";
import { mountNames } from "./mounts.mjs";
import { firstNames, newFileNames } from "./new-files.mjs";
import { schemeNames } from "./schemes.mjs";
import { ratioOf, verdictOf } from "./targets.mjs";

/** A run as text for a terminal, as JSON, and as docs/benchmarks.md. */

const mounts = { kernel: "kernel overlayfs", "fuse-overlayfs": "fuse-overlayfs" };

/** More of them would hide the table. */
const WORDS_MAX = 12;

export function printReport(run, asJson) {
	const text = [...conditionsOf(run), ...tablesOf(run).flatMap((table) => ["", table.title, "", ...aligned(table)])].join("\n");
	if (asJson) console.log(JSON.stringify(run, null, "\t"));
	(asJson ? console.error : console.log)(text);
}

export function writeReport(run) {
	const text = ["# Benchmarks", "", ...introduction, "", ...conditionsOf(run).map((line) => `- ${line}`)];
	for (const table of tablesOf(run)) text.push("", `## ${table.title}`, "", ...(table.notes ?? []), ...markdown(table));
	const path = join(repository, "docs/benchmarks.md");
	// what other commands have measured stays
	const others = readFileSync(path, "utf8").split(OTHERS)[1];
	writeFileSync(path, `${text.join("\n")}\n${others === undefined ? "" : OTHERS + others}`);
	console.error("bench: docs/benchmarks.md written");
}

/** Where the part begins that `npm run load` has measured. */
const OTHERS = "\n## Under load\n";

const introduction = [
	"Made by `npm run bench -- --write`; [development.md](development.md#benchmarks) tells what is measured and how. Holdfast is compared with",
	"nfs-ganesha over the kernel's overlayfs (`index=on,nfs_export=on,redirect_dir=on`), on the same kind of file system, by the same client in",
	"the same run. What counts is the ratio: absolute figures depend on the machine and on who else uses it.",
];

function conditionsOf(run) {
	const scope = [run.quick ? "a quick run, too short to judge by" : null, run.only.length > 0 ? onlyThese(run.only) : null];
	const peers = Object.entries(run.peers).map(([name, version]) => `${name} ${version}`);
	return [
		`${run.date}, commit ${run.commit}${scope.map((part) => (part === null ? "" : `; ${part}`)).join("")}`,
		`Linux ${run.kernel}, ${run.processors}, Node.js ${run.node}, ${peers.join(", ")}`,
		`${run.rounds} ${run.rounds === 1 ? "round" : "rounds"}, ${run.seconds} s for each measurement with a time, ${run.minutes.toFixed(1)} minutes in all`,
		`load of the machine ${run.loadBefore.toFixed(1)} before and ${run.loadAfter.toFixed(1)} after`,
	];
}

function tablesOf(run) {
	const tables = [
		{
			title: "Against nfs-ganesha",
			notes: [
				"Medians, with the least and the most of the rounds in brackets. CPU is microseconds of the server's CPU time for each call, MiB the",
				"memory that is resident in the server when the case has run. A target is the ratio that is aimed at.",
				"",
			],
			head: ["case", "unit", "holdfast", "nfs-ganesha", "ratio", "CPU", "ganesha's", "ratio", "MiB", "ganesha's", "target", "met"],
			rows: run.cases.filter(({ servers }) => servers.ganesha && !servers.knfsd).map(againstGanesha),
		},
		{
			title: "Version 4.1",
			notes: [
				"Asked by version 4.1, beside nfs-ganesha's and holdfast's own version 3. `create` is OPEN and CLOSE in one COMPOUND, and CREATE in version 3.",
				"",
			],
			head: ["case", "unit", "holdfast", "nfs-ganesha", "ratio", "CPU", "ganesha's", "ratio", "holdfast's v3", "ratio", "target", "met"],
			rows: run.cases.filter(({ servers }) => servers["holdfast-4.1"]).map(ofVersion41),
		},
		{
			title: "Against mounts",
			notes: ["Holdfast through its client, and system calls on the mounts of others: those have no network between.", ""],
			head: ["case", "unit", "holdfast", ...Object.values(mounts).flatMap((name) => [name, "ratio"])],
			rows: run.cases.filter(({ servers }) => servers.kernel && servers.holdfast).map(againstMounts),
		},
		{
			title: "Mounts on this machine",
			notes: [
				"`holdfast mount` beside other overlays, by system calls of one program, one after the other; CPU is of the server for each call. Copies",
				"up of holdfast and of the kernel's overlayfs are on disk before they have a name, those of fuse-overlayfs are not.",
				"",
			],
			head: [
				"case",
				"unit",
				...Object.values(mountNames),
				"ratio to the kernel",
				"to fuse-overlayfs",
				"CPU",
				"fuse-overlayfs'",
				"ratio",
				"target",
				"met",
			],
			rows: run.cases.filter(({ servers }) => servers["holdfast-mount"]).map(ofMounts),
		},
		{
			title: "Real work by the Linux client",
			notes: [
				"Seconds that programs take in a virtual machine (User Mode Linux, one processor) on a mount of NFSv3. Its network is slow, and starting",
				"programs is: the differences of servers are smaller here than in calls. knfsd is the kernel's server, with `async`, over the kernel's",
				"overlayfs in that machine itself: it has no network between, but shares the processor with its client.",
				"",
			],
			head: ["case", "unit", "holdfast", "nfs-ganesha", "ratio", "knfsd", "ratio"],
			rows: run.cases.filter(({ servers }) => servers.knfsd).map(ofRealWork),
		},
		{
			title: "The schemes of 2017",
			notes: ["What is compared, and the words: [decision 22](decisions/022-the-schemes-of-2017.md).", ""],
			head: ["case", "unit", ...Object.values(schemeNames)],
			rows: run.cases.filter(({ name }) => name.startsWith("schemes/")).map((result) => beside(result, schemeNames)),
		},
		{
			title: "What decoding costs",
			notes: ["Handles of one provider beside those of the other; [handles.md](handles.md) tells what they are.", ""],
			head: ["case", "unit", ...Object.values(decodeNames), "ratio"],
			rows: run.cases
				.filter(({ name }) => name.startsWith("decode/"))
				.map((result) => [
					...beside(result, decodeNames),
					factor(ratioOf(result.servers["portable-handles"].value, result.servers["kernel-handles"]?.value)),
				]),
		},
		{
			title: "What a new file costs the disk",
			notes: [
				"Small files, one after the other, on ext4: made, written and flushed by a program, and by CREATE and a stable WRITE. For each file;",
				"[decision 25](decisions/025-intents-within-inodes.md).",
				"",
			],
			head: ["case", "unit", ...Object.values(newFileNames), "ratio"],
			rows: run.cases.filter(({ name }) => name.startsWith("new-file/")).map((result) => besideWithRatio(result, newFileNames)),
		},
		{
			title: "The first calls of a server",
			notes: ["CPU of the server for each call, in memory; [decision 29](decisions/029-warm-up.md).", ""],
			head: ["case", "unit", ...Object.values(firstNames), "ratio"],
			rows: run.cases.filter(({ name }) => name.startsWith("first/")).map((result) => besideWithRatio(result, firstNames)),
		},
		...Object.entries(curves).map(([curve, { title }]) => ({
			title: `Growth: ${title.charAt(0).toLowerCase()}${title.slice(1)}`,
			notes: ["Microseconds for each call, 16 calls at a time; in brackets of the server's CPU. Holdfast only.", ""],
			head: ["", ...Object.values(operations)],
			rows: run.cases.filter((each) => each.curve === curve).map(growthRow),
		})),
	];
	return tables.filter(({ rows }) => rows.length > 0);
}

function besideWithRatio(result, names) {
	const [one, other] = Object.keys(names).map((name) => result.servers[name].value);
	return [...beside(result, names), factor(ratioOf(one, other))];
}

function againstGanesha(result) {
	const { holdfast, ganesha } = result.servers;
	return withTarget(result, holdfast, ganesha, [memoryCell(holdfast), memoryCell(ganesha)]);
}

function ofVersion41(result) {
	const { "holdfast-4.1": holdfast, "ganesha-4.1": ganesha, holdfast: version3 } = result.servers;
	return withTarget(result, holdfast, ganesha, [valueCell(version3), factor(ratioOf(holdfast.value, version3.value))]);
}

/** Both servers with their CPU, what the table has besides, and what is aimed at. */
function withTarget(result, holdfast, ganesha, more) {
	return [
		result.name,
		result.unit,
		valueCell(holdfast),
		valueCell(ganesha),
		factor(ratioOf(holdfast.value, ganesha.value)),
		cpuCell(holdfast),
		cpuCell(ganesha),
		factor(ratioOf(holdfast.cpu, ganesha.cpu)),
		...more,
		targetCell(result),
		verdictOf(result),
	];
}

function againstMounts({ name, unit, servers }) {
	const compared = Object.keys(mounts).flatMap((kind) => [
		valueCell(servers[kind]),
		factor(ratioOf(servers.holdfast.value, servers[kind].value)),
	]);
	return [name, unit, valueCell(servers.holdfast), ...compared];
}

function ofMounts(result) {
	const { "holdfast-mount": holdfast, kernel, "fuse-overlayfs": fuse } = result.servers;
	return [
		...beside(result, mountNames),
		factor(ratioOf(holdfast.value, kernel.value)),
		factor(ratioOf(holdfast.value, fuse.value)),
		cpuCell(holdfast),
		cpuCell(fuse),
		factor(ratioOf(holdfast.cpu, fuse.cpu)),
		targetCell(result),
		verdictOf(result),
	];
}

function beside({ name, unit, servers }, kinds) {
	return [
		name,
		unit,
		...Object.keys(kinds).map((kind) => servers[kind]?.text || (servers[kind] === undefined ? "" : valueCell(servers[kind]))),
	];
}

function ofRealWork({ name, unit, servers: { holdfast, ganesha, knfsd } }) {
	const compared = [ganesha, knfsd].flatMap((peer) => [valueCell(peer), factor(ratioOf(holdfast.value, peer.value))]);
	return [name, unit, valueCell(holdfast), ...compared];
}

function growthRow({ point, servers }) {
	const { cells, failure } = servers.holdfast;
	const cell = ({ time, cpu }) => `${figure(time.median)} (${figure(cpu.median)})`;
	return [
		point.toLocaleString("en"),
		...Object.keys(operations).map((operation) => (cells[operation] ? cell(cells[operation]) : (failure ?? ""))),
	];
}

function valueCell({ value, failure }) {
	const reason = failure?.replaceAll(/[\n|]+/g, " ");
	const failed = failure === null ? "" : reason.startsWith("not run") ? reason : `failed: ${reason}`;
	if (value === null) return failed;
	const spread = value.rounds > 1 ? ` (${figure(value.min)}-${figure(value.max)})` : "";
	return `${figure(value.median)}${spread}${failed && `; a round ${failed}`}`;
}

function cpuCell({ cpu }) {
	return cpu === null ? "" : figure(cpu.median);
}

function memoryCell({ memory }) {
	const { resident } = memory;
	return resident === null ? "" : figure(resident.median / 2 ** 20);
}

function targetCell({ target, unit }) {
	if (target === null) return "";
	if (target.most !== undefined) return `${target.most} ${unit}`;
	const bound = units[unit].better === "more" ? "at least" : "at most";
	const against = (ratio) => (ratio < 0.1 ? `1/${Math.round(1 / ratio)}` : ratio);
	const parts = [
		target.ratio === undefined ? null : `${bound} ${against(target.ratio)}`,
		target.cpu === undefined ? null : `CPU at most ${target.cpu}`,
		target.own === undefined ? null : `${bound} ${target.own} of v3`,
		target.mount === undefined ? null : `${bound} ${target.mount}`,
	];
	return parts.filter((part) => part !== null).join(", ");
}

function factor(ratio) {
	return ratio === null ? "" : ratio.toFixed(ratio < 0.1 ? 4 : 2);
}

/** Three digits, and no more of them than that for what is small. */
function figure(number) {
	if (number === 0) return "0";
	if (number >= 100) return Math.round(Number(number.toPrecision(3))).toLocaleString("en");
	return number >= 0.1 ? String(Number(number.toPrecision(3))) : number.toFixed(3);
}

function aligned({ head, rows }) {
	const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => Math.min(row[column].length, 60))));
	return [head, ...rows].map((row) =>
		row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join("  "),
	);
}

function markdown({ head, rows }) {
	const line = (cells) => `| ${cells.join(" | ")} |`;
	return [line(head), `|${head.map((_, column) => (column === 0 ? "---|" : "--:|")).join("")}`, ...rows.map(line)];
}

/** Those asked for, or how many that was. */
function onlyThese(words) {
	return words.length > WORDS_MAX ? `only the cases that ${words.length} words name` : `only ${words.join(", ")}`;
}
