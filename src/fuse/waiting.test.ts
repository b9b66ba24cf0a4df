// Who waits for a request on a real mount, and is killed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { MS, mountAt, UMOUNT, unmountAt } from "../linux/mount.ts";
import { close, O, openDevice } from "../linux/open.ts";
import { isDying } from "../linux/processes.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { FuseSession } from "./session.ts";

const skip = needs("root", "fuse");

test("a process that waits for a disk can be killed, and a signal that it handles gives up nothing", { skip }, async (t) => {
	const made = scratch(t);
	const at = made.folder("mount");
	const descriptor = openDevice("/dev/fuse", O.rdwr);
	assert.equal(mountAt("test", at, "fuse", MS.nosuid, `fd=${descriptor},rootmode=40000,user_id=0,group_id=0`), 0);
	const overlay = new MemoryOverlay();
	let go = (): void => {};
	const session = new FuseSession({ device: { descriptor, kept: null }, overlay, actsAs: null, isShared: false });
	session.start();
	made.beforeRemoval(async () => {
		go();
		unmountAt(at, UMOUNT.force | UMOUNT.detach);
		await session.ended;
		close(descriptor);
	});
	// a look-up that waits for ever
	overlay.wait = () =>
		new Promise((resolve) => {
			go = resolve;
		});
	const begin = async (script: string) => {
		const calls = overlay.calls.length;
		overlay.waits.set("lookup", 1);
		const child = spawn("sh", ["-c", script], { stdio: "ignore" });
		while (!overlay.calls.slice(calls).includes("lookup")) await new Promise((resolve) => setImmediate(resolve));
		return child;
	};
	const killed = await begin(`exec stat '${at}/name'`);
	const ended = once(killed, "exit");
	killed.kill("SIGKILL");
	assert.deepEqual(await ended, [null, "SIGKILL"]);
	// the shell itself looks for the name, and has a handler
	const signalled = await begin(`trap 'exit 7' USR1; test -e '${at}/name'; exit 5`);
	const exit = once(signalled, "exit");
	signalled.kill("SIGUSR1");
	// the signal has come to us when a later request has: the kernel sends them in order
	const other = spawn("stat", [at], { stdio: "ignore" });
	await once(other, "exit");
	assert.equal(signalled.exitCode, null);
	go();
	assert.deepEqual(await exit, [7, null]);
});

test("isDying is false of who lives and of who is not there", () => {
	assert.equal(isDying(process.pid), false);
	assert.equal(isDying(0), false);
	assert.equal(isDying(4_000_000), false);
});
