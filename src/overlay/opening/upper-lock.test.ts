// The lock of an upper: who is refused and what he is told, and what ends it.

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../../test/support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../../../test/support/scratch.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { tryLock } from "../../linux/file-system.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { isUpperLocked, type LockedUpper, lockUpper } from "./upper-lock.ts";

/** `base`: on which mount it is seen. */
function upperIn(t: TestContext, base: string): LockedUpper {
	for (const name of ["upper", "work/holdfast"]) mkdirSync(join(base, name), { recursive: true });
	const path = join(base, "upper");
	const root = openPath(path, O.rdonly | O.directory);
	t.after(() => close(root));
	return { path, root, folder: join(base, "work/holdfast") };
}

const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";

/** Another process that locks the upper; resolves when it has the lock. `more`: what it does then. */
async function holder(made: Scratch, { path, folder }: LockedUpper, more = ""): Promise<ChildProcess> {
	const module = (name: string) => JSON.stringify(new URL(`${name}.${extension}`, import.meta.url).href);
	const program = `
		const { lockUpper, isUpperLocked } = await import(${module("./upper-lock")});
		const { openPath } = await import(${module("../../linux/open")});
		const { readFileSync } = await import("node:fs");
		const { spawn } = await import("node:child_process");
		const upper = { path: ${JSON.stringify(path)}, root: openPath(${JSON.stringify(path)}, 0), folder: ${JSON.stringify(folder)} };
		globalThis.lock = lockUpper(upper, "holdfast serve");
		lock.keepFile();
		${more}
		process.stdout.write("locked\\n");
		setInterval(() => {}, 1000);`;
	const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
	made.beforeRemoval(() => child.kill("SIGKILL"));
	await once(child.stdout as NodeJS.ReadableStream, "data");
	return child;
}

async function kill(child: ChildProcess): Promise<void> {
	const end = once(child, "exit");
	child.kill("SIGKILL");
	await end;
}

function refusal(upper: LockedUpper): string {
	const root = openPath(upper.path, O.rdonly | O.directory);
	try {
		lockUpper({ ...upper, root }, "holdfast serve").close();
	} catch (error) {
		assert.ok(error instanceof LayerError);
		return error.message;
	} finally {
		close(root);
	}
	assert.fail("it was not refused");
}

test("a second server is told who has the upper, and gets it when that one is killed", async (t) => {
	const made = scratch(t);
	const upper = upperIn(t, made.path);
	const child = await holder(made, upper);
	const who = new RegExp(
		`Cannot lock the upper ${upper.path}: the process ${child.pid} of this host \\(holdfast serve, since 20\\S+Z\\) is serving it\\. Stop`,
	);
	assert.match(refusal(upper), who);
	assert.ok(isUpperLocked(upper));
	await kill(child);
	assert.ok(!isUpperLocked(upper));
	lockUpper(upper, "holdfast serve").close();
});

test("the lock is held for another host too, which the sentence names; what cannot be understood names nobody", async (t) => {
	const made = scratch(t);
	const upper = upperIn(t, made.path);
	const child = await holder(made, upper);
	const file = join(upper.folder, "server");
	assert.equal(JSON.parse(readFileSync(file, "utf8")).host, hostname());
	writeFileSync(file, JSON.stringify({ host: "elsewhere", pid: 7, since: "then", command: "holdfast serve" }));
	assert.match(refusal(upper), /the process 7 of the host elsewhere \(holdfast serve, since then\) is serving it/);
	for (const content of ["", "{", "null", '{"host":1}', "\0".repeat(10_000)]) {
		writeFileSync(file, content);
		assert.match(refusal(upper), /: another process is serving it/);
	}
	await kill(child);
});

test("neither a child of the holder keeps the lock, nor does another descriptor of the file end it", async (t) => {
	const made = scratch(t);
	const upper = upperIn(t, made.path);
	const child = await holder(
		made,
		upper,
		`spawn("sleep", ["600"], { stdio: "ignore", detached: true }).unref();
		readFileSync(upper.folder + "/server");
		if (!isUpperLocked(upper)) process.exit(1);`,
	);
	assert.match(refusal(upper), /is serving it/);
	const [sleeper] = execFileSync("ps", ["-o", "pid=", "--ppid", String(child.pid)], { encoding: "utf8" })
		.trim()
		.split("\n");
	t.after(() => process.kill(Number(sleeper), "SIGKILL"));
	await kill(child);
	assert.ok(existsSync(`/proc/${Number(sleeper)}`));
	lockUpper(upper, "holdfast serve").close();
});

test("an earlier version, which locks the directory alone, is seen, and sees the lock", (t) => {
	const made = scratch(t);
	const upper = upperIn(t, made.path);
	writeFileSync(join(upper.folder, "pid"), "4711\n");
	const earlier = openPath(upper.path, O.rdonly | O.directory);
	assert.equal(tryLock(earlier), 0);
	assert.match(refusal(upper), /the process 4711 is serving it/);
	assert.ok(isUpperLocked(upper));
	close(earlier);
	const lock = lockUpper(upper, "holdfast serve");
	const later = openPath(upper.path, O.rdonly | O.directory);
	assert.ok(tryLock(later) < 0);
	close(later);
	lock.close();
});

test("a first start that is refused leaves neither the file nor a folder for it; one that goes on does", (t) => {
	const made = scratch(t);
	const upper = { ...upperIn(t, made.path), folder: join(made.folder("fresh"), "holdfast") };
	lockUpper(upper, "holdfast serve").close();
	assert.deepEqual(readdirSync(dirname(upper.folder)), []);
	const lock = lockUpper(upper, "holdfast serve");
	lock.keepFile();
	lock.close();
	assert.deepEqual(readdirSync(upper.folder), ["server"]);
	lockUpper(upper, "holdfast serve").close();
	assert.deepEqual(readdirSync(upper.folder), ["server"]);
});

test("a link in the place of the file is refused, and what it leads to stays as it is", (t) => {
	const made = scratch(t);
	const upper = upperIn(t, made.path);
	const outside = made.file("outside", "untouched");
	symlinkSync(outside, join(upper.folder, "server"));
	assert.match(refusal(upper), /server cannot be opened: .*\(ELOOP\)\. It was put there by somebody else/);
	assert.equal(readFileSync(outside, "utf8"), "untouched");
});

test("who only looks writes nothing", (t) => {
	const made = scratch(t);
	const upper = upperIn(t, made.path);
	assert.ok(!isUpperLocked(upper));
	assert.deepEqual(readdirSync(upper.folder), []);
});

test("without room for the file the directory alone is locked", { skip: needs("root") || cannotMount("tmpfs") }, (t) => {
	const made = scratch(t);
	const upper = upperIn(t, made.mount("tmpfs"));
	execFileSync("mount", ["-o", "remount,nr_inodes=5", dirname(upper.path)]);
	assert.throws(() => {
		for (let i = 0; i < 100; i++) writeFileSync(join(dirname(upper.path), `filler${i}`), "");
	}, /ENOSPC/);
	const lock = lockUpper(upper, "holdfast serve");
	assert.ok(!existsSync(join(upper.folder, "server")));
	assert.match(refusal(upper), /another process is serving it/);
	lock.close();
});

test("where a mount keeps the lock of a directory to itself, that of the file holds over two mounts", {
	skip: needs("root", "bindfs") || noFuse(),
}, async (t) => {
	const made = scratch(t);
	const real = made.folder("real");
	const mounts = ["one", "other"].map((name) => {
		const at = made.folder(name);
		execFileSync("bindfs", ["--enable-lock-forwarding", "--multithreaded", real, at], { stdio: "pipe" });
		made.beforeRemoval(() => execFileSync("umount", ["-l", at]));
		return at;
	});
	const [one, other] = mounts.map((at) => upperIn(t, at)) as [LockedUpper, LockedUpper];
	const child = await holder(made, one);
	const directory = openPath(other.path, O.rdonly | O.directory);
	assert.equal(tryLock(directory), 0, "this file system is no example");
	close(directory);
	assert.match(refusal(other), new RegExp(`the process ${child.pid} of this host`));
	await kill(child);
	lockUpper(other, "holdfast serve").close();
});

function noFuse(): string | false {
	return existsSync("/dev/fuse") ? false : "no FUSE here";
}
