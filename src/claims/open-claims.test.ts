// The files of claims that cannot be used, and disks that are full: a sentence for each, and never another's state.

import assert from "node:assert/strict";
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { crc32 } from "node:zlib";
import { cannotMount } from "../../test/support/scratch.ts";
import { ERRNO } from "../linux/errno.ts";
import { interceptChanges } from "../linux/libc.ts";
import { currentBootId } from "./boot-id.ts";
import { checkTables } from "./check-tables.test-support.ts";
import { ClaimFolder } from "./claim-folder.ts";
import { ClaimError, ClaimFilesError } from "./errors.ts";
import {
	ALL_BYTES,
	bytes,
	claimFolder,
	done,
	LEASE_SECONDS,
	memoryFolder,
	refuses,
	startClaims,
	TestClient,
	Told,
	writtenAnew,
} from "./new-claims.test-support.ts";
import { openClaims } from "./open-claims.ts";
import type { Stateid } from "./operations.ts";
import { readServer, writeServer } from "./server-file.ts";

function cannotStart(folder: string, sentence: RegExp): void {
	assert.throws(
		() => startClaims(folder),
		(error) => error instanceof ClaimFilesError && sentence.test(error.message) && error.message.endsWith("."),
	);
}

/** A folder in which a client has "x" open. */
async function withState(t: TestContext) {
	const folder = claimFolder(t);
	const { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const stateid = await done(() => client.open("x"));
	claims.destroy();
	return { folder, client, stateid };
}

/** Puts another version into a file, and the checksum that goes with it. */
function setVersion(path: string, version: number, end: number): void {
	const content = readFileSync(path);
	content.writeUInt32BE(version, 4);
	const at = end < 0 ? content.length + end : end;
	content.writeUInt32BE(crc32(content.subarray(0, at)), at);
	writeFileSync(path, content);
}

test("folder and files are for their owner alone, also if they were not", async (t) => {
	const { folder } = await withState(t);
	assert.deepEqual(readdirSync(folder).sort(), ["clients", "log", "server"]);
	assert.equal(statSync(folder).mode & 0o777, 0o700);
	for (const name of readdirSync(folder)) assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600);
	chmodSync(folder, 0o755);
	startClaims(folder);
	assert.equal(statSync(folder).mode & 0o777, 0o700);
});

test("a torn tail is cut off, and what was before it stands", async (t) => {
	const { folder, client, stateid } = await withState(t);
	const whole = readFileSync(join(folder, "log"));
	for (const torn of [1, 2, 3, 6, 20]) {
		writeFileSync(join(folder, "log"), Buffer.concat([whole, whole.subarray(36, 36 + torn)]));
		const { claims, told } = startClaims(folder);
		assert.equal(told.warnings.length, 1);
		assert.match(told.warnings[0], /log ended in the middle of a record, which was cut off: \d+ bytes\.$/);
		assert.equal(claims.testStateid(claims.session(client.session.id).client, stateid), null);
		claims.destroy();
	}
	truncateSync(join(folder, "log"), whole.length - 1);
	const { claims } = startClaims(folder);
	assert.equal(claims.tables.opens, 0);
	assert.equal(claims.session(client.session.id).isDead, false);
});

test("a log that is damaged in its middle is not believed: clients reclaim", async (t) => {
	const { folder } = await withState(t);
	const content = readFileSync(join(folder, "log"));
	content[60] ^= 1;
	writeFileSync(join(folder, "log"), content);
	const { claims, told } = startClaims(folder);
	assert.equal(claims.inGrace, true);
	assert.match(told.warnings.join("\n"), /log is damaged, .*reclaim/);
	const client = await new TestClient(claims, "a").come();
	await done(() => client.open("x", 3, 0, "owner", true));
});

test("a log of another version, of another server, or that is none, is set aside and told: clients reclaim", async (t) => {
	const cases: readonly (readonly [RegExp, (folder: string) => void])[] = [
		[/log cannot be used: it is of version 9, and this holdfast knows version 1\./, (folder) => setVersion(join(folder, "log"), 9, 28)],
		[/it is damaged\./, (folder) => writeFileSync(join(folder, "log"), "no log at all, but long enough for one")],
		[/it is damaged\./, (folder) => writeFileSync(join(folder, "log"), "")],
		[/it is of another server\./, (folder) => rmSync(join(folder, "server"))],
	];
	for (const [sentence, spoil] of cases) {
		const { folder, client } = await withState(t);
		spoil(folder);
		const content = readFileSync(join(folder, "log"));
		const { claims, told } = startClaims(folder);
		assert.match(told.warnings.join("\n"), sentence);
		assert.deepEqual(readFileSync(join(folder, "log.aside")), content);
		refuses("bad_session", () => claims.session(client.session.id));
		assert.equal(claims.inGrace, true);
		const again = await new TestClient(claims, "a").come();
		assert.notDeepEqual([again.id.hi, again.id.lo], [client.id.hi, client.id.lo]);
		claims.destroy();
	}
});

test("a log of an earlier boot counter, left by a start that was stopped in its middle, is none to go on with", async (t) => {
	const { folder, client } = await withState(t);
	const opened = new ClaimFolder(folder);
	const { id, boot } = readServer(opened);
	writeServer(opened, { id, boot: boot + 1 });
	opened.close();
	const { claims } = startClaims(folder);
	assert.equal(claims.inGrace, true);
	assert.equal(claims.tables.opens, 0);
	assert.equal(claims.session(client.session.id).isDead, true);
});

test("an upper that somebody else has changed: what was open is reclaimed, and sessions are gone", async (t) => {
	const { folder, client } = await withState(t);
	const { claims } = startClaims(folder, { isChanged: true });
	assert.equal(claims.inGrace, true);
	refuses("bad_session", () => claims.session(client.session.id));
	assert.ok(existsSync(join(folder, "log.aside")));
});

test("a file that says who the server or its clients are, and cannot be used, ends the start with a sentence", async (t) => {
	for (const name of ["server", "clients"]) {
		const { folder } = await withState(t);
		const path = join(folder, name);
		const content = readFileSync(path);
		setVersion(path, 7, -4);
		cannotStart(folder, new RegExp(`Cannot use .*${name}: it is of version 7, and this holdfast knows version 1\\.`));
		for (const spoiled of [content.subarray(1), content.subarray(0, 10), Buffer.alloc(0), Buffer.concat([content, content])]) {
			writeFileSync(path, spoiled);
			cannotStart(folder, new RegExp(`Cannot use .*${name}: it is damaged\\.`));
		}
		rmSync(path);
		symlinkSync("/etc/passwd", path);
		cannotStart(folder, new RegExp(`Cannot open .*${name}: .*\\(ELOOP\\)\\.`));
		rmSync(path);
		writeFileSync(path, content);
		startClaims(folder).claims.destroy();
	}
});

test("a folder that cannot be made or written ends the start with a sentence", async (t) => {
	const root = memoryFolder(t);
	writeFileSync(join(root, "file"), "");
	cannotStart(join(root, "file"), /file.*What clients have open and locked is kept there\.$/);
	cannotStart(join(root, "file", "nfs4"), /What clients have open and locked is kept there\.$/);
});

test("on a full disk nothing new is opened or locked; what is open is closed and unlocked, over a kill too", async (t) => {
	if (cannotMount("tmpfs")) {
		t.diagnostic(`not run: ${cannotMount("tmpfs")}`);
		return;
	}
	const root = memoryFolder(t, 4);
	const folder = join(root, "nfs4");
	let { claims, told } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const opens: Stateid[] = [];
	for (let i = 0; i < 3000; i++) opens.push(await done(() => client.open(`file ${i}`)));
	const locked = client.lock(opens[0], "file 0", "write", bytes(0, 100));
	assert.ok("granted" in locked);
	fill(join(root, "ballast"));
	let refused = 0;
	for (let i = 0; i < 40_000 && refused === 0; i++) {
		try {
			opens.push(client.open(`another ${i}`));
		} catch (error) {
			assert.ok(error instanceof ClaimError && error.code === "nospc");
			refused++;
		}
	}
	assert.equal(refused, 1);
	// no LOCK may be told that there is no room
	refuses("delay", () => client.lock(opens[0], "file 0", "write", bytes(200, 300)));
	client.unlock(locked.granted, "file 0", bytes(50, 60));
	for (let i = 1; i < opens.length; i++) client.close(opens[i], i < 3000 ? `file ${i}` : `another ${i - 3000}`);
	assert.deepEqual(told.warnings, []);
	checkTables(claims);
	claims.destroy();
	({ claims, told } = startClaims(folder));
	assert.deepEqual([claims.tables.opens, claims.tables.locks], [1, 2]);
	rmSync(join(root, "ballast"));
	client.goOn(claims);
	await done(() => client.open("again"));
});

for (const [error, code] of [
	["ENOSPC", "nospc"],
	["EDQUOT", "dquot"],
] as const) {
	test(`where the log gets ${error}, an OPEN is answered ${code} and a LOCK waits; what is open is closed and unlocked`, async (t) => {
		const folder = join(memoryFolder(t), "nfs4");
		let { claims, told } = startClaims(folder);
		const client = await new TestClient(claims, "a").come();
		const stateids = [await done(() => client.open("x")), await done(() => client.open("y"))];
		const locked = client.lock(stateids[0], "x", "write", bytes(0, 100));
		assert.ok("granted" in locked);
		interceptChanges(() => ERRNO[error]);
		try {
			const unlocked = client.unlock(locked.granted, "x", bytes(50, 60));
			assert.equal(told.warnings.length, 1);
			refuses(code, () => client.open("z"));
			refuses("delay", () => client.lock(stateids[0], "x", "write", bytes(200, 300)));
			client.unlock(unlocked, "x", bytes(10, 20));
			client.close(stateids[1], "y");
			checkTables(claims);
			claims.tick();
			told.runDeferred();
			refuses(code, () => client.open("z"));
		} finally {
			interceptChanges(null);
		}
		claims.tick();
		await writtenAnew(folder, told);
		await done(() => client.open("z"));
		claims.destroy();
		({ claims, told } = startClaims(folder));
		assert.deepEqual([claims.tables.opens, claims.tables.locks], [2, 3]);
		checkTables(claims);
	});
}

test("a log that could not be written is written anew when there is room, and a start finds all of it", async (t) => {
	if (cannotMount("tmpfs")) {
		t.diagnostic(`not run: ${cannotMount("tmpfs")}`);
		return;
	}
	const root = memoryFolder(t, 4);
	const folder = join(root, "nfs4");
	let { claims, told } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const stateid = await done(() => client.open("x"));
	fill(join(root, "ballast"));
	// more than any room that was set aside
	for (let i = 0; i < 400_000 && told.warnings.length === 0; i++) {
		const slot = client.take();
		claims.willChange(slot);
		claims.finish(slot, Buffer.alloc(0));
	}
	assert.match(told.warnings.join(), /log of what clients have open cannot be written, so nothing new is opened: see .*log\.$/);
	refuses("nospc", () => client.open("y"));
	client.close(stateid, "x");
	claims.tick();
	told.runDeferred();
	refuses("nospc", () => client.open("y"));
	rmSync(join(root, "ballast"));
	claims.tick();
	await writtenAnew(folder, told);
	await done(() => client.open("y"));
	claims.destroy();
	({ claims, told } = startClaims(folder));
	assert.deepEqual([...claims.tables.files.keys()], ["y"]);
	checkTables(claims);
});

test("without a folder nothing outlives the claims, and two servers are never the same", () => {
	const make = () => openClaims({ folder: null, hooks: new Told(), leaseSeconds: LEASE_SECONDS });
	const [a, b] = [make(), make()];
	assert.equal(a.isPersistent, false);
	assert.notDeepEqual(a.serverId, b.serverId);
	const client = new TestClient(a, "a").connect();
	client.reclaimComplete();
	const stateid = client.open("x");
	assert.ok("granted" in client.lock(stateid, "x", "write", ALL_BYTES));
});

test("two folders are two servers, and a server is the same for ever", async (t) => {
	const root = memoryFolder(t);
	const id = (name: string, bootId = "boot 1") => {
		const { claims } = startClaims(join(root, name), { bootId });
		claims.destroy();
		return Buffer.from(claims.serverId).toString("hex");
	};
	assert.equal(id("a"), id("a", "boot 2"));
	assert.notEqual(id("a"), id("b"));
});

test("the boot of the host is told by the kernel, and by tests", (t) => {
	const before = process.env.HOLDFAST_BOOT_ID;
	t.after(() => {
		if (before === undefined) delete process.env.HOLDFAST_BOOT_ID;
		else process.env.HOLDFAST_BOOT_ID = before;
	});
	delete process.env.HOLDFAST_BOOT_ID;
	assert.match(currentBootId(), /^[0-9a-f]{8}-[0-9a-f-]{27}$/);
	process.env.HOLDFAST_BOOT_ID = "another";
	assert.equal(currentBootId(), "another");
});

/** Takes all room of the file system. */
function fill(path: string): void {
	for (let megabytes = 64, size = 1024 * 1024; size >= 4096; size /= 4) {
		for (; megabytes > 0; megabytes--) {
			try {
				writeFileSync(path, Buffer.alloc(size), { flag: "a" });
			} catch {
				break;
			}
		}
	}
}
