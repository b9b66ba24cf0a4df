// An abstract name is taken once.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ERRNO } from "./errno.ts";
import { close } from "./open.ts";
import { takeAbstractName } from "./unix-name.ts";

test("a name is one process's until its descriptor is closed", () => {
	const name = `holdfast-test-${process.pid}`;
	const first = takeAbstractName(name);
	assert.ok(first >= 0, String(first));
	assert.equal(takeAbstractName(name), -ERRNO.EADDRINUSE);
	const other = takeAbstractName(`${name}-other`);
	assert.ok(other >= 0);
	close(first);
	const again = takeAbstractName(name);
	assert.ok(again >= 0);
	close(again);
	close(other);
});

test("a name longer than an address holds is refused", () => {
	assert.throws(() => takeAbstractName("x".repeat(108)), RangeError);
});
