// Descriptors that go from one process to another over a Unix socket.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "../../test/support/scratch.ts";
import { receiveDescriptor, sendDescriptor, socketPair } from "./descriptor-passing.ts";
import { ERRNO } from "./errno.ts";
import { close, O, openPath } from "./open.ts";

function pair(type: "stream" | "seqpacket") {
	const made = socketPair(type);
	assert.ok(typeof made !== "number", `errno ${made}`);
	return made;
}

for (const type of ["stream", "seqpacket"] as const) {
	test(`a descriptor sent over a ${type} socket reads the same file`, (t) => {
		const file = scratch(t).file("file", "contents");
		const [near, far] = pair(type);
		assert.equal(receiveDescriptor(far), -ERRNO.EAGAIN);
		const sent = openPath(file, O.rdonly);
		assert.equal(sendDescriptor(near, sent), 0);
		close(sent);
		const got = receiveDescriptor(far);
		assert.ok(got >= 0, `errno ${-got}`);
		assert.equal(readFileSync(got, "utf8"), "contents");
		assert.match(readFileSync(`/proc/self/fdinfo/${got}`, "utf8"), /flags:\s+02[0-7]*\n/, "close-on-exec");
		close(got);
		assert.equal(receiveDescriptor(far), -ERRNO.EAGAIN);
		close(near);
		assert.equal(receiveDescriptor(far), -ERRNO.ENOTCONN);
		close(far);
	});
}

test("a seqpacket socket keeps the borders of messages, a stream does not", () => {
	const read = (type: "stream" | "seqpacket") => {
		const [near, far] = pair(type);
		for (const text of ["one", "two"]) writeSync(near, text);
		const bytes = Buffer.alloc(16);
		const got = bytes.toString("latin1", 0, readSync(far, bytes));
		for (const fd of [near, far]) close(fd);
		return got;
	};
	assert.equal(read("seqpacket"), "one");
	assert.equal(read("stream"), "onetwo");
});

test("a byte without a descriptor is -EBADMSG, and what is no socket an error number", () => {
	const [near, far] = pair("stream");
	writeSync(near, "x");
	assert.equal(receiveDescriptor(far), -ERRNO.EBADMSG);
	assert.equal(sendDescriptor(near, -1), -ERRNO.EBADF);
	close(far);
	assert.equal(sendDescriptor(near, 0), -ERRNO.EPIPE);
	close(near);
	assert.equal(receiveDescriptor(near), -ERRNO.EBADF);
});

test("another process gets the open file itself", (t) => {
	const folder = scratch(t);
	const [near, far] = pair("stream");
	const module = join(import.meta.dirname, "descriptor-passing.js");
	const program = `
		const { receiveDescriptor } = await import(${JSON.stringify(module)});
		const { writeSync } = await import("node:fs");
		writeSync(receiveDescriptor(3), "written by another process");`;
	const file = openPath(join(folder.path, "file"), O.creat | O.rdwr, 0o600);
	assert.equal(sendDescriptor(near, file), 0);
	const ran = spawnSync(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "pipe", far] });
	assert.equal(ran.status, 0, ran.stderr.toString());
	assert.equal(readFileSync(join(folder.path, "file"), "utf8"), "written by another process");
	for (const fd of [near, far, file]) close(fd);
});
