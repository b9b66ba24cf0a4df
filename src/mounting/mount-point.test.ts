// Where a mount may be made, and where not: whatever stands there, nothing hangs.

import assert from "node:assert/strict";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { type Scratch, scratch } from "../../test/support/scratch.ts";
import { mountAtPoint } from "../linux/mount-table.ts";
import { close } from "../linux/open.ts";
import { mountHere } from "./mount-here.ts";
import { deviceOfOurs, pointPath, preparePoint, stateOfMount } from "./mount-point.ts";
import { unmountAnyhow } from "./ways.ts";

const skip = needs("root", "fuse");

/** The sentence that refuses a point, or null. */
async function refusal(point: string, use: { own?: string[]; isLayer?: boolean; told?: string[] } = {}): Promise<string | null> {
	const { own = [], isLayer = false, told = [] } = use;
	try {
		await preparePoint(point, { tell: (sentence) => told.push(sentence), own, isLayer });
		return null;
	} catch (error) {
		assert.equal((error as Error).name, "MountError");
		return (error as Error).message;
	}
}

/** A mount that nobody serves; `end` lets go of its descriptor. */
function hanging(t: TestContext, made: Scratch) {
	const point = made.folder("a mount");
	const fd = mountHere({ point, source: "/", isReadOnly: false, allowsOther: false, isNodev: true, isNosuid: true });
	assert.ok(typeof fd === "number", `${fd}`);
	let isOpen = true;
	const end = () => {
		if (isOpen) close(fd);
		isOpen = false;
	};
	t.after(end);
	return { point, end };
}

test("a point is a path without links, also where its last name is one", (t) => {
	const made = scratch(t);
	mkdirSync(join(made.folder("real"), "point"));
	symlinkSync("real", join(made.path, "link"));
	symlinkSync("real/point", join(made.path, "to-point"));
	for (const path of ["real/point", "link/point", "to-point", "link/../real/point/"]) {
		assert.equal(pointPath(join(made.path, path)), join(made.path, "real/point"), path);
	}
	assert.equal(pointPath(join(made.path, "link/none")), join(made.path, "link/none"));
	assert.equal(pointPath("/"), "/");
});

test("an empty directory will do, and what is missing, no directory, not empty or the root is refused with a sentence", async (t) => {
	const made = scratch(t);
	const empty = made.folder("empty");
	assert.equal(await refusal(empty), null);
	const none = join(made.path, "no such");
	assert.equal(await refusal(none), `Cannot mount at ${none}: there is no such directory. To make it: mkdir -p '${none}'`);
	const file = made.file("file", "");
	assert.equal(await refusal(file), `Cannot mount at ${file}: it is not a directory.`);
	assert.match((await refusal(join(file, "below"))) ?? "", /ENOTDIR/);
	assert.match((await refusal(made.path)) ?? "", /: it is not empty, and what is in it would be covered\. Choose an empty directory\.$/);
	assert.match((await refusal("/")) ?? "", /^Cannot mount at \/: /);
	symlinkSync("loop", join(made.path, "loop"));
	assert.match((await refusal(join(made.path, "loop"))) ?? "", /ELOOP/);
});

test("a layer may be covered by the mount, and what the server writes to may not", async (t) => {
	const made = scratch(t);
	const layer = made.folder("layer");
	made.file("layer/file", "");
	assert.equal(await refusal(layer, { isLayer: true }), null);
	const upper = made.folder("upper");
	for (const point of [upper, made.folder("upper/below")]) {
		const sentence = `Cannot mount at ${point}: it lies in ${upper}, where the server keeps what is its own.`;
		assert.equal(await refusal(point, { own: [join(made.path, "other"), upper] }), sentence);
	}
	assert.equal(await refusal(made.folder("upper-beside"), { own: [upper] }), null);
});

test("a mount whose server hangs is told from one that is dead, which the next mount takes away", { skip }, async (t) => {
	const { point, end } = hanging(t, scratch(t));
	assert.equal(pointPath(point), point);
	assert.notEqual(deviceOfOurs(point), null);
	const sentence = `Cannot mount at ${point}: a mount of holdfast is there whose server does not answer. To end that: holdfast unmount '${point}'`;
	assert.equal(await refusal(point), sentence);
	end();
	assert.equal(await stateOfMount(point), "dead");
	const told: string[] = [];
	assert.equal(await refusal(point, { told }), null);
	assert.deepEqual(told, [`The mount at ${point} had lost its server: it was taken away.`]);
	assert.equal(mountAtPoint(point), null);
});

test("unmounting what hangs does not wait for its server", { skip }, async (t) => {
	const { point } = hanging(t, scratch(t));
	assert.equal(await unmountAnyhow(point, false), null);
	assert.equal(deviceOfOurs(point), null);
});
