/** Promise H4: whatever was not given out is refused by its signature, before any system call. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { sipKey } from "../../src/handle/sip-hash.ts";
import { HandleSigner, parseHandle } from "../../src/handle/wire-handle.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { changeKeys, withNewestSigning, withoutKey } from "../../src/overlay/upkeep/keys.ts";
import { type Registry, readRegistry } from "../../src/overlay/work/registry.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { plant } from "../support/lower-tree.ts";
import { ok, statusName } from "../support/nfs3-client.ts";
import { generator } from "../support/random.ts";
import { needs, repository, seed } from "../support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";
import { type Forgeries, forgeriesOf, merge, noise, signedWrongly } from "./hostile/forgeries.ts";
import { type Export, exportIn, goneHandle, handlesOfAllKinds, plantLowers } from "./hostile/objects.ts";

const skip = needs("root");
const TWO_BITS = 1000;

/** How a handle is answered. */
function answer(overlay: Overlay, handle: Buffer): string {
	try {
		overlay.decode(handle);
		return "found";
	} catch (error) {
		if (error instanceof OverlayError) return error.code;
		throw error;
	}
}

/** All are bad handles; how many there were. */
function assertRefused(overlay: Overlay, forged: Forgeries): number {
	let refused = 0;
	for (const [how, handles] of forged) {
		for (const handle of handles) {
			const code = answer(overlay, handle);
			if (code !== "badhandle") assert.fail(`${handle.toString("hex")}, ${how}: ${code}, with HOLDFAST_TEST_SEED=${seed}`);
			refused++;
		}
	}
	return refused;
}

async function changeKeysOf(it: Export, change: (registry: Registry) => Registry): Promise<void> {
	const opened = it.open("inspect");
	changeKeys(opened, change);
	await opened.overlay.close();
}

let total = 0;

for (const fileSystem of ["ext4", "xfs", "btrfs", "tmpfs"] satisfies FileSystem[]) {
	test(`${fileSystem}: nothing that can be made of the handles of all kinds of objects is accepted`, {
		skip: skip || cannotMount(fileSystem),
	}, async (t) => {
		const random = generator(seed);
		const base = scratch(t).mount(fileSystem);
		plantLowers(base);
		const it = exportIn(base);
		const { overlay, registry } = it.open();
		const kinds = await handlesOfAllKinds(overlay);
		const handles = [...kinds.values()];
		for (const handle of handles) assert.equal(answer(overlay, handle), "found");
		const secret = Buffer.from(registry.keys[0].secret, "hex");
		const forged = noise(kinds.get("lower file") as Buffer, 30, random);
		for (const handle of handles) merge(forged, forgeriesOf(handle, handles, TWO_BITS, random));
		merge(forged, signedWrongly(handles, secret, random));
		const nodes = overlay.engine.nodes.size;
		let refused = assertRefused(overlay, forged);
		assert.ok(overlay.engine.nodes.size <= nodes, "an object was loaded for a forged handle");

		const other = exportIn(base, "other-upper").open();
		const foreign = [...(await handlesOfAllKinds(other.overlay)).values()];
		refused += assertRefused(overlay, new Map([["of another export", foreign]]));
		refused += assertRefused(other.overlay, new Map([["of another export", handles]]));

		const gone = goneHandle(overlay);
		assert.equal(answer(overlay, gone), "stale");
		const homeless = overlay.engine.signer.encode(999, 1, Buffer.alloc(8));
		assert.equal(answer(overlay, homeless), "stale", "signed for a home that is not in the stack");
		await overlay.close();
		await changeKeysOf(it, withNewestSigning);
		const rotated = it.open();
		for (const handle of handles) assert.equal(answer(rotated.overlay, handle), "found", "signed with the former key");
		await rotated.overlay.close();
		await changeKeysOf(it, (now) => withoutKey(now, 1));
		const dropped = it.open();
		refused += assertRefused(dropped.overlay, new Map([["of a dropped key", [...handles, gone, homeless]]]));
		const again = assertRefused(dropped.overlay, forged);
		await dropped.overlay.close();
		await other.overlay.close();
		const hows = [...forged].map(([how, { length }]) => `${length} ${how}`).join(", ");
		t.diagnostic(`${refused} handles refused of ${handles.length} objects: ${hows}; ${again} of them again after their key was dropped`);
		total += refused;
	});
}

test("over 100,000 hostile handles in all, none accepted", { skip: skip || cannotMount("ext4") }, (t) => {
	t.diagnostic(`${total} hostile handles refused in process, HOLDFAST_TEST_SEED=${seed}`);
	assert.ok(total > 100_000, `only ${total}`);
});

/** What V8 does for itself in the thread that runs the program: memory, waking its own threads, and asking who it is when it collects. */
const OF_THE_ENGINE = new Set(["mmap", "munmap", "mremap", "madvise", "mprotect", "brk", "futex", "sched_yield", "getpid"]);

test("no system call is made for a handle that is refused", { skip: skip || needs("strace") || cannotMount("ext4") }, (t) => {
	const made = scratch(t);
	const trace = join(made.path, "trace");
	const script = join(repository, "dist/test/protocol/hostile/decode-traced.js");
	// only the main thread is traced: the one that decodes
	const output = execFileSync("strace", ["-o", trace, process.execPath, script, made.mount("ext4"), String(seed), "400"], {
		encoding: "utf8",
		stdio: ["ignore", "pipe", "inherit"],
	});
	const { good, codes, hostile, homeless } = JSON.parse(output);
	assert.deepEqual(codes, { badhandle: hostile, stale: homeless });
	assert.equal(good, "found");
	const calls = new Map<string, string[]>();
	let phase = "before";
	for (const line of readFileSync(trace, "latin1").split("\n")) {
		phase = /^access\("\/mark\/(\w+)"/.exec(line)?.[1] ?? phase;
		const name = /^(\w+)\(/.exec(line)?.[1];
		if (name !== undefined && !line.includes('"/mark/')) calls.set(phase, [...(calls.get(phase) ?? []), name]);
	}
	const callsOf = (when: string) => (calls.get(when) ?? []).filter((name) => !OF_THE_ENGINE.has(name));
	assert.deepEqual(callsOf("forged"), [], "between the first forged handle and the last");
	assert.deepEqual(callsOf("homeless"), [], "for handles of homes that are not in the stack");
	assert.ok(callsOf("good").includes("open_by_handle_at"), "strace does see what a good handle takes");
	const memory = (calls.get("forged") ?? []).length;
	t.diagnostic(
		`${hostile} forged and ${homeless} homeless handles: 0 system calls (V8's own for its memory: ${memory}); one good handle: ${callsOf("good").length}`,
	);
});

test("over NFS: a bad handle where the signature is wrong, stale where it is good and the object gone", { skip }, async (t) => {
	const random = generator(seed);
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { "dir/file": "contents" });
	const state = made.folder("state");
	const server = await startServer(made, { lowers: [lower], upper: made.folder("upper"), args: ["--async", "--state-dir", state] });
	const client = await server.client();
	const root = await client.root();
	const file = await client.walk(root, "dir/file");
	const born = await client.createFile(root, "born", "x");
	const gone = await client.createFile(root, "gone", "x");
	await ok(client.remove(root, "gone"));
	const handles = [root, file, born, await client.walk(root, "dir")];
	const registry = readRegistry(join(made.path, "upper.work/holdfast"));
	assert.ok(registry !== null);
	const secret = Buffer.from(registry.keys[0].secret, "hex");
	const forged = noise(file, 3, random);
	for (const handle of handles) merge(forged, forgeriesOf(handle, handles, 100, random));
	merge(forged, signedWrongly(handles, secret, random));
	const status = async (handle: Buffer) => statusName((await client.getattr(handle)).status);
	let refused = 0;
	for (const [how, all] of forged) {
		// NFSv3 has no longer ones: what is no handle at all is garbage to RPC
		const sent = all.filter(({ length }) => length <= 64);
		for (let at = 0; at < sent.length; at += 100) {
			for (const got of await Promise.all(sent.slice(at, at + 100).map(status))) assert.equal(got, "badhandle", how);
		}
		refused += sent.length;
	}
	assert.equal(await status(gone), "stale");
	const signer = new HandleSigner(registry.exportId, new Map([[1, sipKey(secret)]]), 1);
	const { home, id } = parseHandle(file) as NonNullable<ReturnType<typeof parseHandle>>;
	assert.deepEqual(signer.encode(home, id.type, id.bytes), file, "this signer is that of the server");
	const another = Buffer.from(id.bytes);
	another[4] = (another[4] as number) ^ 1;
	assert.equal(await status(signer.encode(home, id.type, another)), "stale", "another generation of the inode");
	assert.equal(await status(signer.encode(999, id.type, id.bytes)), "stale", "a home that is not in the stack");
	for (const handle of handles) assert.equal(await status(handle), "ok");
	assert.equal((await client.readFile(file)).toString(), "contents");
	assert.deepEqual(readdirSync(lower), ["dir"]);
	client.close();
	t.diagnostic(`${refused} hostile handles refused over NFS`);
});
