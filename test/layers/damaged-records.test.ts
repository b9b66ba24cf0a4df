/** Records of work that are symlinks: each flipped bit is refused with an error and found by check, or all is served as before. */

import assert from "node:assert/strict";
import { readdirSync, readlinkSync, symlinkSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { TRUSTED_XATTRS, USER_XATTRS } from "../../src/layer/layer.ts";
import { LayerError } from "../../src/layer/layer-error.ts";
import { unseal } from "../../src/layer/sealed-record.ts";
import { checkUpper } from "../../src/overlay/check/check.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { bytes, type Keeping, Lowers, nameOf, parentOf, ROOT, Stage } from "../crash/stage.ts";
import { type Seen, seenBy, type Tree } from "../crash/tree.ts";
import { generator } from "../support/random.ts";
import { needs, sampled, seed, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";

const FOLDERS = ["links", "bases", "data", "marks", "directories", "inodes"];
/** Of each kind of handles: the folders that have records. */
const KEPT: Readonly<Record<Keeping, readonly string[]>> = {
	kernel: ["links", "bases", "data"],
	portable: ["links", "bases", "directories", "link-names"],
	ordinary: ["links", "bases", "marks", "directories", "inodes", "link-names"],
};

interface Place {
	readonly folder: string;
	readonly path: string;
	readonly name: string;
}

function placesIn(stage: Stage): Place[] {
	const own = join(stage.work, "holdfast");
	const namesIn = (folder: string) => {
		try {
			return readdirSync(join(own, folder));
		} catch {
			return [];
		}
	};
	const nested = namesIn("link-names").map((lower) => `link-names/${lower}`);
	return [...FOLDERS, ...nested].flatMap((folder) =>
		namesIn(folder).map((name) => ({ folder: folder.replace(/\/.*/, ""), path: join(own, folder, name), name })),
	);
}

const kept = ({ path }: Place): Buffer => readlinkSync(path, { encoding: "buffer" });

function put({ path }: Place, target: Buffer): void {
	unlinkSync(path);
	symlinkSync(target, path);
}

/** What must not change, as far as nothing is changed. */
function promised({ handle, fileid, type, mode, owner, nlink, content }: Seen): string {
	return [handle, fileid, type, mode, owner, type === "dir" ? "" : nlink, content].join(" ");
}

/** The objects that are refused; all others must be as they were. Null: the export is. */
async function refusedOf(stage: Stage, tree: Tree): Promise<number | null> {
	try {
		stage.open();
	} catch (error) {
		if (error instanceof LayerError || error instanceof OverlayError) return null;
		throw error;
	}
	let refused = 0;
	const ask = async (what: string, expected: string, seen: () => string) => {
		try {
			assert.equal(await stage.settle(seen), expected, what);
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
			assert.equal(error.code, "io", `${what}: ${error.message}`);
			refused++;
		}
	};
	try {
		for (const [path, seen] of tree) {
			await ask(`the handle of /${path}`, promised(seen), () => promised(seenBy(stage, Buffer.from(seen.handle, "hex"))));
			if (path === "") continue;
			const above = Buffer.from((tree.get(parentOf(path)) as Seen).handle, "hex");
			await ask(`the name /${path}`, seen.handle, () => {
				const { overlay } = stage;
				const found = overlay.lookup(overlay.decode(above), nameOf(path), ROOT);
				return found === null ? "nothing" : Buffer.from(found.handle).toString("hex");
			});
		}
	} finally {
		await stage.close();
	}
	return refused;
}

async function built(t: TestContext, keeping: Keeping): Promise<{ readonly stage: Stage; readonly tree: Tree }> {
	const stage = new Stage(new Lowers(scratch(t).mount("ext4")), "stage", null, keeping === "kernel", keeping);
	await stage.build();
	await stage.change(({ overlay, at }) => overlay.remove(at("two"), bytes("a"), ROOT) as undefined);
	await stage.change(({ overlay, at }) => void overlay.setattr(at("sym"), ROOT, { uid: 12, gid: 13 }));
	if (keeping === "kernel") await stage.change(({ overlay, at }) => void overlay.setattr(at("file"), ROOT, { mode: 0o600 }));
	const tree = await stage.observe();
	await stage.close();
	return { stage, tree };
}

function check(stage: Stage, isRepair: boolean) {
	const { upper, work, keeping, lowers } = stage;
	const xattr = keeping === "ordinary" ? USER_XATTRS : TRUSTED_XATTRS;
	return checkUpper({ lowers: lowers.paths, upper, work, xattr, isRepair }).findings.filter(({ severity }) => severity === "error");
}

for (const keeping of ["kernel", "portable", "ordinary"] as const) {
	test(`a flipped bit in a record is told, and nothing wrong is served: ${keeping} handles`, {
		skip: needs("root") || cannotMount("ext4"),
	}, async (t) => {
		const { stage, tree } = await built(t, keeping);
		const places = placesIn(stage);
		assert.deepEqual([...new Set(places.map(({ folder }) => folder))].sort(), [...KEPT[keeping]].sort());
		assert.equal(await refusedOf(stage, tree), 0);
		assert.deepEqual(check(stage, false), []);
		const random = generator(seed);
		const refusedIn = new Set<string>();
		let flips = 0;
		for (const place of sampled(places, 3)) {
			const whole = kept(place);
			for (let i = 0; i < volume(1, 6, 1000); i++) {
				const damaged = Buffer.from(whole);
				const at = random(whole.length);
				damaged[at] ^= 1 << random(8);
				if (damaged[at] === 0) continue;
				flips++;
				put(place, damaged);
				const where = `${place.path}: byte ${at} of ${whole.length} is ${damaged[at]}`;
				const refused = await refusedOf(stage, tree).catch((error: Error) => assert.fail(`${where}: ${error.stack}`));
				// no answer depends on what was there before
				if (place.folder === "bases") assert.equal(refused, 0, where);
				if (refused !== 0 || place.folder === "bases") {
					refusedIn.add(place.folder);
					assert.ok(check(stage, false).length > 0, `${where}: check finds nothing`);
				}
				put(place, whole);
			}
			assert.equal(await refusedOf(stage, tree), 0, `${place.path} restored`);
		}
		const isAll = sampled(places, 3).length === places.length;
		assert.ok(isAll ? KEPT[keeping].every((folder) => refusedIn.has(folder)) : refusedIn.size > 0);
		t.diagnostic(`${flips} flips in ${places.length} records; seed ${seed}`);
	});

	test(`check --repair writes damaged records again where something else tells what they said: ${keeping} handles`, {
		skip: needs("root") || cannotMount("ext4"),
	}, async (t) => {
		const { stage, tree } = await built(t, keeping);
		const mendable = keeping === "kernel" ? ["links"] : ["directories", "inodes"];
		for (const place of placesIn(stage).filter(({ folder }) => mendable.includes(folder))) {
			const damaged = kept(place);
			damaged[damaged.length - 1] ^= 1;
			put(place, damaged);
		}
		assert.notEqual(await refusedOf(stage, tree), 0);
		assert.ok(check(stage, true).every(({ outcome }) => outcome === "repaired"));
		assert.deepEqual(check(stage, false), []);
		assert.equal(await refusedOf(stage, tree), 0);
	});

	test(`records from before there were digests are read, and have one when they are written next: ${keeping} handles`, {
		skip: needs("root") || cannotMount("ext4"),
	}, async (t) => {
		const { stage, tree } = await built(t, keeping);
		for (const place of placesIn(stage)) {
			const value = unseal(place.name, kept(place));
			assert.ok(value !== null && value.length < kept(place).length, `${place.path} has no digest`);
			put(place, value);
		}
		assert.equal(await refusedOf(stage, tree), 0);
		assert.deepEqual(check(stage, false), []);
		if (keeping === "kernel") return;
		const isOld = () => placesIn(stage).filter((place) => unseal(place.name, kept(place))?.equals(kept(place))).length;
		const before = isOld();
		stage.open();
		await stage.change(({ overlay }) => overlay.rename(overlay.root, bytes("pdir"), overlay.root, bytes("moved"), ROOT) as undefined);
		await stage.close();
		assert.equal(isOld(), before - 1);
	});
}
