// Figures, uuids, private mounts, locks and the umask.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, readSync, statfsSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { cannotMount, scratch } from "../../test/support/scratch.ts";
import { changeMode } from "./attributes.ts";
import { ERRNO } from "./errno.ts";
import { FILE_SYSTEM_NAMES, fileSystemFigures, fileSystemUuid, openPrivateTree, setUmask, tryLock } from "./file-system.ts";
import { raiseDescriptorLimit } from "./limits.ts";
import { linkName, makeDirectory, makeSymlink, renameName, unlinkName } from "./names.ts";
import { close, O, openAt, openPath } from "./open.ts";
import { setXattr } from "./xattr.ts";

function fixture(context: TestContext) {
	const folder = scratch(context);
	const keep = (fd: number) => {
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	return { folder, keep, open: (path: string, flags: number = O.rdonly) => keep(openPath(path, flags)) };
}

/** Where each kind keeps its uuid on disk, in bytes from the start. */
const UUID_AT = { ext4: 1024 + 0x68, xfs: 32, btrfs: 0x10000 + 32 };

for (const kind of ["ext4", "xfs", "btrfs"] as const) {
	test(`the uuid of an ${kind} is that of its superblock`, { skip: cannotMount(kind) }, (t) => {
		const { folder, open } = fixture(t);
		const directory = open(folder.mount(kind));
		const image = openSync(join(folder.path, `${kind}.img`), "r");
		const onDisk = Buffer.alloc(16);
		readSync(image, onDisk, 0, 16, UUID_AT[kind]);
		closeSync(image);
		assert.ok(onDisk.some((byte) => byte !== 0));
		assert.deepEqual(fileSystemUuid(directory, kind), onDisk);
		// whatever the caller believes it to be, where the kernel has one call for all
		const asked = fileSystemUuid(directory, "any");
		if (Buffer.isBuffer(asked) && asked.some((byte) => byte !== 0)) assert.deepEqual(asked, onDisk);
		const figures = fileSystemFigures(directory);
		assert.ok(typeof figures !== "number");
		assert.equal(FILE_SYSTEM_NAMES.get(figures.magic), kind);
	});
}

test("the uuid of a tmpfs is always the same for a mount, and 16 bytes", { skip: needs("root") }, (t) => {
	const { folder, open } = fixture(t);
	const directory = open(folder.mount("tmpfs", "one", 1));
	const uuid = fileSystemUuid(directory, "tmpfs");
	assert.ok(Buffer.isBuffer(uuid) && uuid.length === 16);
	assert.deepEqual(fileSystemUuid(directory, "tmpfs"), uuid);
	const other = fileSystemUuid(open(folder.mount("tmpfs", "two", 1)), "tmpfs");
	assert.ok(Buffer.isBuffer(other));
	if (uuid.some((byte) => byte !== 0)) assert.notDeepEqual(other, uuid);
});

test("a file system without a uuid has 16 zero bytes, and a bad descriptor says EBADF", (t) => {
	const { open } = fixture(t);
	assert.deepEqual(fileSystemUuid(open("/proc"), "proc"), Buffer.alloc(16));
	assert.equal(fileSystemUuid(-1, "ext4"), -ERRNO.EBADF);
	assert.equal(fileSystemUuid(open("/", O.path), "ext4"), -ERRNO.EBADF);
	assert.equal(fileSystemFigures(-1), -ERRNO.EBADF);
});

test("the figures of a file system are as Node's statfs tells them", { skip: needs("root") }, (t) => {
	const { folder, open } = fixture(t);
	const path = folder.mount("tmpfs", "tmpfs", 3);
	writeFileSync(join(path, "file"), Buffer.alloc(100_000));
	const figures = fileSystemFigures(open(path));
	const node = statfsSync(path);
	assert.deepEqual(figures, {
		magic: node.type,
		blockBytes: node.bsize,
		blocks: node.blocks,
		freeBlocks: node.bfree,
		availableBlocks: node.bavail,
		files: node.files,
		freeFiles: node.ffree,
	});
	assert.equal(node.blocks * node.bsize, 3 * 1024 * 1024);
	assert.ok(node.bfree < node.blocks);
});

test("through a private read-only tree the kernel refuses every change", { skip: needs("root") }, (t) => {
	const { folder, open, keep } = fixture(t);
	folder.file("file", "content");
	folder.folder("directory");
	const tree = keep(openPrivateTree(open(folder.path), true));
	const file = keep(openAt(tree, "file", O.path));
	const refused = {
		write: openAt(tree, "file", O.rdwr),
		truncate: openAt(tree, "file", O.wronly | O.trunc),
		create: openAt(tree, "new", O.creat | O.wronly, 0o600),
		directory: makeDirectory(tree, "new", 0o700),
		symlink: makeSymlink("x", tree, "new"),
		link: linkName(tree, "file", tree, "new"),
		rename: renameName(tree, "file", tree, "new"),
		unlink: unlinkName(tree, "file"),
		mode: changeMode(file, 0o777),
		xattr: setXattr(file, "user.a", Buffer.from("a")),
	};
	for (const [change, status] of Object.entries(refused)) assert.equal(status, -ERRNO.EROFS, change);
	assert.equal(readFileSync(`/proc/self/fd/${keep(openAt(tree, "file", O.rdonly))}`, "utf8"), "content");
	// on the mount that it was made from nothing has changed
	assert.equal(makeDirectory(open(folder.path), "new", 0o700), 0);
});

test("reading through a private tree leaves no access time, where the mount itself would", { skip: needs("root") }, (t) => {
	const { folder, open, keep } = fixture(t);
	const path = folder.mount("tmpfs", "tmpfs", 1);
	for (const isReadOnly of [true, false]) {
		writeFileSync(join(path, "file"), "content");
		mkdirSync(join(path, "d"), { recursive: true });
		utimesSync(join(path, "file"), 1000, 2000);
		const tree = keep(openPrivateTree(open(path), isReadOnly));
		readFileSync(`/proc/self/fd/${keep(openAt(tree, "file", O.rdonly))}`);
		assert.equal(statSync(join(path, "file")).atimeMs, 1_000_000);
		readFileSync(join(path, "file"));
		assert.notEqual(statSync(join(path, "file")).atimeMs, 1_000_000, "the mount of this test keeps no access times");
	}
});

test("in a private tree a mount point shows what it covers", { skip: needs("root") }, (t) => {
	const { folder, open, keep } = fixture(t);
	folder.folder("inside");
	folder.file("inside/covered", "");
	folder.mount("tmpfs", "inside", 1);
	folder.file("inside/above", "");
	const tree = keep(openPrivateTree(open(folder.path), true));
	keep(openAt(tree, "inside/covered", O.path));
	assert.equal(openAt(tree, "inside/above", O.path), -ERRNO.ENOENT);
	keep(openAt(open(folder.path), "inside/above", O.path));
});

test("a private tree that is not read-only can be written to, and what is written is in the real one", { skip: needs("root") }, (t) => {
	const { folder, open, keep } = fixture(t);
	const tree = keep(openPrivateTree(open(folder.path), false));
	assert.equal(makeDirectory(tree, "made", 0o700), 0);
	assert.ok(statSync(join(folder.path, "made")).isDirectory());
});

test("openPrivateTree of what is no directory, or nothing, is refused", { skip: needs("root") }, (t) => {
	const { folder, open } = fixture(t);
	assert.equal(openPrivateTree(open(folder.file("file", "")), true), -ERRNO.ENOTDIR);
	assert.equal(openPrivateTree(-1, true), -ERRNO.EBADF);
});

test("tryLock says EWOULDBLOCK while another process holds the lock, and gets it when that one is killed", {
	skip: needs("flock"),
}, async (t) => {
	const { folder, open } = fixture(t);
	const path = folder.file("lock", "");
	const mine = open(path, O.rdwr);
	const other = spawn("sh", ["-c", 'exec 9<"$0"; flock 9 || exit 1; echo held; exec sleep 60', path], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	folder.beforeRemoval(() => other.kill("SIGKILL"));
	const [answer] = await once(other.stdout, "data");
	assert.equal(String(answer), "held\n");
	assert.equal(tryLock(mine), -ERRNO.EWOULDBLOCK);
	other.kill("SIGKILL");
	await once(other, "exit");
	assert.equal(tryLock(mine), 0);
});

test("what tryLock has locked no other process can lock", { skip: needs("flock") }, (t) => {
	const { folder, open } = fixture(t);
	const path = folder.file("lock", "");
	const mine = openPath(path, O.rdwr);
	assert.equal(tryLock(mine), 0);
	assert.equal(tryLock(mine), 0);
	assert.equal(tryLock(open(path)), -ERRNO.EWOULDBLOCK);
	const attempt = () => spawnSync("flock", ["--nonblock", path, "true"]).status;
	assert.equal(attempt(), 1);
	close(mine);
	assert.equal(attempt(), 0);
	assert.equal(tryLock(-1), -ERRNO.EBADF);
});

test("setUmask sets the mask and returns the former one", () => {
	const former = process.umask();
	assert.equal(setUmask(0o027), former);
	assert.equal(process.umask(), 0o027);
	assert.equal(setUmask(former), 0o027);
});

test("raiseDescriptorLimit raises the soft limit to the hard one and says it", { skip: needs("prlimit") }, () => {
	const limits = () => /^Max open files\s+(\S+)\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.slice(1, 3) ?? [];
	assert.equal(spawnSync("prlimit", ["--pid", String(process.pid), "--nofile=300:"]).status, 0);
	assert.equal(limits()[0], "300");
	const raised = raiseDescriptorLimit();
	const [soft, hard] = limits();
	assert.equal(soft, hard);
	if (hard !== "unlimited") assert.equal(raised, Number(hard));
	assert.equal(raiseDescriptorLimit(), raised);
});
