// The one test command: installs what the tests need, builds, checks style and imports, and runs test files.
// Uses nothing but Node's own modules, since it may be the first thing that runs in a fresh clone.
//
//   npm test                           a sample of everything, in six minutes on two processors
//   npm test -- WORD...                only test files whose path contains one of the words, whatever part they belong to
//   npm run test:all [-- WORD...]      everything, with larger volumes
//   npm run test:all -- --rest --minutes N
//                                      what npm test leaves out, as much as fits the time by the budgets of the files
//   HOLDFAST_TEST_FULL=1               the volumes and random seeds of the full campaign, and judgements by the clock
//
// Each file runs in a process of its own; its output appears when it is done, with the time that it took beside its budget
// (scripts/test-budgets.mjs). A budget that is exceeded is told and fails nothing.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { budgetOf, hasRest, unknownFiles } from "./test-budgets.mjs";
import { killGroup, runTestFile } from "./test-file.mjs";
import { keepSummary, summaryOf } from "./test-summary.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const inCi = process.env.CI === "true";
const full = process.env.HOLDFAST_TEST_FULL === "1";
const title = `Node.js ${process.versions.node}, ${["tests", ...process.argv.slice(2)].join(" ")}`;
const { all, rest, minutes, words } = options();
const part = all || full ? "all" : "sample";

/** A file that takes longer hangs: no machine that is merely busy comes near. */
const HANG_MINUTES = full ? 240 : 60;

/** What a summary has of a step that failed before any test. */
const LAST_LINES = 20;

/** What a test calls, and Debian's package that has it. */
const programs = {
	"nfs-ls": "libnfs-utils",
	setfacl: "acl",
	getfattr: "attr",
	sqlite3: "sqlite3",
	git: "git",
	rsync: "rsync",
	make: "make",
	gcc: "gcc",
	tar: "tar",
	strace: "strace",
	flock: "util-linux",
	setpriv: "util-linux",
	losetup: "mount",
	"mkfs.ext4": "e2fsprogs",
	"mkfs.xfs": "xfsprogs",
	"mkfs.btrfs": "btrfs-progs",
	mksquashfs: "squashfs-tools",
	"mkfs.erofs": "erofs-utils",
	bindfs: "bindfs",
	fusermount3: "fuse3",
	unshare: "util-linux",
	prlimit: "util-linux",
	perl: "perl-base",
};

const begun = Date.now();
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) fail(`Node.js 20.19 or later is needed; this is ${process.versions.node}.`);

const everyFile = ["src", "test"].flatMap((folder) => testFilesBelow(folder));
const unknown = unknownFiles(everyFile);
if (unknown.length > 0) fail(`scripts/test-budgets.mjs names what is not there: ${unknown.join(", ")}.`);
const files = chosenFiles();
if (files.length === 0) fail("there is no test to run.");
const missing = installPackages();
await step("build", join(root, "scripts/build.sh"));
await step("biome", process.execPath, join(root, "node_modules/@biomejs/biome/bin/biome"), "check", "--error-on-warnings", root);
await step("imports", process.execPath, join(root, "scripts/check-imports.mjs"));
await step("style", process.execPath, join(root, "scripts/check-style.mjs"));
prepareVm();
process.exit((await runFiles()) ? 0 : 1);

function options() {
	const { values, positionals } = parseArgs({
		options: { all: { type: "boolean" }, rest: { type: "boolean" }, minutes: { type: "string" } },
		allowPositionals: true,
	});
	const minutes = Number(values.minutes ?? Number.POSITIVE_INFINITY);
	if (!(minutes > 0)) fail("--minutes takes a number above 0.");
	return { all: values.all === true, rest: values.rest === true, minutes, words: positionals };
}

/** The slowest last. */
function chosenFiles() {
	let chosen = everyFile.filter((file) => words.length === 0 || words.some((word) => file.includes(word)));
	if (rest) chosen = chosen.filter(hasRest);
	else if (words.length === 0) chosen = chosen.filter((file) => budgetOf(file, part) > 0);
	chosen.sort((one, other) => budgetOf(one, part) - budgetOf(other, part));
	const fitting = [];
	const left = [];
	let seconds = minutes * 60 * processes();
	for (const file of chosen) {
		seconds -= budgetOf(file, part);
		(seconds < 0 ? left : fitting).push(file);
	}
	if (left.length > 0) console.error(`test: not in ${minutes} minutes: ${left.join(", ")}; npm run test:all has them.`);
	return fitting;
}

function processes() {
	return Math.max(1, Math.min(2, availableParallelism()));
}

/** Returns the programs that are still missing; with CI=true that is a failure. */
function installPackages() {
	let lacking = Object.keys(programs).filter((program) => !onPath(program));
	if (lacking.length === 0) return [];
	const packages = [...new Set(lacking.map((program) => programs[program]))];
	if (process.getuid() !== 0 || !onPath("apt-get")) {
		console.error(`test: skipping tests that need ${packages.join(", ")}: only root on Debian can install packages here.`);
	} else {
		console.error(`test: installing ${packages.join(", ")}`);
		const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
		const run = (...args) => spawnSync("apt-get", ["-qq", ...args], { env, stdio: ["ignore", 2, 2] }).status === 0;
		if (!run("update") || !run("install", "-y", "--no-install-recommends", ...packages)) console.error("test: apt-get failed.");
		lacking = lacking.filter((program) => !onPath(program));
		if (lacking.length > 0) console.error(`test: skipping tests that need ${lacking.join(", ")}.`);
	}
	if (inCi && lacking.length > 0) fail(`with CI=true nothing is skipped, but these are missing: ${lacking.join(", ")}.`);
	return lacking;
}

function onPath(program) {
	return `${process.env.PATH}:/usr/sbin:/sbin`.split(":").some((folder) => existsSync(join(folder, program)));
}

/** The Linux client runs in a virtual machine whose image is made once and kept in the cache folder. */
function prepareVm() {
	if (!files.some((file) => readFileSync(join(root, file), "utf8").includes('"vm"'))) return;
	const { status } = spawnSync(join(root, "test/vm/run-vm.sh"), ["--build"], { stdio: ["ignore", 2, 2] });
	if (status === 0) return;
	if (inCi) fail("the virtual machine of the client tests could not be built.");
	console.error("test: skipping tests in the virtual machine.");
	missing.push("vm");
}

async function step(name, command, ...args) {
	const from = Date.now();
	const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
	let said = "";
	for (const stream of [child.stdout, child.stderr]) {
		stream.setEncoding("utf8").on("data", (text) => {
			process.stderr.write(text);
			said += text;
		});
	}
	const ended = new Promise((resolve) => child.on("error", (error) => resolve(error.message)).on("close", (code) => resolve(code)));
	const end = await ended;
	const last = said.trimEnd().split("\n").slice(-LAST_LINES);
	if (end !== 0) fail([`${name} failed${typeof end === "string" ? `: ${end}` : ""}.`, ...last.map((line) => `      ${line}`)].join("\n"));
	console.error(`test: ${name} done in ${((Date.now() - from) / 1000).toFixed(1)} s`);
}

/** Whether all passed. Prints node's own closing lines, summed up. */
async function runFiles() {
	const running = new Set();
	let stopped = null;
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
		process.on(signal, () => {
			stopped ??= signal;
			for (const child of running) killGroup(child, "SIGTERM");
		});
	}
	const total = { tests: 0, suites: 0, pass: 0, fail: 0, cancelled: 0, skipped: 0, todo: 0 };
	const times = [];
	const env = {
		HOLDFAST_TEST_MISSING: missing.join(" "),
		HOLDFAST_TEST_SUMMARY: "",
		...(part === "all" ? { HOLDFAST_TEST_ALL: "1" } : {}),
	};
	const waiting = [...files];
	const apart = namespace();
	const worker = async () => {
		for (let file = waiting.shift(); file !== undefined && stopped === null; file = waiting.shift()) {
			const compiled = join("dist", file.replace(/\.ts$/, ".js"));
			const result = { file, ...(await runTestFile(compiled, { root, apart, env, hangMinutes: HANG_MINUTES, running })) };
			times.push(result);
			process.stdout.write(result.output);
			if (result.failure !== null) console.log(`failed: ${file}: ${result.failure}`);
			console.log(`${timeLine(result)} (${times.length} of ${files.length})\n`);
			for (const name of Object.keys(total)) total[name] += result.counts?.[name] ?? 0;
			if (result.counts === null || (result.failure !== null && result.counts.fail + result.counts.cancelled === 0)) total.fail++;
		}
	};
	await Promise.all(Array.from({ length: processes() }, worker));
	if (part === "all" || words.length > 0) for (const result of times) console.log(timeLine(result));
	const broken = stopped === null ? [] : [`stopped by ${stopped}`];
	const isRight = broken.length === 0 && total.fail === 0 && total.cancelled === 0;
	if (!isRight && total.fail + total.cancelled === 0) total.fail++;
	const seconds = (Date.now() - begun) / 1000;
	const summary = summaryOf({ title, seconds, results: times, fileCount: files.length, total, broken });
	console.log(summary);
	keepSummary(summary);
	for (const [name, count] of Object.entries(total)) console.log(`ℹ ${name} ${count}`);
	console.log(`ℹ duration_ms ${Date.now() - begun}`);
	return isRight;
}

function timeLine({ file, seconds, processorSeconds }) {
	const budget = budgetOf(file, part);
	const limit = budget === 0 ? "" : ` of ${budget}${processorSeconds > budget ? " (over)" : ""}`;
	return `time: ${seconds.toFixed(1)} s, processor ${processorSeconds.toFixed(1)} s${limit}: ${file}`;
}

/**
 * What puts a file into a mount namespace of its own, where that can be: nobody else holds its file systems then, and they go with its
 * last process.
 */
function namespace() {
	const command = ["unshare", "--mount", "--propagation", "private"];
	const works = process.getuid() === 0 && spawnSync(command[0], [...command.slice(1), "true"], { stdio: "ignore" }).status === 0;
	return works ? command : [];
}

/** Sources, not what lies in dist: a test that was removed may still lie there. */
function testFilesBelow(folder) {
	if (!existsSync(join(root, folder))) return [];
	return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
		.filter((entry) => entry.isFile() && entry.name.endsWith(".test.ts"))
		.map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)))
		.sort();
}

function fail(reason) {
	console.error(`test: ${reason}`);
	keepSummary(`FAILED: ${title}: ${reason}\n`);
	process.exit(1);
}
