// The launcher in a clone and in a package: clones that the caller cannot write, no network, npm's settings, machines that cannot run it.
// The clones have the scripts of the real one; compiler and npm are short scripts that write down how they were called.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
	chmodSync,
	cpSync,
	existsSync,
	lstatSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	rmSync,
	symlinkSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs, repository } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { NOBODY } from "../support/server-process.ts";

const PROGRAM = 'console.log("ran", ...process.argv.slice(2));\n';
const COMPILER = `
const { mkdirSync, writeFileSync } = require("node:fs");
mkdirSync("dist/src/cli", { recursive: true });
mkdirSync("dist/src/overlay/threads", { recursive: true });
mkdirSync("dist/src/mounting", { recursive: true });
writeFileSync("dist/src/cli/main.js", ${JSON.stringify(PROGRAM)});
for (const apart of ["overlay/threads/offload-worker.js", "mounting/mount-inside.js", "mounting/sandbox-inside.js", "mounting/unmount-thread.js"]) writeFileSync("dist/src/" + apart, "");
`;
/** "npm ci" makes node_modules; with --offline, and with "ping", it does as NPM_OFFLINE and NPM_PING say. */
const NPM = `#!/bin/sh
echo "$@" >>"$NPM_LOG"
case "$*" in
ping*) echo "$NPM_PING" >&2; [ -z "$NPM_PING" ]; exit ;;
*--offline*) [ -n "$NPM_OFFLINE" ] || exit 1 ;;
esac
mkdir -p node_modules/typescript/bin node_modules/koffi
echo {} >node_modules/koffi/package.json
cp ../tsc node_modules/typescript/bin/tsc
echo >node_modules/.package-lock.json
`;
const NO_NETWORK = `npm error code EAI_AGAIN
npm error request to https://registry.npmjs.org/-/ping failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org`;

interface Clone {
	readonly made: Scratch;
	readonly path: string;
	readonly env: Record<string, string>;
}

/** A clone that was never started. */
function clone(t: TestContext): Clone {
	const made = scratch(t);
	chmodSync(made.path, 0o755);
	const path = made.folder("clone");
	for (const file of ["holdfast", "scripts/build.sh", "scripts/build-state.sh", "scripts/bundle.mjs"]) {
		cpSync(join(repository, file), join(path, file), { recursive: true });
	}
	for (const folder of ["src", "test"]) mkdirSync(join(path, folder));
	for (const file of ["tsconfig.json", "package-lock.json", "package.json"]) writeFileSync(join(path, file), '{ "type": "module" }');
	made.file("tsc", COMPILER);
	writeFileSync(join(made.folder("bin"), "npm"), NPM, { mode: 0o755 });
	const env = { PATH: `${join(made.path, "bin")}:${dirname(process.execPath)}:${process.env.PATH}`, NPM_LOG: join(made.path, "npm.log") };
	return { made, path, env: { ...env, NPM_OFFLINE: "", NPM_PING: "" } };
}

function launch({ path, env }: Clone, more: { env?: Record<string, string>; uid?: number; within?: string[] } = {}) {
	const { uid, within = [] } = more;
	const command = [...within, join(path, "holdfast"), "a", "b c"];
	const ids = uid === undefined ? {} : { uid, gid: uid };
	const run = spawnSync(command[0] as string, command.slice(1), { encoding: "utf8", cwd: "/", env: { ...env, ...more.env }, ...ids });
	return { status: run.status, stdout: run.stdout, stderr: run.stderr };
}

/** The calls of npm since it was asked last. */
function npmCalls({ env }: Clone): string[] {
	const log = env.NPM_LOG as string;
	const calls = existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : [];
	rmSync(log, { force: true });
	return calls;
}

/** As if somebody had changed a source. */
function change({ path }: Clone): void {
	const late = new Date(Date.now() + 60_000);
	writeFileSync(join(path, "src/new.ts"), "");
	utimesSync(join(path, "src/new.ts"), late, late);
}

const RAN = "ran a b c\n";

test("the first start installs from npm's cache, whatever npm is told to leave out, and asks the registry for what is not there", (t) => {
	const cached = clone(t);
	const first = launch(cached, { env: { NPM_OFFLINE: "yes" } });
	assert.deepEqual([first.status, first.stdout], [0, RAN], first.stderr);
	const calls = npmCalls(cached);
	assert.equal(calls.length, 1);
	for (const option of ["ci", "--include=dev", "--ignore-scripts", "--offline"]) assert.ok(calls[0]?.split(" ").includes(option), calls[0]);
	assert.deepEqual(launch(cached), { status: 0, stdout: RAN, stderr: "" }, "again");
	const remote = clone(t);
	const installed = launch(remote, { env: { NPM_PING: "npm error code E404" } });
	assert.deepEqual([installed.status, installed.stdout], [0, RAN], installed.stderr);
	assert.deepEqual(
		npmCalls(remote).map((call) => /ping|--offline|--prefer-offline/.exec(call)?.[0]),
		["--offline", "ping", "--prefer-offline"],
	);
});

test("packages without the compiler are installed again", (t) => {
	const made = clone(t);
	launch(made, { env: { NPM_OFFLINE: "yes" } });
	npmCalls(made);
	rmSync(join(made.path, "node_modules/typescript"), { recursive: true });
	change(made);
	assert.equal(launch(made, { env: { NPM_OFFLINE: "yes" } }).stdout, RAN);
	assert.equal(npmCalls(made).length, 1);
});

test("without network there is one sentence with the reason, and npm does not try again", (t) => {
	const made = clone(t);
	const { status, stdout, stderr } = launch(made, { env: { NPM_PING: NO_NETWORK } });
	assert.deepEqual([status, stdout], [1, ""]);
	assert.match(
		stderr,
		/^holdfast: installing packages\nholdfast: The npm registry cannot be reached \(getaddrinfo EAI_AGAIN registry\.npmjs\.org\)[^\n]*\.\n$/,
	);
	assert.ok(!npmCalls(made).some((call) => call.includes("--prefer-offline")));
});

test("a clone that the caller cannot write: what was compiled is run with a warning, or a sentence says who compiles it", {
	skip: needs("root"),
}, (t) => {
	const made = clone(t);
	const readOnly = [
		"unshare",
		"-m",
		"sh",
		"-c",
		`mount --bind ${made.path} ${made.path} && mount -o remount,ro,bind ${made.path} && exec "$@"`,
		"sh",
	];
	const ways = [{ uid: NOBODY }, { within: readOnly }];
	for (const way of ways) {
		const { status, stdout, stderr } = launch(made, way);
		assert.deepEqual([status, stdout], [1, ""]);
		assert.match(stderr, /^holdfast: \/\S+\/clone is not compiled, and (nobody|root) cannot write there: [^\n]*\n$/);
	}
	launch(made, { env: { NPM_OFFLINE: "yes" } });
	for (const way of ways) assert.deepEqual(launch(made, way), { status: 0, stdout: RAN, stderr: "" }, "as it is compiled");
	change(made);
	npmCalls(made);
	for (const way of ways) {
		const { status, stdout, stderr } = launch(made, way);
		assert.deepEqual([status, stdout], [0, RAN], stderr);
		assert.match(stderr, /^holdfast: \/\S+\/clone has changed since it was compiled, and (nobody|root) cannot write there: [^\n]*\n$/);
	}
	assert.deepEqual(npmCalls(made), []);
});

test("what root compiles in another user's clone is that user's, also where it does not compile", { skip: needs("root") }, (t) => {
	const made = clone(t);
	chmodSync(made.made.path, 0o777);
	execFileSync("chown", ["-R", `${NOBODY}:${NOBODY}`, made.path]);
	const owners = () =>
		["dist", "node_modules"].flatMap((folder) =>
			(readdirSync(join(made.path, folder), { recursive: true }) as string[]).map((name) => lstatSync(join(made.path, folder, name)).uid),
		);
	assert.equal(launch(made, { env: { NPM_OFFLINE: "yes" } }).stdout, RAN);
	assert.ok(owners().length > 8);
	assert.deepEqual([...new Set(owners())], [NOBODY]);
	change(made);
	rmSync(join(made.path, "dist/bundled"), { recursive: true });
	writeFileSync(join(made.path, "node_modules/typescript/bin/tsc"), 'require("node:fs").writeFileSync("dist/half", ""); process.exit(2);');
	assert.equal(launch(made).status, 2);
	assert.deepEqual([...new Set(owners())], [NOBODY]);
	writeFileSync(join(made.path, "node_modules/typescript/bin/tsc"), COMPILER);
	rmSync(made.env.NPM_LOG as string, { force: true });
	const own = launch(made, { uid: NOBODY });
	assert.deepEqual([own.status, own.stdout], [0, RAN], own.stderr);
});

test("a package runs as it is, also where the PATH has no node but its prefix has one", (t) => {
	const made = clone(t);
	const path = made.made.folder("prefix/lib/node_modules/holdfast");
	cpSync(join(made.path, "holdfast"), join(path, "holdfast"));
	const none = launch({ ...made, path });
	assert.equal(none.status, 1);
	assert.match(none.stderr, /^holdfast: \/\S+\/dist\/holdfast\.js is missing, [^\n]*\n$/);
	mkdirSync(join(path, "dist"));
	writeFileSync(join(path, "dist/holdfast.js"), PROGRAM);
	assert.deepEqual(launch({ ...made, path }), { status: 0, stdout: RAN, stderr: "" });
	const tools = made.made.folder("tools");
	for (const tool of ["sh", "uname", "readlink", "dirname"])
		symlinkSync(execFileSync("which", [tool], { encoding: "utf8" }).trim(), join(tools, tool));
	assert.match(
		launch({ ...made, path }, { env: { PATH: tools } }).stderr,
		/^holdfast: Node\.js 20\.19 or later is needed, and no `node`[^\n]*\n$/,
	);
	symlinkSync(process.execPath, join(made.made.folder("prefix/bin"), "node"));
	assert.deepEqual(launch({ ...made, path }, { env: { PATH: tools } }), { status: 0, stdout: RAN, stderr: "" });
	assert.deepEqual(npmCalls(made), []);
});

test("another system, and a Node.js that is too old or does not start, get one sentence", (t) => {
	const made = clone(t);
	launch(made, { env: { NPM_OFFLINE: "yes" } });
	const refused = (program: string, prints: string, sentence: RegExp) => {
		const folder = made.made.folder(`other-${prints}`);
		writeFileSync(join(folder, program), `#!/bin/sh\necho ${prints}\n`, { mode: 0o755 });
		const { status, stdout, stderr } = launch(made, { env: { PATH: `${folder}:${made.env.PATH}` } });
		assert.deepEqual([status, stdout], [1, ""], prints);
		assert.match(stderr, sentence);
	};
	const broken = made.made.folder("broken");
	writeFileSync(join(broken, "node"), '#!/bin/sh\necho "node: no such option" >&2\nexit 9\n', { mode: 0o755 });
	const { status, stderr } = launch(made, { env: { PATH: `${broken}:${made.env.PATH}` } });
	assert.equal(status, 1);
	assert.match(stderr, /^node: no such option\nholdfast: Node\.js does not start: [^\n]*NODE_OPTIONS[^\n]*\n$/);
	refused("uname", "Darwin", /^holdfast: The server runs on Linux alone, and this is Darwin[^\n]*\.\n$/);
	for (const version of ["v20.18.9", "v18.20.0", "v16.20.2", "v12.22.12", "v0.10.48"]) {
		refused(
			"node",
			version,
			new RegExp(`^holdfast: Node\\.js 20\\.19 or later is needed; \`node\` is ${version.slice(1).replaceAll(".", "\\.")}\\.\n$`),
		);
	}
});
