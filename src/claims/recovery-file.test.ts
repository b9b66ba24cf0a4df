// The list of who may reclaim, as it stands on disk while it is changed and written.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ERRNO } from "../linux/errno.ts";
import { interceptChanges } from "../linux/libc.ts";
import { ClaimFolder } from "./claim-folder.ts";
import { claimFolder, refuses } from "./new-claims.test-support.ts";
import { RecoveryFile, readClients } from "./recovery-file.ts";

function start(t: TestContext) {
	const folder = new ClaimFolder(claimFolder(t));
	t.after(() => folder.close());
	const warnings: string[] = [];
	const file = new RecoveryFile(folder, readClients(folder), (sentence) => warnings.push(sentence));
	return { folder, file, warnings, onDisk: () => [...readClients(folder)].sort() };
}

/** Until the client stands there: what a request does that waits and comes again. */
async function demanded(file: RecoveryFile, client: string, denies = false): Promise<void> {
	for (let ready = file.demand(client, denies); ready !== null; ready = file.demand(client, denies)) await ready;
}

test("who is demanded stands on disk, with its deny modes, and is not written twice", async (t) => {
	const { file, onDisk } = start(t);
	await demanded(file, "a");
	assert.deepEqual(onDisk(), [["a", false]]);
	assert.equal(file.demand("a", false), null);
	await demanded(file, "a", true);
	await Promise.all([demanded(file, "b\xff\0"), demanded(file, "c"), demanded(file, "a")]);
	assert.deepEqual(onDisk(), [
		["a", true],
		["b\xff\0", false],
		["c", false],
	]);
});

test("who is demanded again while the list without it is being written is not told to stand there", async (t) => {
	const { file, onDisk } = start(t);
	await demanded(file, "a");
	file.drop("a");
	const ready = file.demand("a", false);
	assert.notEqual(ready, null);
	await demanded(file, "a");
	await file.struck();
	assert.deepEqual(onDisk(), [["a", false]]);
});

test("who is struck off is gone from the disk when that is told, also while the list is being written", async (t) => {
	const { file, onDisk } = start(t);
	for (const client of ["a", "b"]) await demanded(file, client);
	assert.equal(file.struck(), null);
	const writing = file.demand("c", false);
	file.strike("a");
	for (let ready = file.struck(); ready !== null; ready = file.struck()) await ready;
	assert.deepEqual(
		onDisk().map(([client]) => client),
		["b", "c"],
	);
	await writing;
	file.strike("nobody");
	assert.equal(file.struck(), null);
});

test("where the list cannot be written, who needs it is refused until it can, once told", async (t) => {
	const { file, folder, warnings, onDisk } = start(t);
	await demanded(file, "a");
	const make = folder.make.bind(folder);
	folder.make = () => {
		throw new Error("no room.");
	};
	await file.demand("b", false);
	refuses("nospc", () => file.demand("b", false));
	file.strike("a");
	await new Promise((resolve) => setTimeout(resolve, 5));
	refuses("delay", () => file.struck());
	folder.make = (name) => {
		throw folder.failure("open", name, -ERRNO.EDQUOT);
	};
	for (const code of ["nospc", "dquot"] as const) {
		await new Promise((resolve) => setTimeout(resolve, 5));
		refuses(code, () => file.demand("b", false));
	}
	folder.make = () => {
		throw new Error("no room.");
	};
	await new Promise((resolve) => setTimeout(resolve, 5));
	assert.deepEqual(warnings, ["Clients that open files are refused: no room."]);
	await assert.rejects(file.replace(new Map([["z", false]])), /no room/);
	folder.make = make;
	// this one is refused for the last failure, and tries again
	refuses("delay", () => file.struck());
	for (let ready = file.struck(); ready !== null; ) {
		await ready;
		ready = file.struck();
	}
	await demanded(file, "b");
	assert.deepEqual(
		onDisk().map(([client]) => client),
		["b", "z"],
	);
});

test("stopped at any step of a writing, the list before it or after it stands", async (t) => {
	class Stop extends Error {}
	for (let stopAt = 0; stopAt < 4; stopAt++) {
		const { file, onDisk } = start(t);
		await demanded(file, "a");
		let left = stopAt;
		interceptChanges(() => {
			if (left-- === 0) throw new Stop();
		});
		try {
			await file.demand("b", false);
		} catch (error) {
			if (!(error instanceof Stop)) throw error;
		} finally {
			interceptChanges(null);
		}
		const names = onDisk().map(([client]) => client);
		assert.ok(names.join() === "a" || names.join() === "a,b");
	}
});
