// Whether the file systems of trees answer: a look at one whose server is gone may never end, so another process looks.

import { spawn } from "node:child_process";
import { readSync } from "node:fs";
import { mountAround, mountTable } from "../linux/mount-table.ts";
import { close } from "../linux/open.ts";
import { makeSharedMemory } from "../linux/shared-memory.ts";

/** How long all of them together may take. */
const ANSWER_MS = 3000;
const POLL_MS = 5;
const THREADS_MAX = 128;

/** What these have lies on a disk of this machine, or in its memory. */
const LOCAL: ReadonlySet<string> = new Set([
	...["ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "jfs", "overlay"],
	...["tmpfs", "ramfs", "rootfs", "devtmpfs"],
	...["squashfs", "erofs", "iso9660", "udf", "vfat", "exfat", "ntfs3"],
]);

/** statfs(2) asks the server of a network file system each time, whatever is in a cache. */
const LOOK =
	'const fs=require("node:fs");process.argv.slice(1).forEach((path,i)=>fs.statfs(path,()=>fs.stat(path,()=>fs.writeSync(3,i+"\\n"))))';

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** The paths, of some without links in them, whose file systems do not answer in time. What is not there answers. */
export function silentTrees(paths: readonly string[]): ReadonlySet<string> {
	const table = mountTable();
	const asked = [...new Set(paths)].filter((path) => !LOCAL.has(mountAround(path, table)?.type ?? ""));
	if (asked.length === 0) return new Set();
	const answers = makeSharedMemory("holdfast answers", 0);
	// there is no room for them, and so nobody can be asked
	if (answers < 0) return new Set();
	const threads = Math.min(asked.length, THREADS_MAX);
	const child = spawn(process.execPath, ["-e", LOOK, "--", ...asked], {
		stdio: ["ignore", "ignore", "ignore", answers],
		detached: true,
		env: { ...process.env, UV_THREADPOOL_SIZE: String(threads) },
	});
	// a process that waits for a dead file system may outlive its kill: nobody waits for it
	child.unref();
	child.on("error", () => {});
	const end = performance.now() + ANSWER_MS;
	let answered = answersIn(answers);
	while (answered.size < asked.length && performance.now() < end) {
		Atomics.wait(sleeper, 0, 0, POLL_MS);
		answered = answersIn(answers);
	}
	if (answered.size < asked.length) child.kill("SIGKILL");
	close(answers);
	return new Set(asked.filter((_, i) => !answered.has(i)));
}

function answersIn(fd: number): ReadonlySet<number> {
	const bytes = Buffer.alloc(64 * 1024);
	const text = bytes.toString("latin1", 0, readSync(fd, bytes, 0, bytes.length, 0));
	return new Set(text.split("\n").slice(0, -1).map(Number));
}
