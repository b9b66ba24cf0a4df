// Names of error numbers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ERRNO, errnoName, must, SystemCallError } from "./errno.ts";

test("error numbers have their names, negated or not, and unknown ones their number", () => {
	assert.equal(errnoName(-ERRNO.ENOENT), "ENOENT");
	assert.equal(errnoName(ERRNO.ESTALE), "ESTALE");
	assert.equal(errnoName(-9999), "errno 9999");
});

test("must passes results on and throws what was tried, with the name of the error", () => {
	assert.equal(must(0, "Cannot"), 0);
	assert.equal(must(7, "Cannot"), 7);
	assert.throws(
		() => must(-ERRNO.EACCES, "Cannot open it"),
		(error) => error instanceof SystemCallError && error.errno === ERRNO.EACCES && error.message === "Cannot open it: EACCES",
	);
});
