// What people are told of file systems that cannot be served.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FILE_SYSTEM_NAMES } from "../linux/file-system.ts";
import { whyUnfit } from "./unfit-file-system.ts";

function sentence(kind: string, name: string, role: "lower" | "upper"): string {
	const { fact, remedy } = whyUnfit(kind, name, role);
	return `${fact}. ${remedy}`;
}

test("each file system is refused with its own name, a reason, and what to do", () => {
	for (const [kind, reason, remedy] of [
		["squashfs", "no generation numbers", "Else copy the tree to ext4, xfs, btrfs or tmpfs."],
		["erofs", "no generation numbers", "Else copy the tree"],
		["iso9660", "no generation numbers", "Else copy the tree"],
		["vfat", "makes inode numbers up", "Else copy the tree"],
		["exfat", "makes inode numbers up", "Else copy the tree"],
		["fuse", "program in user space", "Else serve what lies behind it, or copy the tree to ext4"],
		["nfs", "another host", "Else run holdfast on that host, or copy the tree"],
		["proc", "made up by the kernel", "Name a tree of files."],
		["zfs", "not known to give handles that hold", "Else copy the tree"],
		["type 0x1234", "not known to give handles that hold", "Else copy the tree"],
	]) {
		const text = sentence(kind, kind, "lower");
		for (const part of [`its file system (${kind}) `, reason, remedy]) assert.ok(text.includes(part), text);
		assert.equal(text.includes("With portable handles (--handles portable) it can be served."), kind !== "proc", text);
		assert.ok(sentence(kind, kind, "upper").endsWith(". Choose an upper on ext4, xfs, btrfs or tmpfs."));
	}
	assert.match(sentence("fuse", "fuse.sshfs", "lower"), /^its file system \(fuse\.sshfs\) is run by/);
	assert.match(sentence("overlay", "overlay", "upper"), /cannot hold the changes of another one\. Choose an upper/);
});

test("every sentence ends, and none has a gap", () => {
	for (const kind of FILE_SYSTEM_NAMES.values()) assert.match(sentence(kind, kind, "lower"), /^\S.*[^ .]\. [A-Z].*\.$|overlay/);
});
