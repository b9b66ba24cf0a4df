// The pool of threads: how many run, and how they end.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "../../../test/support/scratch.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { Offload } from "./offload.ts";
import { ThreadPool } from "./thread-pool.ts";

/** A job that ends at once. */
const NOTHING = { kind: "sync", fd: -1, scope: "file system" } as const;
const EBADF = -9;
const NOT_OPEN = 1_000_000;

test("users share the threads of a pool, and it ends with the last of them", async () => {
	const pool = new ThreadPool(2);
	const users = [new Offload(pool), new Offload(pool), new Offload(pool)];
	assert.equal(pool.size, 0);
	const results = await Promise.all(users.flatMap((user) => [user.run(NOTHING), user.run(NOTHING)]));
	assert.deepEqual(results, Array(6).fill(EBADF));
	assert.equal(pool.size, 2);
	await users[0].close();
	await users[1].close();
	assert.equal(pool.size, 2, "idle threads stay for who is left");
	await assert.rejects(users[0].run(NOTHING), /ending/);
	assert.equal(await users[2].run(NOTHING), EBADF);
	await users[2].close();
	assert.equal(pool.size, 0);
});

test("who leaves takes along what is done or waits for them, and nothing else", async (t) => {
	const made = scratch(t);
	writeFileSync(join(made.path, "from"), Buffer.alloc(4096));
	writeFileSync(join(made.path, "to"), "");
	const [from, to] = [openPath(join(made.path, "from"), O.rdonly), openPath(join(made.path, "to"), O.rdwr)];
	t.after(() => {
		close(from);
		close(to);
	});
	const pool = new ThreadPool(1);
	const [leaver, stayer] = [new Offload(pool), new Offload(pool)];
	t.after(() => stayer.close());
	const settled: string[] = [];
	const note = (name: string) => () => void settled.push(name);
	// the first takes the only thread, the others wait for it
	void leaver.run({ kind: "copy", from, to, size: 4096, flush: true }).then(note("running"), note("running"));
	void leaver.run(NOTHING).then(note("waiting"), note("waiting"));
	const other = stayer.run(NOTHING);
	await leaver.close();
	assert.equal(await other, EBADF);
	assert.deepEqual(settled, []);
});

test("flushes are right by whichever threads they are made", async (t) => {
	const made = scratch(t);
	writeFileSync(join(made.path, "file"), "content");
	const fd = openPath(join(made.path, "file"), O.rdwr);
	t.after(() => close(fd));
	const user = new Offload();
	t.after(() => user.close());
	const flush = (descriptor: number) => user.run({ kind: "sync", fd: descriptor, scope: "file" });
	assert.deepEqual(await Promise.all([fd, NOT_OPEN, fd, NOT_OPEN, fd].map(flush)), [0, EBADF, 0, EBADF, 0]);
});
