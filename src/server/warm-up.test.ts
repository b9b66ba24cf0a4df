// Warming up leaves no trace: neither in the layers nor in memory, whenever it ends.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { snapshotTree } from "../../test/support/tree-snapshot.ts";
import { FakeKernel } from "../fuse/fake-kernel.test-support.ts";
import { openExports } from "./serve-exports.ts";
import { warmUp } from "./warm-up.ts";

const MEMORY = "/dev/shm";
const OPTIONS = { skip: needs("root") || (statfsSync(MEMORY, { bigint: false }).type === 0x01021994 ? false : `${MEMORY} is no tmpfs`) };

async function served(context: TestContext, handles: "kernel" | "portable" = "kernel", isListening = true) {
	const path = scratch(context).mount("tmpfs");
	for (const name of ["lower", "upper", "work"]) mkdirSync(join(path, name));
	writeFileSync(join(path, "lower/file"), "content");
	const layers = {
		lowers: [join(path, "lower")],
		upper: join(path, "upper"),
		work: join(path, "work"),
		stateFolder: join(path, "state"),
		isSync: false,
		handles,
	};
	const open = await openExports({
		exports: [{ name: "/", layers }],
		listen: isListening ? [{ host: "127.0.0.1", port: 0 }] : [],
		isMounted: !isListening,
		stateFolder: layers.stateFolder,
	});
	context.after(() => open.close());
	await open.listen();
	return { open, path };
}

const ownFolders = () => readdirSync(MEMORY).filter((name) => name.startsWith(`holdfast-warm-up-${process.pid}-`));
const snapshot = (path: string) => [...snapshotTree(path, { exact: true })];

for (const handles of ["kernel", "portable"] as const) {
	test(`warming up by ${handles} handles changes nothing in layers and work, and leaves nothing in memory`, OPTIONS, (t) =>
		warmsUp(t, handles),
	);
}

test(
	"a server that has a mount and no addresses warms up by requests of a mount, and takes none of its own for that",
	OPTIONS,
	async (t) => {
		const { open, path } = await served(t, "kernel", false);
		const kernel = new FakeKernel();
		t.after(() => kernel.close());
		const session = open.startFuse({ descriptor: kernel.device, kept: null });
		assert.equal((await kernel.init()).error, 0);
		const [before, { requests }] = [snapshot(path), session];
		assert.ok(await warmUp(open, { rounds: 3, idleMs: 0 }).done, "it has come to its end");
		assert.deepEqual(ownFolders(), []);
		assert.deepEqual(snapshot(path), before);
		assert.equal(session.requests, requests);
	},
);

async function warmsUp(t: TestContext, handles: "kernel" | "portable"): Promise<void> {
	const { open, path } = await served(t, handles);
	const before = snapshot(path);
	let sawFolder = false;
	const watch = setInterval(() => {
		sawFolder ||= ownFolders().length > 0;
	}, 1);
	assert.ok(await warmUp(open, { rounds: 3, idleMs: 0 }).done, "it has come to its end");
	clearInterval(watch);
	assert.ok(sawFolder, "it has made an overlay in memory");
	assert.deepEqual(ownFolders(), []);
	assert.deepEqual(snapshot(path), before);
	assert.equal(open.server.calls, 0);
}

test("stopped at any moment it has removed what it made at once", OPTIONS, async (t) => {
	const { open } = await served(t);
	for (const turns of [0, 1, 3, 10, 40]) {
		const warming = warmUp(open, { rounds: 1_000_000, idleMs: 0 });
		while (turns > 0 && ownFolders().length === 0) await new Promise((resolve) => setImmediate(resolve));
		for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
		warming.stop();
		assert.deepEqual(ownFolders(), [], `after ${turns} turns`);
		await warming.done;
		assert.deepEqual(ownFolders(), [], `after ${turns} turns, at the end`);
	}
});

test("what a killed process has left is removed, and nothing of one that runs", OPTIONS, async (t) => {
	const { open } = await served(t);
	const dead = spawnSync("true").pid;
	const [left, kept] = [`${dead}-left`, "1-kept"].map((name) => join(MEMORY, `holdfast-warm-up-${name}`));
	for (const folder of [left, kept]) mkdirSync(join(folder, "upper"), { recursive: true });
	t.after(() => rmSync(kept, { recursive: true }));
	await warmUp(open, { rounds: 1, idleMs: 0 }).done;
	assert.deepEqual([existsSync(left), existsSync(kept)], [false, true]);
});

test("as long as a client is connected nothing is done, and once it has gone it is", OPTIONS, async (t) => {
	const { open } = await served(t);
	const [address] = open.server.addresses;
	assert.ok(address !== undefined && "port" in address);
	const client = createConnection(address.port, address.host);
	while (open.server.connectionCount === 0) await new Promise((resolve) => setImmediate(resolve));
	let sawFolder = false;
	const watch = setInterval(() => {
		sawFolder ||= ownFolders().length > 0;
	}, 1);
	t.after(() => clearInterval(watch));
	await warmUp(open, { rounds: 3, idleMs: 0 }).done;
	assert.ok(!sawFolder, "it has given up");
	client.destroy();
	while (open.server.connectionCount > 0) await new Promise((resolve) => setImmediate(resolve));
	await warmUp(open, { rounds: 3, idleMs: 0 }).done;
	assert.ok(sawFolder);
});
