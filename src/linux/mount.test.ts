// Mounting and unmounting, with the errors of both.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { ERRNO } from "./errno.ts";
import { MS, mountAt, setReadOnly, UMOUNT, unmountAt } from "./mount.ts";
import { isMountPoint } from "./mount-table.ts";
import { close, O, openDevice, openPath } from "./open.ts";

test("mountAt gives source, type, flags and options to the kernel, and unmountAt ends the mount", { skip: needs("root") }, (t) => {
	const at = scratch(t).folder("at");
	assert.equal(mountAt("a source", Buffer.from(at), "tmpfs", MS.nodev | MS.nosuid, "size=64k,mode=0711"), 0);
	const line = readFileSync("/proc/self/mountinfo", "utf8")
		.split("\n")
		.find((one) => one.includes(` ${at} `));
	assert.match(line ?? "", / rw,nosuid,nodev\S* .*- tmpfs a\\040source rw,size=64k,mode=711/);
	assert.equal(unmountAt(at), 0);
	assert.equal(isMountPoint(at), false);
	assert.equal(mountAt("none", at, "tmpfs", MS.rdonly, ""), 0);
	assert.throws(() => writeFileSync(join(at, "file"), ""), { code: "EROFS" });
	assert.equal(unmountAt(at), 0);
});

test("a mount that is in use is not ended, but taken out of sight by UMOUNT.detach", { skip: needs("root") }, (t) => {
	const at = scratch(t).folder("at");
	assert.equal(mountAt("none", at, "tmpfs", 0, ""), 0);
	writeFileSync(join(at, "file"), "kept");
	const fd = openPath(join(at, "file"), O.rdonly);
	assert.equal(unmountAt(at), -ERRNO.EBUSY);
	assert.equal(unmountAt(at, UMOUNT.detach), 0);
	assert.equal(existsSync(join(at, "file")), false);
	assert.equal(readFileSync(fd, "utf8"), "kept");
	close(fd);
});

test("what cannot be mounted or unmounted is an error number, and options that are too long are refused", { skip: needs("root") }, (t) => {
	const at = scratch(t).folder("at");
	assert.equal(unmountAt(at), -ERRNO.EINVAL);
	assert.equal(unmountAt(join(at, "none")), -ERRNO.ENOENT);
	assert.equal(mountAt("none", at, "no such type", 0, ""), -ERRNO.ENODEV);
	assert.equal(mountAt("none", join(at, "none"), "tmpfs", 0, ""), -ERRNO.ENOENT);
	assert.throws(() => mountAt("none", at, "tmpfs", 0, "x".repeat(65_536)), RangeError);
});

test("openDevice opens /dev/fuse, on which a FUSE file system is mounted", { skip: needs("root", "fuse") }, (t) => {
	const at = scratch(t).folder("at");
	const fd = openDevice("/dev/fuse", O.rdwr);
	assert.ok(fd >= 0, `errno ${-fd}`);
	assert.equal(mountAt("name", at, "fuse.holdfast", MS.nodev | MS.nosuid, `fd=${fd},rootmode=40000,user_id=0,group_id=0`), 0);
	assert.equal(isMountPoint(at), true);
	assert.equal(unmountAt(at, UMOUNT.detach), 0);
	close(fd);
	assert.equal(openDevice("/dev/no-such-device", O.rdwr), -ERRNO.ENOENT);
});

test("setReadOnly makes a mount read-only, with what is mounted in it if the whole is meant, and writable again", {
	skip: needs("root"),
}, (t) => {
	const made = scratch(t);
	const at = made.folder("at");
	assert.equal(mountAt("none", at, "tmpfs", 0, ""), 0);
	mkdirSync(join(at, "in"));
	assert.equal(mountAt("none", join(at, "in"), "tmpfs", 0, ""), 0);
	const write = (...path: string[]) => writeFileSync(join(at, ...path, "file"), "");
	assert.equal(setReadOnly(at, true, false), 0);
	assert.throws(() => write(), { code: "EROFS" });
	write("in");
	assert.equal(setReadOnly(at, true, true), 0);
	assert.throws(() => write("in"), { code: "EROFS" });
	assert.equal(setReadOnly(at, false, true), 0);
	write();
	write("in");
	const shown = made.folder("shown");
	assert.equal(mountAt(at, shown, "none", MS.bind | MS.rec, ""), 0);
	assert.ok(existsSync(join(shown, "in/file")));
	assert.equal(setReadOnly(join(at, "none"), true, false), -ERRNO.ENOENT);
	assert.equal(setReadOnly(join(at, "in/file"), true, false), -ERRNO.EINVAL);
	for (const one of [shown, at]) assert.equal(unmountAt(one, UMOUNT.detach), 0);
});
