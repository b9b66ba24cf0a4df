// Runs tests under other versions of Node.js, which npm brings into a temporary folder.
//
//   npm run test:node -- 22 24 26           npm test under each of them
//   npm run test:node -- 22 unpack rpc      only test files whose path contains one of the words
//   npm run test:node -- --short 22 24 26   what depends on the version most, in a minute or two for each
//
// Where npm's registry cannot be reached it says so and fails nothing with --short.

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { keepSummary } from "./test-summary.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
/** Calls into C, threads, streams and sockets of Node's, compression, and what a person installs. */
const SHORT = [
	"src/linux/",
	"src/unpack/",
	"src/rpc/",
	"nfs3-wire",
	"layers/unpack.test",
	"commands/bundle",
	"commands/package",
	"commands/service",
];

const given = process.argv.slice(2);
const isShort = given.includes("--short");
const versions = given.filter((word) => /^\d+(\.\d+)*$/.test(word));
const words = given.filter((word) => word !== "--short" && !versions.includes(word));
if (versions.length === 0) {
	console.error("test:node: name the versions of Node.js: npm run test:node -- 22 24 26");
	process.exit(2);
}

const folder = mkdtempSync(join(tmpdir(), "holdfast-node-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

const failed = [];
for (const version of versions) {
	const node = install(version);
	if (node === null) continue;
	console.error(`test:node: ${spawnSync(node, ["-v"], { encoding: "utf8" }).stdout.trim()}`);
	const env = { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH}` };
	const chosen = words.length > 0 ? words : isShort ? SHORT : [];
	if (spawnSync(node, [join(root, "scripts/test.mjs"), ...chosen], { env, stdio: "inherit" }).status !== 0) failed.push(version);
}
if (failed.length > 0) {
	console.error(`test:node: failed under Node.js ${failed.join(", ")}`);
	process.exit(1);
}

/** Its program, where an ordinary user can run it too; null where it cannot be had and need not. The package has no scripts. */
function install(version) {
	const name = `node-linux-${process.arch}`;
	const at = join(folder, version);
	const { status, stderr } = spawnSync(
		"npm",
		[
			"install",
			"--prefix",
			at,
			"--no-save",
			"--ignore-scripts",
			"--no-audit",
			"--no-fund",
			"--fetch-retries=0",
			"--loglevel=error",
			`${name}@${version}`,
		],
		{ encoding: "utf8" },
	);
	const node = join(at, "node_modules", name, "bin/node");
	if (status === 0 && existsSync(node)) {
		spawnSync("chmod", ["a+x", folder, at]);
		spawnSync("chmod", ["-R", "a+rX", at]);
		return node;
	}
	const reason = /reason: *(.*)/.exec(stderr)?.[1] ?? stderr.trim().split("\n")[0];
	const sentence = `test:node: ${isShort ? "skipping" : "cannot run"} Node.js ${version}: npm does not bring it (${reason}).`;
	console.error(sentence);
	keepSummary(`${sentence}\n`);
	if (!isShort) failed.push(version);
	return null;
}
