// A file that only grows, on a disk that has room and on one that has none.

import assert from "node:assert/strict";
import { rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { cannotMount } from "../../test/support/scratch.ts";
import { ERRNO } from "../linux/errno.ts";
import { O, openPath } from "../linux/open.ts";
import { LogFile } from "./log-file.ts";
import { memoryFolder } from "./new-claims.test-support.ts";

test("room that was set aside is there on a full disk, and what does not fit leaves nothing", (t) => {
	if (cannotMount("tmpfs")) {
		t.diagnostic(`not run: ${cannotMount("tmpfs")}`);
		return;
	}
	const root = memoryFolder(t, 4);
	const path = join(root, "log");
	const file = new LogFile(openPath(path, O.rdwr | O.creat, 0o600), 0);
	t.after(() => file.close());
	assert.equal(file.reserve(1_500_000), 0);
	assert.equal(statSync(path).size, 0);
	try {
		writeFileSync(join(root, "ballast"), Buffer.alloc(8 * 1024 * 1024));
	} catch {
		// as much as there is room for
	}
	assert.equal(file.reserve(1_500_000), 0);
	assert.equal(file.reserve(3_000_000), -ERRNO.ENOSPC);
	const record = Buffer.alloc(1001, 7);
	let count = 0;
	let status = 0;
	for (; status >= 0; count++) status = file.append(record);
	assert.equal(status, -ERRNO.ENOSPC);
	assert.ok(count * 1001 > 1_500_000, `${count} records`);
	assert.equal(statSync(path).size, (count - 1) * 1001);
	assert.equal(file.size, (count - 1) * 1001);
	rmSync(join(root, "ballast"));
	assert.equal(file.append(record), 1001);
	assert.equal(statSync(path).size, count * 1001);
});
