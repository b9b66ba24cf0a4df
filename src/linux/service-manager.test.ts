// Datagrams to sockets with a path and with an abstract name, and datagrams that nobody takes.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ERRNO } from "./errno.ts";
import { arena, arenaAddress, declare, PLACE, result } from "./libc.ts";
import { close } from "./open.ts";
import { notifyAt } from "./service-manager.ts";

const [AF_UNIX, SOCK_DGRAM, MSG_DONTWAIT] = [1, 2, 0x40];
const socket = declare("socket", "int", ["int", "int", "int"]);
const bind = declare("bind", "int", ["int", "pointer", "uint"]);
const receive = declare("recv", "long", ["int", "pointer", "size_t", "int"]);

/** A socket at an address, a NUL first for an abstract name. */
function listenAt(t: TestContext, address: string): number {
	const fd = result(socket(AF_UNIX, SOCK_DGRAM, 0));
	assert.ok(fd >= 0);
	t.after(() => close(fd));
	arena.writeUInt16LE(AF_UNIX, PLACE.path);
	const length = arena.write(address, PLACE.path + 2);
	assert.equal(result(bind(fd, arenaAddress + PLACE.path, 2 + length)), 0);
	return fd;
}

/** The next datagram, or the negated error number. */
function next(fd: number): string | number {
	const length = result(receive(fd, arenaAddress + PLACE.value, 8192, MSG_DONTWAIT));
	return length < 0 ? length : arena.toString("utf8", PLACE.value, PLACE.value + length);
}

function folder(t: TestContext): string {
	const path = mkdtempSync(join(tmpdir(), "holdfast-notify-"));
	t.after(() => rmSync(path, { recursive: true }));
	return path;
}

test("a message is one datagram, at a path and at an abstract name", (t) => {
	const path = join(folder(t), "socket");
	const abstract = `holdfast-test-${process.pid}`;
	for (const [address, bound] of [
		[path, path],
		[`@${abstract}`, `\0${abstract}`],
	] as const) {
		const fd = listenAt(t, bound);
		assert.equal(notifyAt(address, "READY=1\nSTATUS=schön"), 0);
		assert.equal(notifyAt(address, "WATCHDOG=1"), 0);
		assert.equal(next(fd), "READY=1\nSTATUS=schön");
		assert.equal(next(fd), "WATCHDOG=1");
		assert.equal(next(fd), -ERRNO.EAGAIN);
	}
});

test("nobody who listens, and one who does not read, hold nobody up", (t) => {
	const path = join(folder(t), "socket");
	assert.equal(notifyAt(path, "READY=1"), -ERRNO.ENOENT);
	assert.equal(notifyAt(`@holdfast-test-${process.pid}-nobody`, "READY=1"), -ERRNO.ECONNREFUSED);
	listenAt(t, path);
	let sent = 0;
	while (notifyAt(path, "WATCHDOG=1") === 0) sent++;
	assert.ok(sent > 0);
	assert.equal(notifyAt(path, "WATCHDOG=1"), -ERRNO.EAGAIN);
});

test("addresses and messages that cannot be sent are refused", () => {
	for (const address of ["", "@", "/", "relative", "vsock:2:1", `/${"x".repeat(107)}`]) {
		assert.equal(notifyAt(address, "READY=1"), -ERRNO.EINVAL, address);
	}
	assert.equal(notifyAt(`/${"x".repeat(106)}`, "READY=1"), -ERRNO.ENOENT, "the longest path");
	assert.equal(notifyAt("/socket", ""), -ERRNO.EINVAL);
	assert.equal(notifyAt("/socket", "x".repeat(4097)), -ERRNO.EINVAL);
});

test("descriptors are not used up", (t) => {
	const path = join(folder(t), "socket");
	const fd = listenAt(t, path);
	const before = readdirSync("/proc/self/fd").length;
	for (let i = 0; i < 10; i++) {
		assert.equal(notifyAt(path, "WATCHDOG=1"), 0);
		assert.equal(next(fd), "WATCHDOG=1");
		assert.equal(notifyAt("/nowhere", "WATCHDOG=1"), -ERRNO.ENOENT);
	}
	assert.ok(readdirSync("/proc/self/fd").length < before + 10);
});
