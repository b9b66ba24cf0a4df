// Writes that wait for no reader: pipes, files, and what cannot be written to.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "../../test/support/scratch.ts";
import { ERRNO } from "./errno.ts";
import { openOutput, writeAtOnce } from "./output.ts";

test("a pipe that nobody reads takes what it has room for, at once, and goes on when it was read", (t) => {
	const path = join(scratch(t).path, "fifo");
	execFileSync("mkfifo", [path]);
	const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
	const shared = openSync(path, constants.O_WRONLY);
	t.after(() => {
		for (const fd of [reader, shared]) closeSync(fd);
	});
	for (const fd of [openOutput(shared), shared]) {
		const bytes = Buffer.alloc(4 * 2 ** 20, "x");
		const taken = writeAtOnce(fd, bytes);
		assert.ok(taken > 0 && taken < bytes.length, `${taken}`);
		assert.equal(writeAtOnce(fd, bytes), 0, "it is full");
		let read = 0;
		const buffer = Buffer.alloc(65536);
		while (read < taken) read += readSync(reader, buffer);
		assert.equal(read, taken);
		assert.equal(writeAtOnce(fd, Buffer.from("more")), 4);
		assert.equal(readSync(reader, buffer), 4);
		if (fd !== shared) closeSync(fd);
	}
});

test("a file gets all of it behind what is there, and is not opened anew", (t) => {
	const path = scratch(t).file("log", "first ");
	const fd = openSync(path, "a");
	t.after(() => closeSync(fd));
	assert.equal(openOutput(fd), fd);
	const bytes = Buffer.alloc(100_000, "y");
	assert.equal(writeAtOnce(fd, bytes), bytes.length);
	assert.equal(readFileSync(path, "latin1"), `first ${"y".repeat(100_000)}`);
});

test("what cannot be written to says why", (t) => {
	const full = openSync("/dev/full", "w");
	const path = join(scratch(t).path, "fifo");
	execFileSync("mkfifo", [path]);
	const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
	const writer = openSync(path, constants.O_WRONLY);
	closeSync(reader);
	assert.equal(writeAtOnce(full, Buffer.from("x")), -ERRNO.ENOSPC);
	assert.equal(writeAtOnce(writer, Buffer.from("x")), -ERRNO.EPIPE);
	for (const fd of [full, writer]) closeSync(fd);
	assert.equal(openOutput(writer), writer, "it is not open");
	assert.equal(writeAtOnce(writer, Buffer.from("x")), -ERRNO.EBADF);
});
