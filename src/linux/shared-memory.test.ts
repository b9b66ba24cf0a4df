// Memory that two mappings share, and that outlives them.

import assert from "node:assert/strict";
import { fstatSync } from "node:fs";
import { test } from "node:test";
import { ERRNO } from "./errno.ts";
import { close } from "./open.ts";
import { makeSharedMemory, mapShared, unmapShared } from "./shared-memory.ts";

function mapped(fd: number, size: number) {
	const memory = mapShared(fd, size);
	assert.ok(typeof memory !== "number", `errno ${memory}`);
	return memory;
}

test("what one mapping writes the other sees, and a third one after both are gone", () => {
	const size = 1 << 20;
	const fd = makeSharedMemory("holdfast test", size);
	assert.ok(fd >= 0, `errno ${-fd}`);
	const [one, other] = [mapped(fd, size), mapped(fd, size)];
	assert.notEqual(one.address, other.address);
	assert.ok(other.bytes.every((byte) => byte === 0));
	one.bytes.write("first", 0);
	one.bytes.write("last", size - 4);
	assert.equal(other.bytes.toString("latin1", 0, 5), "first");
	assert.equal(other.bytes.toString("latin1", size - 4), "last");
	for (const memory of [one, other]) assert.equal(unmapShared(memory), 0);
	const third = mapped(fd, size);
	assert.equal(third.bytes.toString("latin1", 0, 5), "first");
	assert.equal(unmapShared(third), 0);
	close(fd);
});

test("shared memory takes room only where it was written, however large it is", () => {
	const size = 2 ** 33;
	const fd = makeSharedMemory("holdfast test", size);
	assert.ok(fd >= 0, `errno ${-fd}`);
	const memory = mapped(fd, 2 ** 20);
	memory.bytes[0] = 1;
	const stat = fstatSync(fd);
	assert.equal(stat.size, size);
	assert.ok(stat.blocks * 512 <= 2 ** 21, `${stat.blocks} blocks`);
	assert.equal(unmapShared(memory), 0);
	close(fd);
});

test("what cannot be made or mapped is an error number", () => {
	assert.equal(makeSharedMemory("x".repeat(300), 4096), -ERRNO.EINVAL);
	assert.ok(makeSharedMemory("holdfast test", -1) < 0);
	assert.equal(mapShared(-1, 4096), -ERRNO.EBADF);
});
