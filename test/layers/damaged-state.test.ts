/** Files that decide handles and file ids: each damage is refused with a sentence, or all is served as before. */

import assert from "node:assert/strict";
import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { LayerError } from "../../src/layer/layer-error.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { inPasses } from "../../src/overlay/operations/until-ready.ts";
import { RegistryError } from "../../src/overlay/work/registry.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { plant } from "../support/lower-tree.ts";
import { needs, seed, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { layerArguments, runHoldfast, startServer } from "../support/server-process.ts";

interface Known {
	readonly handle: Buffer;
	readonly fileid: bigint;
	readonly parent: Buffer | null;
	readonly name: Buffer;
}

/** Numbers of 0 to 2^31 - 1, always the same ones. */
function randoms(): () => number {
	let state = seed;
	return () => {
		state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
		return state;
	};
}

for (const kind of ["kernel", "portable", "rebound"] as const) {
	test(`of an export with ${kind} handles`, { skip: needs("root") || cannotMount("ext4") }, async (t: TestContext) => {
		const made = scratch(t);
		const base = made.mount("ext4");
		const lower = plant(join(base, "lower"), { "a/b/c": "c", "d/e": "e", f: "f", g: "g", h: { link: "target" } });
		const [upper, work, state] = ["upper", "work", "state"].map((name) => join(base, name)) as [string, string, string];
		for (const folder of [upper, work]) mkdirSync(folder);
		const layers = { lowers: [lower], upper, work };
		const args = ["--state-dir", state, ...(kind === "portable" ? ["--handles", "portable"] : [])];
		const server = await startServer(made, { ...layers, args });
		const client = await server.client();
		const root = await client.root();
		await client.createFile(root, "new", "new");
		await client.makeDirectory(await client.walk(root, "a"), "made");
		await client.symlink(root, "link", "target");
		await client.rename(root, "d", await client.walk(root, "a"), "moved");
		await client.writeFile(await client.walk(root, "f"), "changed");
		await client.remove(root, "g");
		const known: Known[] = [];
		for (const [path, { handle, attributes }] of await client.tree(root)) {
			const parent = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "";
			const name = Buffer.from(path.slice(path.lastIndexOf("/") + 1));
			known.push({ handle, fileid: attributes.fileid, parent: parent === "" ? root : await client.walk(root, parent), name });
		}
		assert.ok(known.length >= 8);
		client.close();
		await server.terminate();
		if (kind === "rebound") assert.equal(runHoldfast(["rebind", ...layerArguments(layers), "--state-dir", state]).code, 0);

		/** Null: all is served as before. */
		const outcome = async (): Promise<string | null> => {
			let opened: ReturnType<typeof openOverlay>;
			try {
				opened = openOverlay({ ...layers, stateFolder: state, isSync: false, purpose: "serve" });
			} catch (error) {
				assert.ok(
					error instanceof LayerError || error instanceof RegistryError || error instanceof OverlayError,
					String((error as Error).stack),
				);
				return error.message;
			}
			const { overlay } = opened;
			try {
				for (const { handle, fileid, parent, name } of known) {
					await inPasses(overlay, () => {
						const { fileidHi, fileidLo } = overlay.getattr(overlay.decode(handle));
						assert.equal((BigInt(fileidHi) << 32n) + BigInt(fileidLo), fileid);
						if (parent === null) return;
						const found = overlay.lookup(overlay.decode(parent), name, { uid: 0, gid: 0, gids: [] });
						assert.deepEqual(found === null ? null : Buffer.from(found.handle), handle, `${name}`);
					});
				}
				return null;
			} finally {
				await overlay.close();
			}
		};
		assert.equal(await outcome(), null);
		const random = randoms();
		const files = filesBelow(join(work, "holdfast"));
		assert.ok(files.some((path) => path.endsWith("/registry")));
		let refused = 0;
		for (const path of files) {
			for (let flip = 0; flip < volume(3, 25, 400); flip++) {
				const whole = read(path);
				if (whole === null || whole.length === 0) break;
				const damaged = Buffer.from(whole);
				// what stands at the beginning matters most, and long files are mostly empty
				const at = random() % (flip % 2 === 0 ? Math.min(whole.length, 256) : whole.length);
				const isCut = flip === 2;
				damaged[at] = (damaged[at] as number) ^ (1 << (random() % 8));
				writeFileSync(path, isCut ? whole.subarray(0, at) : damaged);
				const sentence = await outcome().catch((error) => assert.fail(`${path}, ${isCut ? "cut" : "flipped"} at ${at}: ${error.stack}`));
				if (sentence === null) continue;
				refused++;
				assert.ok(sentence.includes(path), `${path}: ${sentence}`);
				writeFileSync(path, whole);
				assert.equal(await outcome(), null, `restored: ${path}`);
			}
		}
		assert.ok(refused >= 3, "nothing was refused");
	});
}

function read(path: string): Buffer | null {
	return lstatSync(path, { throwIfNoEntry: false })?.isFile() ? readFileSync(path) : null;
}

/** Files of ours, without names of objects of upper. */
function filesBelow(folder: string): string[] {
	const objects = ["ids", "index", "orphans", "lost+found", "trash", "cuts"];
	return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
		const path = join(folder, entry.name);
		if (entry.isDirectory()) return objects.includes(entry.name) ? [] : filesBelow(path);
		return entry.isFile() && entry.name !== "whiteout" ? [path] : [];
	});
}
