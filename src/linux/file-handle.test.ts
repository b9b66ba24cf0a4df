// Kernel handles taken, opened, and stale.

import assert from "node:assert/strict";
import { lstatSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../../test/support/scratch.ts";
import { ERRNO } from "./errno.ts";
import { type FileHandle, handleAt, handleOf, openByHandle } from "./file-handle.ts";
import { linkName, makeNode } from "./names.ts";
import { close, O, openAt, openPath } from "./open.ts";
import { fstat, Stat } from "./stat.ts";

function fixture(context: TestContext, kind: FileSystem) {
	const folder = scratch(context);
	const keep = (fd: number) => {
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	const path = folder.mount(kind);
	return { path, keep, directory: keep(openPath(path, O.rdonly | O.directory)) };
}

function good(handle: FileHandle | number): FileHandle {
	assert.ok(typeof handle !== "number", `errno ${handle}`);
	return handle;
}

/** The inode number behind a handle, or the negated error number. */
function inodeOf(mount: number, handle: FileHandle): bigint | number {
	const fd = openByHandle(mount, handle, O.path | O.nofollow);
	if (fd < 0) return fd;
	const stat = new Stat();
	fstat(fd, stat);
	close(fd);
	return (BigInt(stat.inoHi) << 32n) | BigInt(stat.inoLo);
}

for (const kind of ["ext4", "xfs", "btrfs", "tmpfs"] as const) {
	const options = { skip: cannotMount(kind) };

	test(`on ${kind} a handle of each kind of object leads back to its inode, whatever its name is by then`, options, (t) => {
		const { path, directory, keep } = fixture(t, kind);
		writeFileSync(join(path, "file"), "");
		mkdirSync(join(path, "directory"));
		symlinkSync("nowhere", join(path, "link"));
		makeNode(directory, "fifo", 0o010600, 0, 0);
		for (const name of ["file", "directory", "link", "fifo"]) {
			const { ino } = lstatSync(join(path, name), { bigint: true });
			const handle = good(handleOf(keep(openAt(directory, name, O.path | O.nofollow))));
			assert.deepEqual(good(handleAt(directory, name)), handle);
			assert.equal(inodeOf(directory, handle), ino);
			renameSync(join(path, name), join(path, `${name}-moved`));
			assert.deepEqual(good(handleAt(directory, `${name}-moved`)), handle);
			assert.equal(inodeOf(directory, handle), ino);
		}
	});

	test(`on ${kind} a handle is ESTALE once the object is gone, and stays so for what is made after it`, options, (t) => {
		const { path, directory } = fixture(t, kind);
		const seen = new Set<string>();
		for (let i = 0; i < 50; i++) {
			writeFileSync(join(path, "file"), "");
			mkdirSync(join(path, "directory"));
			const handles = ["file", "directory"].map((name) => good(handleAt(directory, name)));
			rmSync(join(path, "file"));
			rmSync(join(path, "directory"), { recursive: true });
			for (const handle of handles) {
				assert.equal(openByHandle(directory, handle, O.path), -ERRNO.ESTALE);
				seen.add(`${handle.type}:${handle.bytes.toString("hex")}`);
			}
		}
		assert.equal(seen.size, 100);
	});

	test(`on ${kind} an object that was removed while it is open still has its handle`, options, (t) => {
		const { path, directory, keep } = fixture(t, kind);
		writeFileSync(join(path, "file"), "");
		const fd = keep(openAt(directory, "file", O.rdonly));
		const handle = good(handleOf(fd));
		linkName(directory, "file", directory, "second");
		rmSync(join(path, "file"));
		assert.equal(inodeOf(directory, handle), lstatSync(join(path, "second"), { bigint: true }).ino);
		rmSync(join(path, "second"));
		assert.deepEqual(good(handleOf(fd)), handle);
	});
}

test("handleAt takes names of any bytes up to 255 and does not follow links", { skip: cannotMount("tmpfs") }, (t) => {
	const { path, directory } = fixture(t, "tmpfs");
	const name = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.alloc(253, 0x80)]);
	symlinkSync("/", Buffer.concat([Buffer.from(`${path}/`), name]));
	const { ino } = lstatSync(Buffer.concat([Buffer.from(`${path}/`), name]), { bigint: true });
	assert.equal(inodeOf(directory, good(handleAt(directory, name))), ino);
	assert.equal(handleAt(directory, Buffer.concat([name, name])), -ERRNO.ENAMETOOLONG);
	assert.equal(handleAt(directory, "nothing"), -ERRNO.ENOENT);
	assert.equal(handleAt(-1, "nothing"), -ERRNO.EBADF);
});

test("openByHandle opens for reading and writing as the flags say, through a readable descriptor", { skip: cannotMount("tmpfs") }, (t) => {
	const { path, directory, keep } = fixture(t, "tmpfs");
	writeFileSync(join(path, "file"), "");
	const handle = good(handleAt(directory, "file"));
	keep(openByHandle(directory, handle, O.rdwr | O.noatime));
	assert.equal(openByHandle(directory, handle, O.rdonly | O.directory), -ERRNO.ENOTDIR);
	assert.equal(openByHandle(-1, handle, O.path), -ERRNO.EBADF);
	const other = { type: handle.type, bytes: Buffer.alloc(handle.bytes.length, 0xee) };
	assert.equal(openByHandle(directory, other, O.path), -ERRNO.ESTALE);
});

test("a handle longer than the kernel has is refused before it is given to it", { skip: needs("root") }, (t) => {
	const { directory } = fixture(t, "tmpfs");
	assert.throws(() => openByHandle(directory, { type: 1, bytes: Buffer.alloc(129) }, O.path), RangeError);
	assert.ok(openByHandle(directory, { type: 1, bytes: Buffer.alloc(128, 0xff) }, O.path) < 0);
	assert.equal(openByHandle(directory, { type: 1, bytes: Buffer.alloc(0) }, O.path), -ERRNO.EINVAL);
});

test("a file system without handles says EOPNOTSUPP", () => {
	const fd = openPath("/proc", O.rdonly);
	assert.equal(handleOf(fd), -ERRNO.EOPNOTSUPP);
	close(fd);
});
