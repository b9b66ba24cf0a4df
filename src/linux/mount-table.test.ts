// Lines of the mount table, parsed, and the mount of a descriptor.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { openPrivateTree } from "./file-system.ts";
import { mountAtPoint, mountOf, openWholeFileSystem, optionValue, parseMount } from "./mount-table.ts";
import { close, O, openPath } from "./open.ts";

test("a line of the mount table: optional fields are passed over, escapes are undone, options are of the file system", () => {
	const line =
		"36 35 0:41 /a\\040b /mnt/c\\134d ro,noatime shared:1 master:2 - overlay o rw,lowerdir=/x\\054y:/z,upperdir=/\u00fc\\040,nfs_export=on";
	const mount = parseMount(line);
	assert.deepEqual(mount, {
		device: "0:41",
		root: "/a b",
		point: "/mnt/c\\d",
		type: "overlay",
		options: ["rw", "lowerdir=/x,y:/z", "upperdir=/\u00fc ", "nfs_export=on"],
	});
	assert.ok(mount !== null);
	assert.equal(optionValue(mount, "nfs_export"), "on");
	assert.equal(optionValue(mount, "upper"), null);
	assert.equal(parseMount("36 35 0:41 / /mnt rw"), null);
	assert.equal(parseMount(""), null);
});

test("mountOf finds the very mount of a descriptor, and for a private one another of the same file system", {
	skip: needs("root"),
}, (t) => {
	const folder = scratch(t);
	const path = folder.mount("tmpfs", "tmpfs", 1);
	mkdirSync(join(path, "inside"));
	const bound = folder.folder("bound");
	execFileSync("mount", ["--bind", join(path, "inside"), bound]);
	execFileSync("mount", ["-o", "remount,bind,ro", bound]);
	const keep = (fd: number) => {
		assert.ok(fd >= 0);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	const [first, second] = [path, bound].map((at) => keep(openPath(at, O.rdonly | O.directory)));
	assert.deepEqual([mountOf(first)?.point, mountOf(first)?.root, mountOf(first)?.type], [path, "/", "tmpfs"]);
	assert.deepEqual([mountOf(second)?.point, mountOf(second)?.root], [bound, "/inside"]);
	assert.ok(mountOf(second)?.options.includes("rw"), "one read-only mount makes no file system read-only");
	assert.equal(mountOf(keep(openPrivateTree(first, true)))?.type, "tmpfs");
	assert.equal(mountOf(-1), null);

	assert.equal(mountOf(keep(openWholeFileSystem(second)))?.point, path);
	execFileSync("mount", ["-t", "tmpfs", "over", path]);
	assert.ok(openWholeFileSystem(second) < 0, "what shows all of it lies below another mount");
	execFileSync("umount", [path]);
	assert.ok(openWholeFileSystem(-1) < 0);
});

test("mountAtPoint is what was mounted last at a path, and nothing where nothing is", { skip: needs("root") }, (t) => {
	const folder = scratch(t);
	const path = folder.mount("tmpfs", "a b,c", 1);
	assert.equal(mountAtPoint(path)?.type, "tmpfs");
	execFileSync("mount", ["-t", "ramfs", "over", path]);
	assert.equal(mountAtPoint(path)?.type, "ramfs");
	execFileSync("umount", [path]);
	assert.equal(mountAtPoint(path)?.type, "tmpfs");
	assert.equal(mountAtPoint(folder.path), null);
});
