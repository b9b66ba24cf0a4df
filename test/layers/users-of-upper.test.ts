/** Nothing writes to an upper that somebody else has mounted or owns: each command that could is tried. */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { giveTo } from "../support/held-tree.ts";
import { plant } from "../support/lower-tree.ts";
import { missing, needs, onlyInAll } from "../support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../support/scratch.ts";
import { layerArguments, NOBODY, ordinaryUser, runHoldfast, startServer } from "../support/server-process.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root", "setpriv") || cannotMount("tmpfs");

interface Layers {
	readonly lowers: readonly string[];
	readonly upper: string;
	readonly work: string;
}

function layersIn(base: string): Layers {
	const lower = plant(join(base, "lower"), { "dir/file": "lower", gone: "gone" });
	const [upper, work] = ["upper", "work"].map((name) => join(base, name)) as [string, string];
	for (const folder of [upper, work]) mkdirSync(folder);
	return { lowers: [lower], upper, work };
}

/** Command lines of all that writes to an upper or its work folder. */
function writers(layers: Layers, state: string): readonly (readonly string[])[] {
	const named = [...layerArguments(layers), "--state-dir", state];
	const upper = ["--upper", layers.upper, "--work", layers.work];
	return [
		["serve", "--listen", "127.0.0.1:0", ...named],
		["adopt", ...named],
		["release", ...named],
		["settle", ...named],
		["rebind", ...named],
		["key", "rotate", ...named],
		["check", "--repair", ...named],
	].concat(
		layers.lowers.length === 1
			? [
					["fork", ...upper],
					["rebase", ...layerArguments(layers)],
				]
			: [],
	);
}

function everything(layers: Layers): unknown {
	return [layers.upper, layers.work].map((path) => snapshotTree(path, { exact: true }));
}

/** A first life of the export, with a change. */
async function served(made: Scratch, layers: Layers, isReleased: boolean): Promise<void> {
	const server = await startServer(made, { ...layers, args: ["--state-dir", made.folder("state")] });
	const client = await server.client();
	await client.createFile(await client.root(), "new", "new");
	client.close();
	await server.terminate();
	if (!isReleased) return;
	const released = runHoldfast(["release", ...layerArguments(layers)]);
	assert.equal(released.code, 0, released.stderr);
}

/** Runs a command that mounts and stays, until it says so. */
async function whileMounted(command: string, cwd: string, act: () => void | Promise<void>): Promise<void> {
	const child = spawn("unshare", ["-m", "--propagation", "private", "sh", "-ec", command], { cwd, stdio: ["ignore", "pipe", "inherit"] });
	const ended = new Promise((resolve) => child.once("exit", resolve));
	try {
		const said = await Promise.race([
			new Promise((resolve) => child.stdout.on("data", (chunk) => String(chunk).includes("mounted") && resolve("mounted"))),
			ended,
		]);
		assert.equal(said, "mounted");
		await act();
	} finally {
		child.kill();
		await ended;
	}
}

const MOUNTS: readonly (readonly [what: string, command: string, skip: string | false])[] = [
	[
		"a kernel overlay in another mount namespace, by a relative path",
		"mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work mounted",
		false,
	],
	[
		"a kernel overlay in another mount namespace",
		'mount -t overlay overlay -o "lowerdir=$PWD/lower,upperdir=$PWD/upper,workdir=$PWD/work" mounted',
		onlyInAll,
	],
	[
		"a kernel overlay with another work folder",
		"mkdir other; mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=other mounted",
		onlyInAll,
	],
	[
		"fuse-overlayfs",
		// it must have ended with the mount
		`trap "umount mounted" TERM; fuse-overlayfs -f -o lowerdir=lower,upperdir=upper,workdir=work mounted 2>&1 &
		while ! mountpoint -q mounted; do sleep 0.1; done; echo mounted; wait || wait`,
		onlyInAll || (missing("fuse-overlayfs") || !existsSync("/dev/fuse") ? "needs fuse-overlayfs" : false),
	],
];

for (const [what, command, cannot] of MOUNTS) {
	test(`what ${what} has mounted no command writes to, and each says so`, { skip: skip || cannot }, async (t: TestContext) => {
		const made = scratch(t);
		const base = made.mount("tmpfs", "layers");
		const layers = layersIn(base);
		// our marker keeps the kernel away from our work folder
		const isReleased = !command.includes("other");
		await served(made, layers, isReleased);
		const mounted = join(base, "mounted");
		mkdirSync(mounted);
		const whole = command.includes("trap") ? command : `${command}; echo mounted; exec sleep 600`;
		await whileMounted(whole, base, () => {
			const before = everything(layers);
			for (const args of writers(layers, made.folder("state"))) {
				const { code, stderr } = runHoldfast(args);
				const name = args.slice(0, 2).join(" ");
				assert.equal(code, args[0] === "check" ? 8 : 1, `${name}: ${stderr}`);
				// what cannot be done to kernel handles, or to what was released, says that
				const isOther = ["fork", "rebase"].includes(args[0] as string) || (isReleased && args[0] === "key");
				assert.match(stderr, isOther ? /^holdfast: Cannot .*(kernel|released)/ : /^holdfast: Cannot .* mounted now/, name);
				assert.equal(stderr.trim().split("\n").length, 1, name);
			}
			assert.deepEqual(everything(layers), before);
			const looked = runHoldfast(["check", ...layerArguments(layers)]);
			assert.match(looked.stdout, /in use at this moment/);
			assert.deepEqual(everything(layers), before);
		});
		const repaired = runHoldfast(["check", "--repair", ...layerArguments(layers)]);
		assert.ok(repaired.code === 0 || repaired.code === 1, repaired.stderr);
	});
}

test("an ordinary user serves beside a kernel overlay whose upper lies where that user may not look, as those of containers do", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const base = made.mount("tmpfs", "layers");
	const closed = join(base, "closed");
	mkdirSync(closed, { mode: 0o700 });
	const { lowers, upper, work } = layersIn(closed);
	mkdirSync(join(base, "mounted"));
	const options = `lowerdir=${lowers[0]},upperdir=${upper},workdir=${work}`;
	execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, join(base, "mounted")]);
	const own = layersIn(join(base, "own"));
	const state = join(base, "state");
	mkdirSync(state);
	giveTo(user, ...own.lowers, own.upper, own.work, state);
	const server = await startServer(made, { ...own, user, args: ["--state-dir", state] });
	await server.terminate();
});

test("an upper that an ordinary user has served root does not write to, and the user serves it again", { skip }, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const base = made.mount("tmpfs", "layers");
	const layers = layersIn(base);
	const state = join(base, "state");
	mkdirSync(state);
	giveTo(user, ...layers.lowers, layers.upper, layers.work, state);
	const server = await startServer(made, { ...layers, user, args: ["--state-dir", state] });
	let client = await server.client();
	let root = await client.root();
	const handle = await client.createFile(root, "new", "new");
	client.close();
	await server.terminate();
	const before = everything(layers);
	for (const args of writers(layers, made.folder("of root"))) {
		const { code, stderr } = runHoldfast(args);
		const name = args.slice(0, 2).join(" ");
		assert.equal(code, args[0] === "check" ? 8 : 1, `${name}: ${stderr}`);
		assert.match(stderr, new RegExp(`^holdfast: Cannot .*user ${NOBODY}`), name);
		assert.equal(stderr.trim().split("\n").length, 1, name);
		assert.deepEqual(everything(layers), before, name);
	}
	execFileSync("find", [layers.upper, layers.work, "!", "-uid", String(NOBODY), "-exec", "false", "{}", "+"]);
	await server.start();
	client = await server.client();
	root = await client.root();
	assert.deepEqual(await client.walk(root, "new"), handle);
	await client.createFile(root, "newer", "newer");
	client.close();
	await server.terminate();
});
