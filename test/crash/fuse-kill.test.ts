// A FUSE mount under git, a compiler, sqlite and find, whose server is killed at random moments.

import assert from "node:assert/strict";
import { test } from "node:test";
import { killUnderPrograms } from "../load/fuse-kills.ts";
import { needs, seed, volume } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

const skip = needs("root", "fuse", "git", "gcc", "sqlite3");

test("git, gcc, sqlite and find on a mount whose server is killed again and again see no error, and lose nothing", { skip }, async (t) => {
	const kills = volume(3, 15, 200);
	const report = await killUnderPrograms(scratch(t), seed, (done) => done < kills, volume(["sqlite"], ["git", "gcc", "sqlite", "find"]));
	t.diagnostic(JSON.stringify(report));
	assert.equal(report.kills, kills);
});
