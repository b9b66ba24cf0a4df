import assert from "node:assert/strict";
import { test } from "node:test";
import { FILE_SYSTEM_NAMES } from "../linux/file-system.ts";
import { whyUnfit } from "./unfit-file-system.ts";

test("each file system is refused with its own name, a reason, and what to do", () => {
	for (const [kind, reason, remedy] of [
		["squashfs", "no generation numbers", "Copy the tree to ext4, xfs, btrfs or tmpfs."],
		["erofs", "no generation numbers", "Copy the tree"],
		["iso9660", "no generation numbers", "Copy the tree"],
		["vfat", "makes inode numbers up", "Copy the tree"],
		["exfat", "makes inode numbers up", "Copy the tree"],
		["fuse", "program in user space", "Serve what lies behind it, or copy the tree to ext4"],
		["nfs", "another host", "Run holdfast on that host, or copy the tree"],
		["proc", "made up by the kernel", "Name a tree of files."],
		["zfs", "not known to give handles that hold", "Copy the tree"],
		["type 0x1234", "not known to give handles that hold", "Copy the tree"],
	]) {
		const sentence = whyUnfit(kind, kind, "lower");
		for (const part of [`its file system (${kind}) `, reason, remedy]) assert.ok(sentence.includes(part), sentence);
		assert.equal(sentence.includes("with portable handles (--handles portable) it can be served"), kind !== "proc", sentence);
		assert.ok(whyUnfit(kind, kind, "upper").endsWith(". Choose an upper on ext4, xfs, btrfs or tmpfs."));
	}
	assert.match(whyUnfit("fuse", "fuse.sshfs", "lower"), /^its file system \(fuse\.sshfs\) is run by/);
	assert.match(whyUnfit("overlay", "overlay", "upper"), /cannot hold the changes of another one\. Choose an upper/);
});

test("every sentence ends, and none has a gap", () => {
	for (const kind of FILE_SYSTEM_NAMES.values()) assert.match(whyUnfit(kind, kind, "lower"), /^\S.*[^ .]\. [A-Z].*\.$|overlay/);
});
