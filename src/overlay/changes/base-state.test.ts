// Whether the base of a change has changed since: recorded at copy up and removal, and told of each path.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, chmodSync, linkSync, renameSync, rmSync, symlinkSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { plant } from "../../../test/support/lower-tree.ts";
import { needs } from "../../../test/support/requirements.ts";
import { scratch } from "../../../test/support/scratch.ts";
import type { OverlayObject } from "../../vfs/operations.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { changeList } from "./change-list.ts";

const ROOT = { uid: 0, gid: 0, gids: [] };
const skip = needs("root");
const KINDS = ["kernel", "portable"] as const;

/** Each is changed, by a client, in its own way: see `change`. */
const NAMES = ["written", "chmodded", "removed", "replaced", "renamed", "twice", "link", "type", "copied-then-removed"] as const;

function makeLower(top: string): string {
	const lower = join(top, "lower");
	plant(lower, { "emptied/": "", "moved/file": "in it" });
	for (const name of NAMES) if (name !== "link") plant(lower, { [name]: `content of ${name}` });
	linkSync(join(lower, "twice"), join(lower, "twice too"));
	symlinkSync("target", join(lower, "link"));
	for (const name of NAMES) if (name !== "link") utimesSync(join(lower, name), 1_700_000_000, 1_700_000_000);
	return lower;
}

async function change({ overlay }: OpenedOverlay): Promise<void> {
	const { root } = overlay;
	const at = (name: string): OverlayObject => overlay.lookup(root, Buffer.from(name), ROOT) as OverlayObject;
	const b = Buffer.from;
	for (const step of [
		() => overlay.write(at("written"), ROOT, 0, b("new"), "open"),
		() => overlay.setattr(at("chmodded"), ROOT, { mode: 0o600 }, undefined, null),
		() => overlay.remove(root, b("removed"), ROOT, null),
		() => overlay.create(root, b("another"), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }, null),
		() => overlay.rename(root, b("another"), root, b("replaced"), ROOT, null),
		() => overlay.rename(root, b("renamed"), root, b("now here"), ROOT, null),
		() => overlay.remove(root, b("twice"), ROOT, null),
		() => overlay.remove(root, b("link"), ROOT, null),
		() => overlay.remove(root, b("type"), ROOT, null),
		() => overlay.mkdir(root, b("type"), ROOT, { mode: 0o755 }, null),
		() => overlay.write(at("copied-then-removed"), ROOT, 0, b("gone"), "open"),
		() => overlay.remove(root, b("copied-then-removed"), ROOT, null),
		() => overlay.rmdir(root, b("emptied"), ROOT, null),
		() => overlay.rename(root, b("moved"), root, b("moved away"), ROOT, null),
	]) {
		await inPasses<unknown>(overlay, step);
	}
}

async function bases(opened: OpenedOverlay): Promise<Record<string, string>> {
	const told: Record<string, string> = {};
	for await (const { path, kind, base, baseState } of changeList(opened, { tellsBase: true })) {
		if (base !== null) told[path.toString()] = `${kind} ${baseState}`;
	}
	return told;
}

interface Stand {
	readonly lower: string;
	readonly upper: string;
	readonly folder: string;
	open(purpose: "serve" | "inspect"): OpenedOverlay;
}

function standOf(t: TestContext, handles: (typeof KINDS)[number]): Stand {
	const made = scratch(t);
	const lower = makeLower(made.path);
	const [upper, work] = [join(made.path, "upper"), join(made.path, "work")];
	const stateFolder = made.folder("state");
	const open = (purpose: "serve" | "inspect") =>
		openOverlay({ lowers: [lower], upper, work, stateFolder, isSync: false, handles, purpose });
	return { lower, upper, folder: join(work, "holdfast"), open };
}

async function changedStand(t: TestContext, handles: (typeof KINDS)[number]): Promise<Stand> {
	const stand = standOf(t, handles);
	const opened = stand.open("serve");
	await change(opened);
	await opened.overlay.close();
	return stand;
}

async function inspected({ open }: Stand): Promise<Record<string, string>> {
	const opened = open("inspect");
	try {
		return await bases(opened);
	} finally {
		await opened.overlay.close();
	}
}

const KINDS_OF_CHANGE: Readonly<Record<string, string>> = {
	chmodded: "metadata",
	"copied-then-removed": "removed",
	emptied: "removed",
	link: "removed",
	"moved away": "renamed",
	removed: "removed",
	renamed: "removed",
	replaced: "changed",
	twice: "removed",
	type: "changed",
	written: "changed",
};

const all = (state: string) => Object.fromEntries(Object.entries(KINDS_OF_CHANGE).map(([path, kind]) => [path, `${kind} ${state}`]));

for (const handles of KINDS) {
	test(`as long as nobody touches the lower every base is unchanged, also for the next process, ${handles} handles`, {
		skip,
	}, async (t) => {
		assert.deepEqual(await inspected(await changedStand(t, handles)), all("unchanged"));
	});

	test(`what its owner has written to since is changed, and nothing else is, ${handles} handles`, { skip }, async (t) => {
		const stand = await changedStand(t, handles);
		for (const name of NAMES) {
			if (name === "link") continue;
			appendFileSync(join(stand.lower, name), "more");
			const told = await inspected(stand);
			assert.match(told[name], / changed$/, name);
			const others = Object.entries(told).filter(([path]) => !NAMES.slice(0, NAMES.indexOf(name) + 1).some((done) => done === path));
			for (const [path, state] of others) assert.match(state, / unchanged$/, `${path} after ${name}`);
		}
	});

	test(`size and time of modification alone do not hide a change, ${handles} handles`, { skip }, async (t) => {
		const stand = await changedStand(t, handles);
		for (const name of ["written", "removed", "replaced", "twice", "type", "copied-then-removed"]) {
			writeFileSync(join(stand.lower, name), `CONTENT of ${name}`);
			utimesSync(join(stand.lower, name), 1_700_000_000, 1_700_000_000);
		}
		chmodSync(join(stand.lower, "chmodded"), 0o640);
		const told = await inspected(stand);
		for (const name of ["written", "removed", "replaced", "twice", "type", "copied-then-removed", "chmodded"]) {
			assert.match(told[name], / changed$/, name);
		}
		assert.match(told.link, / unchanged$/);
	});

	test(`another object in the place of what was there is a changed base, ${handles} handles`, { skip }, async (t) => {
		const stand = await changedStand(t, handles);
		for (const name of ["written", "removed", "replaced", "link", "type", "renamed"]) {
			writeFileSync(join(stand.lower, `${name}.new`), "by its owner");
			renameSync(join(stand.lower, `${name}.new`), join(stand.lower, name));
		}
		plant(stand.lower, { "emptied/new": "in a directory that is gone here" });
		const told = await inspected(stand);
		for (const name of ["written", "removed", "replaced", "link", "type", "renamed", "emptied"])
			assert.match(told[name], / changed$/, name);
		assert.match(told.chmodded, / unchanged$/);
		// gone in both: nothing to tell. By the names in its root a lower is known where ids are portable
		if (handles === "portable") return;
		unlinkSync(join(stand.lower, "removed"));
		assert.equal((await inspected(stand)).removed, undefined);
	});

	test(`an upper of before, without records, has unknown bases, and damaged ones are unknown too, ${handles} handles`, {
		skip,
	}, async (t) => {
		const stand = await changedStand(t, handles);
		rmSync(join(stand.folder, "all-bases"));
		rmSync(join(stand.folder, "bases"), { recursive: true });
		const path = join(stand.upper, "written");
		const hex = execFileSync("getfattr", ["--only-values", "-n", "trusted.overlay.origin", path]);
		const cut = hex.subarray(0, hex[2]);
		assert.ok(cut.length < hex.length);
		execFileSync("setfattr", ["-n", "trusted.overlay.origin", "-v", `0x${cut.toString("hex")}`, path]);
		const other = join(stand.upper, "chmodded");
		const damaged = execFileSync("getfattr", ["--only-values", "-n", "trusted.overlay.origin", other]);
		damaged[damaged.length - 1] ^= 4;
		execFileSync("setfattr", ["-n", "trusted.overlay.origin", "-v", `0x${damaged.toString("hex")}`, other]);
		const told = await inspected(stand);
		for (const name of ["written", "chmodded", "removed", "replaced", "emptied"]) assert.match(told[name], / unknown$/, name);
		assert.match(told.renamed, / unchanged$/);
	});
}

test("over a copy of its lower an upper with portable handles says what has changed, and of the rest that it is unknown", {
	skip,
}, async (t) => {
	const stand = await changedStand(t, "portable");
	execFileSync("cp", ["-a", stand.lower, `${stand.lower}.copy`]);
	rmSync(stand.lower, { recursive: true });
	renameSync(`${stand.lower}.copy`, stand.lower);
	appendFileSync(join(stand.lower, "removed"), "more");
	const told = await inspected(stand);
	assert.equal(told.removed, "removed changed");
	assert.equal(told.written, "changed unknown");
});
