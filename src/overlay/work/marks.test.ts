// Marks beside objects that can have no xattr of ours.

import assert from "node:assert/strict";
import { test } from "node:test";
import { needs } from "../../../test/support/requirements.ts";
import { scratch } from "../../../test/support/scratch.ts";
import { LayerOpener, USER_XATTRS } from "../../layer/layer.ts";
import { changeTimes } from "../../linux/attributes.ts";
import { makeSymlink } from "../../linux/names.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { getMark, setMark } from "./marks.ts";
import { RecordMap } from "./record-map.ts";

test("a mark beside a symlink is found again, and moves the ctime alone, as an xattr of a file does", { skip: needs("root") }, (t) => {
	const folder = scratch(t);
	const work = folder.folder("work");
	const upper = folder.folder("upper");
	const layer = new LayerOpener(USER_XATTRS, "portable").openUpper(upper, openPath(upper, O.rdonly | O.directory));
	const marks = new RecordMap(work, "marks");
	assert.equal(makeSymlink("target", layer.root, "link"), 0);
	const fd = openAt(layer.root, "link", O.path | O.nofollow);
	folder.beforeRemoval(() => {
		close(fd);
		layer.close();
		marks.close();
	});
	assert.equal(changeTimes(fd, { sec: 1, nsec: 2 }, { sec: 3, nsec: 4 }), 0);
	const before = new Stat();
	assert.equal(fstat(fd, before), 0);
	const name = `${layer.xattr.prefix}nlink`;
	// one tick of the coarsest clock later at the most
	const after = new Stat();
	do {
		assert.equal(setMark({ layer, marks }, fd, name, Buffer.from("U+1")), 0);
		assert.equal(fstat(fd, after), 0);
	} while (after.ctimeSec === before.ctimeSec && after.ctimeNsec === before.ctimeNsec);
	assert.deepEqual(getMark({ layer, marks }, fd, FileType.lnk, name), Buffer.from("U+1"));
	for (const key of ["atimeSec", "atimeNsec", "mtimeSec", "mtimeNsec", "nlink", "mode"] as const)
		assert.equal(after[key], before[key], key);
});
