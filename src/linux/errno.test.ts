// Names of error numbers, and what they mean to people.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ERRNO, errnoName, must, SystemCallError, whyNot } from "./errno.ts";

test("error numbers have their names, negated or not, and unknown ones their number", () => {
	assert.equal(errnoName(-ERRNO.ENOENT), "ENOENT");
	assert.equal(errnoName(ERRNO.ESTALE), "ESTALE");
	assert.equal(errnoName(-9999), "errno 9999");
});

test("must passes results on and throws what was tried, with the name of the error", () => {
	assert.equal(must(0, "Cannot"), 0);
	assert.equal(must(7, "Cannot"), 7);
	assert.throws(
		() => must(-ERRNO.EROFS, "Cannot open it"),
		(error) =>
			error instanceof SystemCallError &&
			error.errno === ERRNO.EROFS &&
			error.message === "Cannot open it: its file system is read-only (EROFS)",
	);
});

test("the reason names the user who may not, and the folder that is not there", () => {
	const user = `user ${process.geteuid?.()}`;
	assert.equal(whyNot(-ERRNO.EACCES), `${user} has no permission for that (EACCES)`);
	assert.match(whyNot(-ERRNO.EACCES, "/proc/none/deeper"), new RegExp(`^${user} has no permission for /proc, which is of user 0 `));
	assert.match(whyNot(-ERRNO.EPERM), new RegExp(`^${user} is not allowed to: .* \\(EPERM\\)$`));
	assert.equal(whyNot(-ERRNO.ENOENT, "/proc/none/deeper/file"), "there is no folder /proc/none (ENOENT)");
	assert.equal(whyNot(-ERRNO.ENOENT, "/proc/none"), "it is not there (ENOENT)");
	assert.equal(whyNot(-9999), "it failed (errno 9999)");
});
