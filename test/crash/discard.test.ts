/** The world is stopped before each call of a discard that changes the disk: every object is as before or as in the lowers, and the next discard goes on. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { discard } from "../../src/overlay/changes/discard.ts";
import type { OpenedOverlay } from "../../src/overlay/opening/opened-overlay.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { full, needs, volume } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { bytes, CrashError, counting, type Keeping, Lowers, nameOf, parentOf, ROOT, Stage } from "./stage.ts";
import type { Tree } from "./tree.ts";

const skip = needs("root");

/** What `Stage.build` has not: files and directories that have changed places, that are in a moved directory, and a removed tree. */
async function change(stage: Stage): Promise<void> {
	const rename = (from: string, to: string) =>
		stage.change(({ overlay, at }) => void overlay.rename(at(parentOf(from)), nameOf(from), at(parentOf(to)), nameOf(to), ROOT));
	await rename("file", "d2/file");
	await rename("file2", "file");
	await rename("d2/file", "file2");
	await rename("merged/sub", "d2/sub");
	await rename("d", "d2/sub/d");
	await stage.change(({ overlay, at }) => void overlay.exchange(at("cd"), bytes("f"), at(""), bytes("underneath"), ROOT));
	await stage.change(({ overlay, at }) => void overlay.link(at("links/one"), at("pdir"), bytes("three"), ROOT));
	await stage.change(({ overlay, at }) => void overlay.remove(at("links"), bytes("two"), ROOT));
	await stage.change(({ overlay, at }) => void overlay.setattr(at("sym"), ROOT, { uid: 5 }));
	await stage.change(({ overlay, at }) => void overlay.setattr(at("emptym"), ROOT, { mode: 0o700 }));
	await stage.change(({ overlay, at }) => void overlay.setxattr(at("d2/sub/d/in"), ROOT, bytes("user.a"), bytes("value")));
	await stage.change(({ overlay, at }) => void overlay.remove(at("two"), bytes("a"), ROOT));
}

const run = (stage: Stage) => discard({ overlay: stage.overlay } as OpenedOverlay);

/** What lowers show, which an upper that was never changed does not differ in; and the tree of a changed one. */
async function prepared(stage: Stage): Promise<{ readonly lower: Tree; readonly changed: Tree }> {
	stage.open();
	await run(stage);
	const lower = await stage.observe(true);
	await stage.close();
	await stage.build();
	await change(stage);
	return { lower, changed: await stage.observe(true) };
}

/** All that counts: names, content, attributes, numbers. The ctime of the root is that of upper. */
function shown(tree: Tree): Map<string, object> {
	return new Map([...tree].map(([path, { ctime, ...rest }]) => [path, path === "" ? rest : { ...rest, ctime }]));
}

/** What a handle finds: the file id, or "stale". */
function found(stage: Stage, handle: string): string {
	try {
		const { fileidHi, fileidLo } = stage.overlay.getattr(stage.overlay.decode(Buffer.from(handle, "hex")), false);
		return `${fileidHi}:${fileidLo}`;
	} catch (error) {
		if (error instanceof OverlayError && error.code === "stale") return "stale";
		throw error;
	}
}

async function stopEach(t: TestContext, keeping: Keeping, stride: number, isPartial = false): Promise<void> {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	const before = lowers.snapshot();
	let points = 0;
	for (let stop = stride === 1 ? 0 : 3; ; stop += stride) {
		const stage = new Stage(lowers, `stop-${stop}`, null, isPartial, keeping);
		const { lower, changed } = await prepared(stage);
		const isStopped = await counting(stop, () => run(stage)).then(
			({ value }) => {
				assert.deepEqual(value.left, []);
				return false;
			},
			(error) => {
				if (!(error instanceof CrashError)) throw error;
				return true;
			},
		);
		if (isStopped) {
			stage.abandon();
			stage.open();
			const now = await stage.observe(true);
			const [known, numbers] = [new Map<string, string>(), new Set<string>()];
			for (const { handle, fileid } of [...lower.values(), ...changed.values()]) known.set(handle, fileid);
			for (const [path, { handle, fileid }] of now) {
				assert.equal(known.get(handle), fileid, `${path} after a stop before call ${stop}`);
				numbers.add(handle);
			}
			for (const [handle, fileid] of known) {
				const outcome = await stage.settle(() => found(stage, handle));
				assert.ok(outcome === fileid || (outcome === "stale" && !numbers.has(handle)), `a handle after a stop before call ${stop}`);
			}
			// what there was in the lowers and in upper is in one of them
			for (const [path, { handle }] of lower) {
				const wasThere = [...changed.values()].some((one) => one.handle === handle);
				if (wasThere) assert.ok(numbers.has(handle), `${path} is nowhere after a stop before call ${stop}`);
			}
			assert.deepEqual((await run(stage)).left, []);
		}
		assert.deepEqual(shown(await stage.observe(true)), shown(lower), `discarded after a stop before call ${stop}`);
		await stage.restart();
		assert.deepEqual(shown(await stage.observe(true)), shown(lower), `the same after a start`);
		await stage.close();
		stage.remove();
		if (!isStopped) break;
		points++;
	}
	t.diagnostic(`stopped before ${points} calls`);
	assert.deepEqual(lowers.snapshot(), before, "the lowers, byte for byte");
}

for (const keeping of ["kernel", "portable", "ordinary"] as const) {
	test(`a discard that is stopped before any of its calls leaves each object as before or as in the lowers: ${keeping}`, {
		skip,
	}, async (t) => {
		await stopEach(t, keeping, full ? 1 : volume(keeping === "kernel" ? 41 : 97, 5));
	});
}

test("the same where all lower files count as large, and are copied up in parts", { skip }, async (t) => {
	await stopEach(t, "kernel", full ? 1 : volume(97, 5), true);
});
