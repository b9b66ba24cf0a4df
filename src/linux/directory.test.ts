// Directories listed with names of every kind.

import assert from "node:assert/strict";
import { lstatSync, mkdirSync, readdirSync, rmdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { cannotMount, type FileSystem, scratch } from "../../test/support/scratch.ts";
import { visitEntries } from "./directory.ts";
import { ERRNO } from "./errno.ts";
import { makeNode } from "./names.ts";
import { close, O, openAt, openPath } from "./open.ts";

function fixture(context: TestContext, kind: FileSystem = "root") {
	const folder = scratch(context);
	const open = (path: string, flags: number) => {
		const fd = openPath(path, flags);
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	const path = kind === "root" ? folder.path : folder.mount(kind);
	return { path, open, directory: open(path, O.rdonly | O.directory) };
}

function namesOf(fd: number): string[] {
	const names: string[] = [];
	const status = visitEntries(fd, (name) => {
		names.push(Buffer.from(name).toString("latin1"));
		return undefined;
	});
	assert.equal(status, 0);
	return names.sort();
}

for (const kind of ["root", "tmpfs", "xfs", "btrfs"] as const) {
	test(`each of 10,000 entries is visited once, on ${kind === "root" ? "the usual file system" : kind}`, {
		skip: cannotMount(kind),
	}, (t) => {
		const { path, directory } = fixture(t, kind);
		const expected: string[] = [];
		for (let i = 0; i < 10_000; i++) {
			const name = `${i}-${"n".repeat(i % 60)}`;
			expected.push(name);
			close(openAt(directory, name, O.creat | O.excl | O.wronly, 0o600));
		}
		assert.deepEqual(namesOf(directory), expected.sort());
		assert.equal(readdirSync(path).length, 10_000);
		// from the beginning, each time
		assert.equal(namesOf(directory).length, 10_000);
	});
}

test("an entry is told with its type and inode number, as lstat says them", (t) => {
	const { path, directory } = fixture(t);
	writeFileSync(join(path, "file"), "");
	mkdirSync(join(path, "directory"));
	symlinkSync("x", join(path, "link"));
	assert.equal(makeNode(directory, "fifo", 0o010600, 0, 0), 0);
	let count = 0;
	visitEntries(directory, (name, type, inoHi, inoLo) => {
		const stat = lstatSync(join(path, Buffer.from(name).toString()), { bigint: true });
		assert.equal(type, Number(stat.mode) >> 12);
		assert.equal((BigInt(inoHi) << 32n) | BigInt(inoLo), stat.ino);
		count++;
		return undefined;
	});
	assert.equal(count, 4);
});

test("names are told byte by byte, from one byte to 255, and a name that begins with dots is not taken for . or ..", (t) => {
	const { directory } = fixture(t);
	const names = [
		Buffer.from([0xff]),
		Buffer.from("..."),
		Buffer.from("..a"),
		Buffer.from(".a"),
		Buffer.from([0x2e, 0xff]),
		Buffer.alloc(255, 0xc3),
		Buffer.from("\n"),
	];
	for (const name of names) close(openAt(directory, name, O.creat | O.wronly, 0o600));
	assert.deepEqual(namesOf(directory), names.map((name) => name.toString("latin1")).sort());
});

test("a visit ends early when it is told so", (t) => {
	const { path, directory } = fixture(t);
	for (let i = 0; i < 10; i++) writeFileSync(join(path, `${i}`), "");
	let seen = 0;
	assert.equal(
		visitEntries(directory, () => ++seen < 3),
		0,
	);
	assert.equal(seen, 3);
});

test("an empty directory has no entries, and one that was removed says ENOENT", (t) => {
	const { path, open } = fixture(t);
	mkdirSync(join(path, "d"));
	const fd = open(join(path, "d"), O.rdonly);
	assert.deepEqual(namesOf(fd), []);
	rmdirSync(join(path, "d"));
	assert.equal(
		visitEntries(fd, () => undefined),
		-ERRNO.ENOENT,
	);
});

test("what is no directory, or opened with O_PATH, is refused with a negated error number", (t) => {
	const { path, open } = fixture(t);
	writeFileSync(join(path, "file"), "");
	const visit = (fd: number) => visitEntries(fd, () => assert.fail("there is nothing to visit"));
	assert.equal(visit(open(join(path, "file"), O.rdonly)), -ERRNO.ENOTDIR);
	assert.equal(visit(open(path, O.path)), -ERRNO.EBADF);
	assert.equal(visit(-1), -ERRNO.EBADF);
});
