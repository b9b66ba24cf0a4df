/** The keys that sign handles: `holdfast key`, and what a start does when they are lost. `src/overlay/upkeep/keys.test.ts` has their numbers. */

import assert from "node:assert/strict";
import {
	chmodSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { LayerError } from "../../src/layer/layer-error.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { OpenedOverlay } from "../../src/overlay/opening/opened-overlay.ts";
import { changeKeys, holdKeys, KeyError, withNewKey } from "../../src/overlay/upkeep/keys.ts";
import { type Registry, RegistryError } from "../../src/overlay/work/registry.ts";
import { plant } from "../support/lower-tree.ts";
import { ok, statusName } from "../support/nfs3-client.ts";
import { needs } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { layerArguments, runHoldfast, type ServerProcess, startServer } from "../support/server-process.ts";

const skip = needs("root");
const ROOT = { uid: 0, gid: 0, gids: [] };
/** Where a handle says which key has signed it. */
const KEY_AT = 1;

type Kind = "writable" | "read-only";
const kinds: Kind[] = ["writable", "read-only"];

function layersOf(made: Scratch, kind: Kind) {
	const lower = plant(made.folder("lower"), { "dir/inside": "x", file: "contents", changed: "before" });
	const state = made.folder("state");
	return { state, lowers: [lower], ...(kind === "writable" ? { upper: made.folder("upper") } : {}) };
}

/** Where the export keeps its registry, once it was served. */
function folderOf(made: Scratch, kind: Kind): string {
	if (kind === "writable") return join(made.path, "upper.work/holdfast");
	const folder = join(made.path, "state/read-only");
	return join(folder, readdirSync(folder)[0] as string);
}

/** Of all objects by path, the root's under "". */
async function handlesOf(server: ServerProcess): Promise<Map<string, Buffer>> {
	const client = await server.client();
	const root = await client.root();
	const tree = [...(await client.tree(root))].map(([path, { handle }]) => [path, handle] as const);
	client.close();
	return new Map([["", root], ...tree]);
}

/** How GETATTR by each of them is answered, together. */
async function answersOf(server: ServerProcess, handles: Iterable<Buffer>): Promise<string[]> {
	const client = await server.client();
	const seen = new Set<string>();
	for (const handle of handles) seen.add(statusName((await client.getattr(handle)).status));
	client.close();
	return [...seen];
}

for (const kind of kinds) {
	test(`${kind}: rotate is noticed by no client; rotate --now changes every handle, and drop makes former ones bad`, {
		skip,
	}, async (t) => {
		const made = scratch(t);
		const layers = layersOf(made, kind);
		const server = await startServer(made, { ...layers, args: ["--async", "--state-dir", layers.state] });
		if (kind === "writable") {
			const client = await server.client();
			const root = await client.root();
			await client.createFile(root, "born", "in the upper");
			await client.writeFile(await client.walk(root, "changed"), "AFTER!");
			client.close();
		}
		const before = await handlesOf(server);
		const registryPath = join(folderOf(made, kind), "registry");
		const printed: string[] = [];
		const key = (code: number, ...args: string[]) => {
			const run = runHoldfast(["key", ...args, ...layerArguments(layers), "--state-dir", layers.state]);
			assert.equal(run.code, code, `${args}: ${run.stdout}${run.stderr}`);
			printed.push(run.stdout, run.stderr);
			return code === 0 ? run.stdout : run.stderr;
		};
		const listed = () =>
			JSON.parse(key(0, "list", "--json")).keys.map(({ id, use }: { readonly id: number; readonly use: string }) => `${id} ${use}`);
		assert.deepEqual(listed(), ["1 signs"]);
		assert.match(key(1, "rotate"), kind === "writable" ? new RegExp(`\\b${server.pid}\\b.*[Ss]top`) : /is being served.*[Ss]top/);

		await server.terminate();
		assert.match(key(0, "rotate"), /Key 2 verifies .* signs nothing/);
		assert.equal(statSync(registryPath).mode & 0o7777, 0o600);
		await server.start();
		assert.deepEqual(await handlesOf(server), before);
		assert.deepEqual(await answersOf(server, before.values()), ["ok"]);

		await server.terminate();
		assert.match(key(0, "rotate", "--now"), /Key 2 signs .* key 1 .* good[\s\S]*unmount[\s\S]*key drop 1/);
		assert.match(key(1, "drop", "2"), /it signs the handles/);
		await server.start();
		const after = await handlesOf(server);
		assert.deepEqual([...after.keys()], [...before.keys()]);
		for (const [path, handle] of after) {
			assert.equal(handle[KEY_AT], 2, path);
			assert.deepEqual(handle.subarray(KEY_AT + 1, -8), before.get(path)?.subarray(KEY_AT + 1, -8), `${path} is another object`);
			assert.notDeepEqual(handle.subarray(-8), before.get(path)?.subarray(-8), path);
		}
		assert.deepEqual(await answersOf(server, [...after.values(), ...before.values()]), ["ok"]);
		const client = await server.client();
		const [old, now] = [before, after].map((handles) => handles.get("file") as Buffer);
		assert.equal((await client.attributesOf(old as Buffer)).fileid, (await client.attributesOf(now as Buffer)).fileid);
		assert.deepEqual((await ok(client.lookup(before.get("") as Buffer, "file"))).handle, now, "from the former handle of the root on");
		client.close();

		await server.terminate();
		assert.match(key(0, "drop", "1"), /bad handle/);
		const explained = runHoldfast(["handle", (old as Buffer).toString("hex"), ...layerArguments(layers), "--state-dir", layers.state]);
		assert.match(explained.stdout, /key +1 \(.*dropped\)[\s\S]*signature +bad/);
		await server.start();
		assert.deepEqual(await handlesOf(server), after);
		assert.deepEqual(await answersOf(server, before.values()), ["badhandle"]);

		const { registry } = JSON.parse(readFileSync(registryPath, "utf8")) as { registry: Registry };
		for (const { secret } of registry.keys) assert.ok(!printed.join("").includes(secret));
		assert.doesNotMatch(printed.join(""), /[0-9a-f]{32}/, "a secret was printed");
	});
}

test("key on layers that were never served, and of a number that is none", { skip }, (t) => {
	const made = scratch(t);
	const { lowers, state } = layersOf(made, "writable");
	const run = runHoldfast(["key", "rotate", lowers[0] as string, "--state-dir", state]);
	assert.equal(run.code, 1, run.stdout);
	assert.match(run.stderr, /There is no set of changes for/);
	assert.deepEqual(readdirSync(state), []);
	const wrong = runHoldfast(["key", "drop", "256", lowers[0] as string, "--state-dir", state]);
	assert.equal(wrong.code, 2);
	assert.match(wrong.stderr, /1 to 255/);
});

/** An export that is opened in this process. */
class Export {
	readonly options: OpenOptions;
	readonly folder: string;
	readonly registry: string;

	private constructor(options: OpenOptions, folder: string) {
		this.options = options;
		this.folder = folder;
		this.registry = join(folder, "registry");
	}

	static async make(made: Scratch, kind: Kind): Promise<Export> {
		const { state, ...layers } = layersOf(made, kind);
		const options: OpenOptions = { ...layers, stateFolder: state, isSync: false, purpose: "serve" };
		const opened = openOverlay(options);
		// as a server does it
		if (kind === "read-only") holdKeys(opened)();
		else opened.overlay.mkdir(opened.overlay.root, Buffer.from("born"), ROOT, {});
		await opened.overlay.close();
		return new Export(options, opened.folder);
	}

	open(purpose: OpenOptions["purpose"] = "serve"): OpenedOverlay {
		return openOverlay({ ...this.options, purpose });
	}

	/** The handles of some objects, in hex. */
	async handles(purpose: OpenOptions["purpose"] = "serve"): Promise<string[]> {
		const { overlay } = this.open(purpose);
		const below = ["dir", "file"].map((name) => overlay.lookup(overlay.root, Buffer.from(name), ROOT)?.handle as Buffer);
		const handles = [overlay.root.handle, ...below].map((handle) => handle.toString("hex"));
		await overlay.close();
		return handles;
	}

	/** Another registry in the place of this one, whole but for what is changed. */
	rewrite(change: (registry: { keys: { id: number; secret: string }[]; signingKey: number }) => void): void {
		const { format, registry } = JSON.parse(readFileSync(this.registry, "utf8"));
		change(registry);
		writeFileSync(this.registry, JSON.stringify({ format, registry }));
	}

	rewriteKey(change: (secret: string) => object): void {
		this.rewrite(({ keys: [key] }) => Object.assign(key as object, change((key as { secret: string }).secret)));
	}
}

/** What may become of the file that holds the keys. */
const losses: [what: string, sentence: RegExp, lose: (it: Export) => void][] = [
	["removed", /registry.*served before|served before.*registry/, ({ registry }) => rmSync(registry)],
	["a link that leads nowhere", /Cannot read .*registry/, (it) => replace(it, () => symlinkSync("/nonexistent/registry", it.registry))],
	["a link to itself", /Cannot read .*registry/, (it) => replace(it, () => symlinkSync("registry", it.registry))],
	["a folder", /Cannot read .*registry/, (it) => replace(it, () => mkdirSync(it.registry))],
	["empty", /Cannot understand .*registry/, ({ registry }) => writeFileSync(registry, "")],
	[
		"cut in the middle",
		/Cannot understand .*registry/,
		({ registry }) => writeFileSync(registry, readFileSync(registry).subarray(0, statSync(registry).size / 2)),
	],
	["zeros", /Cannot understand .*registry/, ({ registry }) => writeFileSync(registry, Buffer.alloc(statSync(registry).size))],
	["of another format", /Cannot understand .*registry/, ({ registry }) => writeFileSync(registry, '{"format":2,"registry":{}}')],
	["without a list of keys", /keys in .*there are none/, (it) => it.rewrite((registry) => Object.assign(registry, { keys: undefined }))],
	["without keys", /keys in .*there are none/, (it) => it.rewrite((registry) => Object.assign(registry, { keys: [] }))],
	["without the key that signs", /key that signs \(2\)/, (it) => it.rewrite((registry) => Object.assign(registry, { signingKey: 2 }))],
	["without that key's number", /key that signs/, (it) => it.rewrite((registry) => Object.assign(registry, { signingKey: undefined }))],
	["with a secret that is too short", /secret of key 1 /, (it) => it.rewriteKey((secret) => ({ secret: secret.slice(2) }))],
	["with a secret that is too long", /secret of key 1 /, (it) => it.rewriteKey((secret) => ({ secret: `${secret}00` }))],
	["with a secret that is not hex", /secret of key 1 /, (it) => it.rewriteKey(() => ({ secret: "g".repeat(32) }))],
	["with an empty secret", /secret of key 1 /, (it) => it.rewriteKey(() => ({ secret: "" }))],
	["with a key of number 0", /1 to 255/, (it) => it.rewriteKey(() => ({ id: 0 }))],
	["with a key of number 256", /1 to 255/, (it) => it.rewriteKey(() => ({ id: 256 }))],
	["with two keys of one number", /two of number 1/, (it) => it.rewrite(({ keys }) => keys.push({ id: 1, secret: "00".repeat(16) }))],
];

function replace({ registry }: Export, make: () => void): void {
	renameSync(registry, `${registry}.away`);
	make();
}

for (const kind of kinds) {
	test(`${kind}: a registry that is lost or damaged is a refusal to start, never a new key`, { skip }, async (t) => {
		const it = await Export.make(scratch(t), kind);
		const before = await it.handles();
		const saved = readFileSync(it.registry);
		for (const [what, sentence, lose] of losses) {
			lose(it);
			const left = readdirSync(it.folder);
			// adopt begins anew where the registry is gone, and only there
			const purposes: OpenOptions["purpose"][] = ["serve", "inspect", "release", ...(what === "removed" ? [] : (["adopt"] as const))];
			for (const purpose of purposes) {
				assert.throws(
					() => it.open(purpose),
					(error) => {
						assert.ok(error instanceof RegistryError || error instanceof LayerError, `${what}, to ${purpose}: ${error}`);
						assert.match(error.message, sentence, `${what}, to ${purpose}`);
						assert.match(error.message, /backup/, `${what}, to ${purpose}`);
						return true;
					},
				);
			}
			assert.deepEqual(readdirSync(it.folder), left, `${what}: something was made`);
			rmSync(it.registry, { recursive: true, force: true });
			rmSync(`${it.registry}.away`, { force: true });
			writeFileSync(it.registry, saved, { mode: 0o600 });
		}
		assert.deepEqual(await it.handles(), before, "with the registry of the backup every handle is as before");
		t.diagnostic(`${losses.length} kinds of loss`);
	});
}

test("a registry that its mode lets nobody read is read all the same: who may open handles may read any file", { skip }, async (t) => {
	const it = await Export.make(scratch(t), "writable");
	const before = await it.handles();
	chmodSync(it.registry, 0);
	assert.deepEqual(await it.handles(), before);
});

test("the whole folder of an upper's state is lost: a refusal, and adopt begins with new keys when it is told to", { skip }, async (t) => {
	const it = await Export.make(scratch(t), "writable");
	const before = await it.handles();
	rmSync(it.folder, { recursive: true });
	for (let again = 0; again < 2; again++) {
		assert.throws(() => it.open(), /served before.*registry.*backup.*holdfast adopt/);
		assert.throws(() => it.open("inspect"), /Cannot find what holdfast keeps|served before/);
	}
	await it.handles("adopt");
	const { overlay } = it.open();
	for (const handle of before) assert.throws(() => overlay.decode(Buffer.from(handle, "hex")), /no handle of this export/);
	assert.ok(overlay.lookup(overlay.root, Buffer.from("born"), ROOT) !== null);
	await overlay.close();
});

test("a first serve that was killed before it wrote the registry is begun anew; an adoption of an upper of ours is not", {
	skip,
}, async (t) => {
	const it = await Export.make(scratch(t), "writable");
	rmSync(it.registry);
	const note = join(it.folder, "adopting");
	writeFileSync(note, "again\n");
	assert.throws(() => it.open(), /served before.*registry/);
	writeFileSync(note, "first\n");
	assert.equal((await it.handles()).length, 3);
	assert.ok(!existsSync(note));
});

test("the state folder of a read-only export is lost: nothing can tell, and no former handle finds anything", { skip }, async (t) => {
	const it = await Export.make(scratch(t), "read-only");
	const before = await it.handles();
	rmSync(it.folder, { recursive: true });
	const { overlay } = it.open();
	for (const handle of before) assert.throws(() => overlay.decode(Buffer.from(handle, "hex")), /no handle of this export/);
	await overlay.close();
});

test("the keys of a read-only export change only while nobody serves it, and a server knows that they did", { skip }, async (t) => {
	const it = await Export.make(scratch(t), "read-only");
	const [one, two, asked] = [it.open(), it.open(), it.open("inspect")];
	const ends = [one, two].map((opened) => holdKeys(opened));
	for (const end of ends) {
		assert.throws(() => changeKeys(asked, withNewKey), KeyError);
		end();
	}
	const late = it.open();
	assert.equal(changeKeys(asked, withNewKey).keys.length, 2);
	assert.throws(() => holdKeys(late), /changed at this moment. Start the server again/);
	assert.throws(
		() =>
			changeKeys(asked, () => {
				assert.throws(() => holdKeys(late), /being changed at this moment/);
				throw new KeyError("not this one");
			}),
		/not this one/,
	);
	assert.equal(it.open("inspect").registry.keys.length, 2);
	for (const opened of [one, two, asked, late]) await opened.overlay.close();
});
