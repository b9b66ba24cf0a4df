// Owners and modes that are kept beside an inode.

import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { cannotMount, scratch } from "../../test/support/scratch.ts";
import { close, O, openPath } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";
import { getXattr, setXattr } from "../linux/xattr.ts";
import { KeptRights, REAL_RIGHTS, type RightsChange } from "./rights.ts";

const CAPABILITY = "security.capability";
/** struct vfs_cap_data of version 2: CAP_KILL. */
const VALUE = Buffer.from("0100000220000000000000000000000000000000", "hex");
const CHANGES: readonly RightsChange[] = [{ uid: 0, gid: 0 }, { uid: 1001 }, { gid: 1001, mode: 0o755 }, { mode: 0o700 }];

test("a change of owner takes the capabilities of all but directories, as chown(2) does, whichever way owners are kept", {
	skip: needs("root") || cannotMount("ext4"),
}, (t) => {
	const top = scratch(t).mount("ext4", "rights", 16);
	const outcome = (name: string, change: RightsChange, isKept: boolean) => {
		const folder = join(top, name);
		mkdirSync(folder);
		writeFileSync(join(folder, "file"), "");
		mkdirSync(join(folder, "directory"));
		symlinkSync("target", join(folder, "symlink"));
		const rights = isKept ? new KeptRights(true, 0, 0) : REAL_RIGHTS;
		return ["file", "directory", "symlink"].map((kind) => {
			const fd = openPath(join(folder, kind), O.path | O.nofollow);
			const stat = new Stat();
			assert.equal(fstat(fd, stat), 0);
			assert.equal(setXattr(fd, CAPABILITY, VALUE), 0);
			assert.equal(rights.change(fd, stat.type, change), 0);
			const isLeft = typeof getXattr(fd, CAPABILITY) !== "number";
			close(fd);
			return `${kind} ${isLeft ? "keeps" : "loses"}`;
		});
	};
	for (const [index, change] of CHANGES.entries()) {
		const kernel = outcome(`real ${index}`, change, false);
		assert.deepEqual(outcome(`kept ${index}`, change, true), kernel, JSON.stringify(change));
		assert.deepEqual(kernel[1], "directory keeps");
		assert.equal(kernel[2], index === CHANGES.length - 1 ? "symlink keeps" : "symlink loses");
	}
});
