// Trees on a file system whose server is gone: they are told within the time there is, and others are not held up.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { runHoldfast } from "../../test/support/server-process.ts";
import { silentTrees } from "./answering.ts";
import { StateFolder } from "./state-folder.ts";
import { identityOf } from "./tree-identity.ts";

test("a tree on a dead mount is not answering, for list too, and all others are as they are", { skip: needs("root", "fuse") }, (t) => {
	const made = scratch(t);
	const [dead, live] = [made.folder("dead"), made.folder("live")];
	const root = join(made.path, "state");
	const state = StateFolder.open(root);
	for (const tree of [dead, live]) mkdirSync(state.make(identityOf(tree), null, false).upper);
	state.close();
	const fuse = openSync("/dev/fuse", "r+");
	// nobody will ever read a request
	execFileSync("mount", ["-i", "-n", "-t", "fuse", "-o", "fd=3,rootmode=40000,user_id=0,group_id=0", "dead", dead], {
		stdio: ["ignore", "inherit", "inherit", fuse],
	});
	// whoever waits for it fails then
	made.beforeRemoval(() => closeSync(fuse));
	assert.deepEqual([...silentTrees([live, dead, join(dead, "below"), join(made.path, "nothing")])], [dead, join(dead, "below")]);
	const { code, stdout } = runHoldfast(["list", "--state-dir", root]);
	assert.equal(code, 0);
	const lines = stdout.trim().split("\n");
	assert.match(lines.find((line) => line.startsWith("dead")) ?? "", /\/dead \(not answering\)$/);
	assert.match(lines.find((line) => line.startsWith("live")) ?? "", /\/live$/);
});
