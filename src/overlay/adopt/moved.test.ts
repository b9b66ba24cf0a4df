// By what a start knows that upper and work lie where they lay before.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { scratch } from "../../../test/support/scratch.ts";
import { handleOf } from "../../linux/file-handle.ts";
import { close, O, openPath } from "../../linux/open.ts";
import type { Writable } from "../journal/writable.ts";
import { isMoved, notePlace } from "./moved.ts";

function writable(t: TestContext, at: string, kind: string): Writable {
	const fd = openPath(at, O.rdonly | O.directory);
	t.after(() => close(fd));
	return { layer: { root: fd, fileSystem: { name: kind } }, work: { own: fd } } as unknown as Writable;
}

test("a place is inode numbers, with the kernel's handles only where these outlast a mount", (t) => {
	const made = scratch(t);
	const [one, other] = [made.folder("one"), made.folder("other")];
	for (const kind of ["ext4", "fuse", "nfs", "9p"]) {
		const here = writable(t, one, kind);
		assert.ok(isMoved(here, made.path) || kind !== "ext4");
		notePlace(here, made.path);
		assert.ok(!isMoved(here, made.path));
		assert.ok(isMoved(writable(t, other, kind), made.path));
		const hasHandles = /:[0-9a-f]{8}/.test(readFileSync(join(made.path, "place"), "latin1"));
		assert.equal(hasHandles, kind === "ext4" && typeof handleOf(here.layer.root) !== "number");
	}
});
