// Extended attributes of every kind of inode, of any bytes and length.

import assert from "node:assert/strict";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { ENODATA, ERRNO } from "./errno.ts";
import { makeNode } from "./names.ts";
import { close, O, openAt, openPath } from "./open.ts";
import { getXattr, listXattrs, removeXattr, setXattr } from "./xattr.ts";

function fixture(context: TestContext) {
	const folder = scratch(context);
	const keep = (fd: number) => {
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	// tmpfs: here values may have the full 64 KiB
	const path = folder.mount("tmpfs", "tmpfs", 4);
	const directory = keep(openPath(path, O.rdonly | O.directory));
	writeFileSync(join(path, "file"), "");
	symlinkSync("nowhere", join(path, "link"));
	assert.equal(makeNode(directory, "fifo", 0o010600, 0, 0), 0);
	assert.equal(makeNode(directory, "device", 0o020600, 0, 0), 0);
	return (name: string) => keep(openAt(directory, name, O.path | O.nofollow));
}

const ROOT = { skip: needs("root") };

test("xattrs are set, read, listed and removed by O_PATH descriptors of all kinds, also of a broken symlink", ROOT, (t) => {
	const open = fixture(t);
	for (const kind of ["file", "link", "fifo", "device", "."]) {
		const fd = open(kind);
		const value = Buffer.from([0, 0xff, 0x0a, 0, 1]);
		assert.equal(setXattr(fd, "trusted.one", value), 0, kind);
		assert.deepEqual(getXattr(fd, "trusted.one"), value, kind);
		assert.equal(setXattr(fd, "trusted.one", Buffer.alloc(0)), 0, kind);
		assert.deepEqual(getXattr(fd, "trusted.one"), Buffer.alloc(0), kind);
		assert.equal(setXattr(fd, "trusted.two", value), 0, kind);
		const names = listXattrs(fd);
		assert.ok(typeof names !== "number");
		assert.deepEqual(names.map(String).sort(), ["trusted.one", "trusted.two"], kind);
		assert.equal(removeXattr(fd, "trusted.one"), 0, kind);
		assert.equal(removeXattr(fd, "trusted.one"), -ENODATA, kind);
		assert.equal(getXattr(fd, "trusted.one"), -ENODATA, kind);
	}
});

test("names of xattrs are bytes, with up to 255 of them", ROOT, (t) => {
	const fd = fixture(t)("file");
	const longest = Buffer.concat([Buffer.from("trusted."), Buffer.alloc(247, 0xe9)]);
	const names = [longest, Buffer.from("trusted.\xff\xfe", "latin1")];
	for (const name of names) {
		assert.equal(setXattr(fd, name, Buffer.from("v")), 0);
		assert.deepEqual(getXattr(fd, name), Buffer.from("v"));
	}
	const listed = listXattrs(fd);
	assert.ok(typeof listed !== "number");
	assert.deepEqual(listed.sort(Buffer.compare), names);
	assert.equal(setXattr(fd, Buffer.concat([longest, Buffer.from("x")]), Buffer.from("v")), -ERRNO.ERANGE);
	for (const name of names) assert.equal(removeXattr(fd, name), 0);
	assert.deepEqual(listXattrs(fd), []);
});

test("values go up to 65,536 bytes, the most that Linux has", ROOT, (t) => {
	const fd = fixture(t)("file");
	const value = Buffer.from(Array.from({ length: 65536 }, (_, i) => i % 251));
	assert.equal(setXattr(fd, "trusted.large", value), 0);
	assert.deepEqual(getXattr(fd, "trusted.large"), value);
	assert.throws(() => setXattr(fd, "trusted.large", Buffer.alloc(65537)), RangeError);
});

test("what the kernel refuses comes back as a negated error number", ROOT, (t) => {
	const open = fixture(t);
	assert.equal(getXattr(open("file"), "trusted.none"), -ENODATA);
	assert.equal(getXattr(open("file"), "nonsense.none"), -ERRNO.EOPNOTSUPP);
	assert.equal(setXattr(open("link"), "user.any", Buffer.from("v")), -ERRNO.EPERM);
	assert.equal(removeXattr(open("file"), "trusted.none"), -ENODATA);
	for (const status of [getXattr(-1, "user.a"), setXattr(-1, "user.a", Buffer.alloc(1)), removeXattr(-1, "user.a"), listXattrs(-1)]) {
		assert.equal(status, -ERRNO.ENOENT);
	}
});
