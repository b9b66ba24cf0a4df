// The change list, applied to a copy of the lowers, gives what the overlay shows.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { plant } from "../../../test/support/lower-tree.ts";
import { needs, volume } from "../../../test/support/requirements.ts";
import { scratch } from "../../../test/support/scratch.ts";
import { FileType } from "../../vfs/operations.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import type { Change } from "./change.ts";
import { changeList } from "./change-list.ts";
import { perform, plantLower, ROOT, SEQUENCES, type Tree, treeOfOverlay, treeOnDisk } from "./random-changes.test-support.ts";

const skip = needs("root");

function below(path: string, directory: string): boolean {
	return path === directory || path.startsWith(`${directory}/`);
}

/** Does to the base what a change list says, taking what is added or changed from the overlay. */
function applied(base: Tree, changes: readonly Change[], now: Tree): Tree {
	const tree = new Map(base);
	const moved = changes.filter(({ kind }) => kind === "renamed").map(({ from }) => String(from));
	for (const from of moved) for (const path of tree.keys()) if (below(path, from)) tree.delete(path);
	for (const { path: bytes, kind, from: source } of changes) {
		const path = bytes.toString();
		if (kind === "removed") {
			assert.ok(tree.has(path), `${path} is said to be removed`);
			for (const other of tree.keys()) if (below(other, path)) tree.delete(other);
		} else if (kind === "renamed") {
			const from = String(source);
			const elsewhere = moved.filter((other) => other !== from && below(other, from));
			for (const [other, value] of base) {
				if (below(other, from) && !elsewhere.some((one) => below(other, one))) tree.set(path + other.slice(from.length), value);
			}
			tree.set(path, now.get(path) as string);
		} else {
			assert.ok(kind !== "changed" && kind !== "metadata" ? !tree.has(path) : tree.has(path), `${path} is said to be ${kind}`);
			// what a directory held before another kind of object took its place
			if (!now.get(path)?.startsWith(`${FileType.dir} `))
				for (const other of tree.keys()) if (other !== path && below(other, path)) tree.delete(other);
			tree.set(path, now.get(path) as string);
		}
	}
	return tree;
}

async function listed(opened: OpenedOverlay): Promise<Change[]> {
	const changes: Change[] = [];
	for await (const change of changeList(opened, { tellsBase: true })) changes.push(change);
	return changes;
}

let runs = 0;

for (const handles of ["kernel", "portable"] as const) {
	test(`random changes: the change list leads from the lowers to what the overlay shows, ${handles} handles`, { skip }, async (t) => {
		const made = scratch(t);
		await fc.assert(
			fc.asyncProperty(SEQUENCES, async (sequence) => {
				const top = made.folder(`run-${runs++}`);
				const lower = plantLower(join(top, "lower"));
				const second = plant(join(top, "second"), { "a/c": "under", "b/a": "hidden by the upper one" });
				const layers = { lowers: [lower, second], upper: join(top, "upper"), work: join(top, "work"), stateFolder: join(top, "state") };
				const empty = openOverlay({ lowers: layers.lowers, stateFolder: join(top, "base"), isSync: false, handles, purpose: "serve" });
				const base = await treeOfOverlay(empty);
				await empty.overlay.close();
				const opened = openOverlay({ ...layers, isSync: false, handles, purpose: "serve" });
				try {
					for (const step of sequence) await perform(opened, step);
					const now = await treeOfOverlay(opened);
					const changes = await listed(opened);
					const result = applied(base, changes, now);
					const told = changes.map(({ kind, path, from }) => `${kind} ${path}${from === null ? "" : ` from ${from}`}`);
					assert.deepEqual([...result].sort(), [...now].sort(), told.join("\n"));
					const bases = changes.filter(({ base, path }) => base !== null && path.length > 0).map(({ baseState }) => baseState);
					assert.deepEqual([...new Set(bases)].join(), bases.length === 0 ? "" : "unchanged", told.join("\n"));
					const order = changes.map(({ path }) => path.toString("latin1").replaceAll("/", "\0"));
					assert.deepEqual(
						order,
						[...order].sort((x, y) => (x < y ? -1 : x > y ? 1 : 0)),
						"not in the order of paths",
					);
					// nothing of what is equal is told, but for what was written with the same content
					for (const { kind, path } of changes) {
						if (kind === "changed" && base.get(path.toString()) === now.get(path.toString())) {
							assert.match(now.get(path.toString()) as string, /^(8|4) /);
						}
					}
				} finally {
					await opened.overlay.close();
				}
			}),
			{ numRuns: volume(12, 400) },
		);
	});
}

test("what a tree that was not touched gives is nothing, and of a wide directory with one change one line", { skip }, async (t) => {
	const made = scratch(t);
	const lower = join(made.path, "lower");
	mkdirSync(lower);
	for (let i = 0; i < 300; i++) plant(lower, { [`file ${i}`]: `${i}` });
	const opened = openOverlay({
		lowers: [lower],
		upper: join(made.path, "upper"),
		work: join(made.path, "work"),
		stateFolder: made.folder("state"),
		isSync: false,
		purpose: "serve",
	});
	try {
		assert.deepEqual(await listed(opened), []);
		const { overlay } = opened;
		await inPasses(overlay, () => overlay.remove(overlay.root, Buffer.from("file 77"), ROOT, null));
		assert.deepEqual(
			(await listed(opened)).map(({ kind, path }) => `${kind} ${path}`),
			["removed file 77"],
		);
		assert.equal(treeOnDisk(lower).size, 301);
	} finally {
		await opened.overlay.close();
	}
});
