// The one test command: installs what the tests need, builds, checks style and imports, and runs every test.
// Uses nothing but Node's own modules, since it may be the first thing that runs in a fresh clone.
//
//   npm test                     everything
//   npm test -- NAME...          only test files whose path contains one of the words
//   HOLDFAST_TEST_FULL=1         the volumes of the full campaign instead of those that fit a few minutes

import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const inCi = process.env.CI === "true";
const full = process.env.HOLDFAST_TEST_FULL === "1";
const limitMinutes = full ? 80 : 20;
const words = process.argv.slice(2);

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
	flock: "util-linux",
	setpriv: "util-linux",
	losetup: "mount",
	"mkfs.ext4": "e2fsprogs",
	"mkfs.xfs": "xfsprogs",
	"mkfs.btrfs": "btrfs-progs",
	mksquashfs: "squashfs-tools",
	"mkfs.erofs": "erofs-utils",
	bindfs: "bindfs",
	prlimit: "util-linux",
	perl: "perl-base",
};

const started = Date.now();
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) fail(`Node.js 20.19 or later is needed; this is ${process.versions.node}.`);

const missing = installPackages();
step("build", join(root, "scripts/build.sh"));
step("biome", process.execPath, join(root, "node_modules/@biomejs/biome/bin/biome"), "check", "--error-on-warnings", root);
step("imports", process.execPath, join(root, "scripts/check-imports.mjs"));
step("style", process.execPath, join(root, "scripts/check-style.mjs"));
prepareVm();
runTests();

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
	if (words.length > 0 && !words.some((word) => word.includes("vm") || word.includes("linux-client"))) return;
	const { status } = spawnSync(join(root, "test/vm/run-vm.sh"), ["--build"], { stdio: ["ignore", 2, 2] });
	if (status === 0) return;
	if (inCi) fail("the virtual machine of the client tests could not be built.");
	console.error("test: skipping tests in the virtual machine.");
	missing.push("vm");
}

function step(name, command, ...args) {
	const begun = Date.now();
	const { status, error } = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2] });
	if (status !== 0) fail(`${name} failed${error ? `: ${error.message}` : ""}.`);
	console.error(`test: ${name} done in ${((Date.now() - begun) / 1000).toFixed(1)} s`);
}

function runTests() {
	const files = ["src", "test"]
		.flatMap((folder) => testFilesBelow(folder))
		.filter((file) => words.length === 0 || words.some((word) => file.includes(word)));
	if (files.length === 0) fail("there is no test to run.");
	const concurrency = Math.max(1, Math.min(2, availableParallelism()));
	const child = spawn(
		process.execPath,
		[
			"--test",
			"--test-reporter=spec",
			`--test-concurrency=${concurrency}`,
			...files.map((file) => join("dist", file.replace(/\.ts$/, ".js"))),
		],
		{
			cwd: root,
			stdio: ["ignore", "inherit", "inherit"],
			env: { ...process.env, HOLDFAST_TEST_MISSING: missing.join(" ") },
		},
	);
	const timer = setTimeout(
		() => {
			console.error(`test: not done after ${limitMinutes} minutes; stopping.`);
			child.kill("SIGTERM");
			setTimeout(() => child.kill("SIGKILL"), 20_000).unref();
		},
		limitMinutes * 60_000 - (Date.now() - started),
	);
	for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
	child.on("close", (code) => {
		clearTimeout(timer);
		process.exit(code ?? 1);
	});
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
	process.exit(1);
}
