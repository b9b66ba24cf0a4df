// Directories that ignore case, on file systems that have them and that do not.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs, sbinPath } from "../../test/support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../../test/support/scratch.ts";
import { ERRNO } from "../linux/errno.ts";
import { inodeFlags } from "../linux/file-system.ts";
import { close, O, openPath } from "../linux/open.ts";
import { hasCasefoldFeature, isCasefolded, mayCasefold } from "./casefold.ts";
import { LayerOpener } from "./layer.ts";
import { LayerError } from "./layer-error.ts";

const CASEFOLD = 0x40000000;
const NODUMP = 0x40;

const noCasefold = existsSync("/sys/fs/ext4/features/casefold") ? false : "this kernel was built without casefold (CONFIG_UNICODE)";

function run(command: string, ...args: string[]): void {
	execFileSync(command, args, { stdio: "pipe", env: { ...process.env, PATH: sbinPath() } });
}

function opened(folder: Scratch, path: string, flags: number = O.rdonly): number {
	const fd = openPath(path, flags | O.directory);
	assert.ok(fd >= 0);
	folder.beforeRemoval(() => close(fd));
	return fd;
}

function image(folder: Scratch, name: string, features: string): string {
	const path = join(folder.path, `${name}.img`);
	writeFileSync(path, "");
	truncateSync(path, 8 << 20);
	run("mkfs.ext4", "-q", "-F", "-O", features, path);
	return path;
}

test("the flag is read through any descriptor of the directory, among others, and an error is none", (t) => {
	const folder = scratch(t);
	const [readable, path] = [opened(folder, folder.path), opened(folder, folder.path, O.path)];
	for (const fd of [readable, path]) {
		assert.ok(isCasefolded(fd, () => CASEFOLD | 0x80000));
		assert.ok(!isCasefolded(fd, () => 0x80000));
		assert.ok(!isCasefolded(fd, () => -ERRNO.ENOTTY));
		assert.ok(!isCasefolded(fd));
	}
	assert.ok(!isCasefolded(-1, () => CASEFOLD));
});

test("inodeFlags tells what chattr has set", { skip: cannotMount("ext4") || needs("chattr") }, (t) => {
	const folder = scratch(t);
	const path = join(folder.mount("ext4", "ext4", 8), "d");
	mkdirSync(path);
	const fd = opened(folder, path);
	assert.equal(inodeFlags(fd) & NODUMP, 0);
	run("chattr", "+d", path);
	assert.equal(inodeFlags(fd) & NODUMP, NODUMP);
	assert.equal(inodeFlags(opened(folder, "/proc")), -ERRNO.ENOTTY);
});

test("the superblock of an ext4 says whether it was made for casefold", { skip: needs("mkfs.ext4") }, (t) => {
	const folder = scratch(t);
	assert.equal(hasCasefoldFeature(image(folder, "with", "casefold")), true);
	assert.equal(hasCasefoldFeature(image(folder, "without", "^casefold")), false);
	assert.equal(hasCasefoldFeature(folder.file("short", "x")), null);
	assert.equal(hasCasefoldFeature(folder.file("zeros", Buffer.alloc(4096))), null);
	assert.equal(hasCasefoldFeature(folder.path), null);
	assert.equal(hasCasefoldFeature(join(folder.path, "nothing")), null);
});

test("file systems that cannot have such directories are never asked", { skip: cannotMount("ext4") }, (t) => {
	const folder = scratch(t);
	assert.equal(mayCasefold(opened(folder, folder.mount("ext4", "ext4", 8)), "ext4"), false);
	assert.equal(mayCasefold(opened(folder, folder.mount("tmpfs", "tmpfs", 1)), "tmpfs"), false);
	for (const name of ["xfs", "btrfs", "overlay"]) assert.equal(mayCasefold(opened(folder, folder.path), name), false);
});

for (const kind of ["ext4", "tmpfs"] as const) {
	test(`a layer whose root ignores case is refused on ${kind}, and its directories are known below`, {
		skip: noCasefold || cannotMount(kind) || needs("chattr"),
	}, (t) => {
		const folder = scratch(t);
		const at = folder.folder("at");
		if (kind === "ext4") run("mount", "-o", "loop", image(folder, "folding", "casefold"), at);
		else run("mount", "-t", "tmpfs", "-o", "casefold=utf8-12.1.0", "holdfast-test", at);
		for (const name of ["folded", "plain"]) mkdirSync(join(at, name));
		run("chattr", "+F", join(at, "folded"));
		const fd = opened(folder, at);
		assert.ok(mayCasefold(fd, kind));
		assert.ok(isCasefolded(opened(folder, join(at, "folded"), O.path)));
		assert.ok(!isCasefolded(opened(folder, join(at, "plain"), O.path)));
		assert.throws(
			() => new LayerOpener().openLower(join(at, "folded")),
			(error) => error instanceof LayerError && /ignores the case of names/.test(error.message),
		);
		const layer = new LayerOpener().openLower(join(at, "plain"));
		assert.ok(layer.fileSystem.mayCasefold);
		layer.close();
	});
}
