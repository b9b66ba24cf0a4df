// Layers opened on each file system, and what is refused.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs, sbinPath } from "../../test/support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../../test/support/scratch.ts";
import { ERRNO } from "../linux/errno.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { setXattr } from "../linux/xattr.ts";
import { type Layer, LayerOpener, onOneMount, overlayXattrs, refuseOverlaps, TRUSTED_XATTRS } from "./layer.ts";
import { LayerError } from "./layer-error.ts";

const ROOT = { skip: needs("root") };

function fixture(context: TestContext) {
	const folder = scratch(context);
	const opener = new LayerOpener();
	const keep = (layer: Layer) => {
		folder.beforeRemoval(() => layer.close());
		return layer;
	};
	return { folder, opener, lower: (path: string) => keep(opener.openLower(path)) };
}

function refused(open: () => unknown, message: RegExp): void {
	assert.throws(open, (error) => error instanceof LayerError && message.test(error.message));
}

test("directories of one file system share it, and directories of two have one each", ROOT, (t) => {
	const { folder, lower } = fixture(t);
	const one = folder.mount("tmpfs", "one", 1);
	const two = folder.mount("tmpfs", "two", 1);
	mkdirSync(join(one, "a"));
	mkdirSync(join(one, "b"));
	const layers = [join(one, "a"), join(one, "b"), two].map(lower);
	assert.equal(layers[0].fileSystem, layers[1].fileSystem);
	assert.notEqual(layers[0].fileSystem, layers[2].fileSystem);
	assert.deepEqual(
		layers.map((layer) => layer.fileSystem.number),
		[0, 0, 1],
	);
	assert.equal(layers[0].fileSystem.name, "tmpfs");
	assert.ok(layers[0].isRoot(layers[0].rootStat));
	assert.ok(!layers[0].isRoot(layers[1].rootStat));
});

test("a lower is opened read-only, and from outside .. leads on", ROOT, (t) => {
	const { folder, lower } = fixture(t);
	folder.folder("lower/inside");
	const layer = lower(folder.folder("lower"));
	assert.equal(openAt(layer.root, "new", O.creat | O.wronly, 0o600), -ERRNO.EROFS);
	const up = openAt(layer.outside, "..", O.path);
	assert.ok(up >= 0);
	close(up);
	assert.ok(!onOneMount(layer.root, layer.outside));
	assert.ok(onOneMount(layer.outside, layer.outside));
});

test("what is no directory, or not there, or on a file system without lasting handles, is refused with its name", ROOT, (t) => {
	const { folder, opener } = fixture(t);
	refused(() => opener.openLower(join(folder.path, "nothing")), /nothing: there is no such directory/);
	refused(() => opener.openLower(folder.file("file", "")), /file: it is not a directory/);
	refused(() => opener.openLower("/proc"), /\/proc: its file system \(proc\) is made up by the kernel/);
	refused(() => opener.openLower("/sys"), /\/sys: its file system \(sysfs\)/);
});

test("one directory given twice is refused, by whatever name, mount or link", ROOT, (t) => {
	const { folder, lower } = fixture(t);
	const path = folder.mount("tmpfs", "tmpfs", 1);
	mkdirSync(join(path, "a"));
	symlinkSync(join(path, "a"), join(folder.path, "link"));
	execFileSync("mount", ["--bind", join(path, "a"), folder.folder("bound")]);
	for (const again of [join(path, "a"), join(path, "a/../a"), join(folder.path, "link"), join(folder.path, "bound")]) {
		refused(() => refuseOverlaps([lower(join(path, "a")), lower(again)]), /they are the same directory/);
	}
});

test("a layer inside another is refused in either order, also over a bind mount, and siblings are not", ROOT, (t) => {
	const { folder, lower } = fixture(t);
	const path = folder.mount("tmpfs", "tmpfs", 1);
	mkdirSync(join(path, "a/deep/inside"), { recursive: true });
	mkdirSync(join(path, "ab"));
	execFileSync("mount", ["--bind", join(path, "a/deep/inside"), folder.folder("bound")]);
	const outer = lower(join(path, "a"));
	for (const inner of [join(path, "a/deep"), join(path, "a/deep/inside"), join(folder.path, "bound")]) {
		const layer = lower(inner);
		refused(() => refuseOverlaps([outer, layer]), /Layers must not overlap/);
		refused(() => refuseOverlaps([layer, outer]), /Layers must not overlap/);
	}
	refuseOverlaps([outer, lower(join(path, "ab"))]);
	refuseOverlaps([]);
});

test("a directory on which another file system is mounted is no overlap with that one", ROOT, (t) => {
	const { folder, lower } = fixture(t);
	folder.folder("outer/inside");
	const inside = folder.mount("tmpfs", "outer/inside", 1);
	refuseOverlaps([lower(join(folder.path, "outer")), lower(inside)]);
});

test("a directory that is mounted inside a layer from elsewhere is no overlap, and one that two mounts show only in part is", ROOT, (t) => {
	const { folder, lower } = fixture(t);
	const path = folder.mount("tmpfs", "tmpfs", 1);
	for (const name of ["outer/place", "elsewhere", "base/outer/inner"]) mkdirSync(join(path, name), { recursive: true });
	execFileSync("mount", ["--bind", join(path, "elsewhere"), join(path, "outer/place")]);
	refuseOverlaps([lower(join(path, "outer")), lower(join(path, "outer/place"))]);
	for (const [name, of] of [
		["outer", "base/outer"],
		["inner", "base/outer/inner"],
	]) {
		execFileSync("mount", ["--bind", join(path, of), folder.folder(name)]);
	}
	const [outer, inner] = ["outer", "inner"].map((name) => lower(join(folder.path, name)));
	for (const isHidden of [false, true]) {
		// then nothing shows the whole file system any more
		if (isHidden) execFileSync("mount", ["-t", "tmpfs", "over", path]);
		refused(() => refuseOverlaps([outer, inner]), /inner and .*outer together: the first lies inside the second/);
		refused(() => refuseOverlaps([inner, outer]), /inner and .*outer together: the first lies inside the second/);
	}
});

test("the way up is gone once from each of many layers, not once for each pair", ROOT, (t) => {
	const { folder, lower } = fixture(t);
	const path = folder.mount("tmpfs", "tmpfs", 8);
	const layers = Array.from({ length: 400 }, (_, i) => {
		mkdirSync(join(path, `l${i}`));
		return lower(join(path, `l${i}`));
	});
	/** How often anything of a layer was looked at. */
	const looks = (some: readonly Layer[]) => {
		let count = 0;
		const watched = some.map(
			(layer) =>
				new Proxy(layer, {
					get(target, key) {
						count++;
						return Reflect.get(target, key, target);
					},
				}),
		);
		refuseOverlaps(watched);
		return count;
	};
	// 8 times as many are looked at 64 times as often where each is compared with each
	assert.ok(looks(layers) <= 8 * looks(layers.slice(0, 50)));
});

/** Mounts an ext4 and a copy of its image, made from it by `change`. */
function twins(folder: Scratch, change: (image: string) => void): string[] {
	folder.unmount(folder.mount("ext4", "one", 8));
	change(join(folder.path, "one.img"));
	copyFileSync(join(folder.path, "one.img"), join(folder.path, "two.img"));
	return ["one", "two"].map((name) => folder.mountImage(name));
}

test("two file systems with one uuid are refused, with the uuid and what to do", { skip: cannotMount("ext4") }, (t) => {
	const { folder, opener, lower } = fixture(t);
	const [one, two] = twins(folder, () => {});
	const { fileSystem } = lower(one);
	refused(
		() => opener.openLower(two),
		new RegExp(`${one} and ${two} apart: both have the uuid ${fileSystem.uuid.toString("hex")}.*tune2fs`),
	);
	// a second directory of the first is none of it
	mkdirSync(join(one, "again"));
	assert.equal(lower(join(one, "again")).fileSystem, fileSystem);
});

test("two file systems without a uuid are refused, one is not", { skip: cannotMount("ext4") || needs("tune2fs") }, (t) => {
	const { folder, opener, lower } = fixture(t);
	const [one, two] = twins(folder, (image) => {
		const options = { stdio: "pipe", env: { ...process.env, PATH: sbinPath() } } as const;
		// tune2fs wants a file system that was checked since it was mounted last, by a clock of seconds
		execFileSync("e2fsck", ["-fy", image], options);
		execFileSync("tune2fs", ["-U", "clear", image], options);
	});
	assert.deepEqual(lower(one).fileSystem.uuid, Buffer.alloc(16));
	refused(() => opener.openLower(two), /apart: neither has a uuid/);
});

test("a refused layer leaves no descriptor open", { skip: cannotMount("ext4") }, (t) => {
	const { folder, opener, lower } = fixture(t);
	const [one, two] = twins(folder, () => {});
	lower(one);
	const next = () => {
		const fd = openPath("/", O.path);
		close(fd);
		return fd;
	};
	const before = next();
	assert.throws(() => opener.openLower(two), LayerError);
	assert.throws(() => opener.openLower("/proc"), LayerError);
	assert.equal(next(), before);
});

test("subvolumes of one btrfs share its file system, and one inside another is an overlap", { skip: cannotMount("btrfs") }, (t) => {
	const { folder, lower } = fixture(t);
	const path = folder.mount("btrfs");
	const subvolume = (name: string) => {
		execFileSync("btrfs", ["subvolume", "create", join(path, name)], { stdio: "pipe", env: { ...process.env, PATH: sbinPath() } });
		return join(path, name);
	};
	const [a, b, nested] = ["a", "b", "a/nested"].map(subvolume).map(lower);
	assert.equal(a.fileSystem, b.fileSystem);
	assert.equal(a.fileSystem, nested.fileSystem);
	assert.ok(!a.rootStat.sameInode(b.rootStat));
	refuseOverlaps([a, b]);
	refused(() => refuseOverlaps([a, nested]), /Layers must not overlap/);
	refused(() => refuseOverlaps([lower(path), b]), /Layers must not overlap/);
	// mounted by itself it is the same subvolume still
	execFileSync("mount", ["-o", "loop,subvol=b", join(folder.path, "btrfs.img"), folder.folder("mounted")]);
	const mounted = lower(join(folder.path, "mounted"));
	assert.equal(mounted.fileSystem, b.fileSystem);
	refused(() => refuseOverlaps([b, mounted]), /they are the same directory/);
});

test("overlayXattrs names the overlay's own attributes without their prefix, and no others", ROOT, (t) => {
	const folder = scratch(t);
	const path = folder.mount("tmpfs", "tmpfs", 1);
	writeFileSync(join(path, "file"), "");
	const fd = openPath(join(path, "file"), O.rdonly);
	folder.beforeRemoval(() => close(fd));
	assert.deepEqual(overlayXattrs(fd, TRUSTED_XATTRS), []);
	for (const name of ["trusted.overlay.opaque", "trusted.overlay.overlay.opaque", "trusted.overlays", "user.overlay.opaque"]) {
		setXattr(fd, name, Buffer.from("y"));
	}
	assert.deepEqual(overlayXattrs(fd, TRUSTED_XATTRS).sort(), ["opaque", "overlay.opaque"]);
});
