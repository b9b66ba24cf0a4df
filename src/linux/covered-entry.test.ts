// Names that a mount covers, looked at by calls of this folder.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { coverEntry } from "./covered-entry.ts";
import { close, O, openAt, openBeneath, openPath, RESOLVE } from "./open.ts";
import { fstat, Stat, statAt } from "./stat.ts";
import { getXattrAt, setXattr } from "./xattr.ts";

test("a covered name is looked up, opened and asked for attributes as the directory below the mount, and no other name is", {
	skip: needs("root"),
}, (t) => {
	const made = scratch(t);
	const [folder, other] = [made.folder("folder"), made.folder("other")];
	for (const path of [folder, other]) mkdirSync(`${path}/name`);
	const below = openPath(`${folder}/name`, O.path | O.directory);
	const directory = openPath(folder, O.path | O.directory);
	const [parent, real, seen] = [new Stat(), new Stat(), new Stat()];
	fstat(directory, parent);
	fstat(below, real);
	setXattr(below, "trusted.of", Buffer.from("below"));
	made.mount("tmpfs", "folder/name", 1);
	assert.ok(statAt(directory, "name", seen) === 0 && !seen.sameInode(real), "it is covered");
	coverEntry(parent, Buffer.from("name"), below);
	assert.ok(statAt(directory, Buffer.from("name"), seen) === 0 && seen.sameInode(real));
	assert.equal(`${getXattrAt(directory, "name", "trusted.of")}`, "below");
	for (const fd of [openAt(directory, "name", O.path | O.nofollow), openBeneath(directory, "name", O.path, RESOLVE.noXdev)]) {
		assert.ok(fd >= 0 && fstat(fd, seen) === 0 && seen.sameInode(real));
		close(fd);
	}
	const elsewhere = openPath(other, O.path | O.directory);
	assert.ok(statAt(elsewhere, "name", seen) === 0 && !seen.sameInode(real));
	for (const fd of [below, directory, elsewhere]) close(fd);
});
