/** An NFS client that we did not write walks, reads and writes a copy of /usr/share. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { libnfs } from "../support/libnfs.ts";
import { noise, plant } from "../support/lower-tree.ts";
import { full, needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";
import { assertSameTree, snapshotTree } from "../support/tree-snapshot.ts";

/** A part of /usr/share, or all of it with HOLDFAST_TEST_FULL=1: entries and bytes at most. */
const most = full ? { entries: Number.POSITIVE_INFINITY, bytes: Number.POSITIVE_INFINITY } : { entries: 3000, bytes: 60 << 20 };
const READERS = 4;

function copyShare(to: string): string[] {
	const copied: string[] = [];
	let bytes = 0;
	const queue = [""];
	for (let at = 0; at < queue.length && copied.length < most.entries && bytes < most.bytes; at += 1) {
		const folder = queue[at] as string;
		for (const name of readdirSync(join("/usr/share", folder)).sort()) {
			if (copied.length >= most.entries || bytes >= most.bytes) break;
			const path = folder === "" ? name : `${folder}/${name}`;
			const stat = lstatSync(join("/usr/share", path));
			if (stat.isDirectory()) {
				mkdirSync(join(to, path), { recursive: true });
				queue.push(path);
			} else if (stat.isFile() || stat.isSymbolicLink()) {
				mkdirSync(dirname(join(to, path)), { recursive: true });
				cpSync(join("/usr/share", path), join(to, path), { verbatimSymlinks: true, preserveTimestamps: true });
				bytes += stat.size;
			} else continue;
			copied.push(path);
		}
	}
	return copied;
}

test("libnfs' tools walk, read and write a copy of /usr/share", {
	skip: needs("root", "nfs-ls", "getfattr"),
}, async (t) => {
	const made = scratch(t);
	const lower = made.folder("share");
	const paths = copyShare(lower);
	assert.ok(paths.length > 500, `only ${paths.length} entries in /usr/share`);
	const before = snapshotTree(lower);
	const upper = made.folder("upper");
	const server = await startServer(made, { lowers: [lower], upper, args: ["--state-dir", made.folder("state")] });
	const timed = async (what: string, work: () => Promise<void>) => {
		const started = Date.now();
		await t.test(what, work);
		t.diagnostic(`${what}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
	};

	await timed("nfs-ls -R lists every entry with its type, mode and size", async () => {
		const run = await libnfs("nfs-ls", "-R", server.url("/"));
		assert.equal(run.code, 0, run.stderr);
		const listed = new Map<string, string>();
		// "-rw-r--r--  1     0     0         1234 path/of/the/entry"
		for (const line of run.stdout.toString().split("\n")) {
			const match = /^([-a-z][-rwxsStT]{9})\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+) (.*)$/.exec(line);
			if (match) listed.set((match[6] as string).replace(/^\/+/, ""), `${match[1]} ${match[3]} ${match[4]} ${match[5]}`);
		}
		const expected = new Map<string, string>();
		for (const path of paths) {
			const stat = lstatSync(join(lower, path));
			expected.set(path, `${modeString(stat.mode)} ${stat.uid} ${stat.gid} ${stat.size}`);
		}
		const seen = [...listed.keys()].sort();
		assert.deepEqual(seen, [...expected.keys()].sort(), "the set of paths");
		for (const [path, line] of expected) assert.equal(listed.get(path), line, path);
	});

	const files = paths.filter((path) => lstatSync(join(lower, path)).isFile() && !/[?&%#]/.test(path));
	const sample = full ? files : files.filter((_, index) => index % Math.ceil(files.length / 400) === 0);
	await timed(`nfs-cat reads ${sample.length} files byte for byte`, async () => {
		await inParallel(sample, async (path) => {
			const run = await libnfs("nfs-cat", server.url(path));
			assert.equal(run.code, 0, `${path}: ${run.stderr}`);
			const expected = readFileSync(join(lower, path));
			if (!run.stdout.equals(expected))
				assert.fail(`${path}: ${run.stdout.length} bytes read, ${expected.length} expected, or they differ`);
		});
	});

	const big = noise(24 * 1024 * 1024 + 4321, 7);
	const source = made.file("big", big);
	await timed("nfs-cp writes new files and reads them back", async () => {
		const put = await libnfs("nfs-cp", source, server.url("/new-file"));
		assert.equal(put.code, 0, put.stderr);
		assert.equal(sha256(readFileSync(join(upper, "new-file"))), sha256(big));
		const back = join(made.path, "back");
		const get = await libnfs("nfs-cp", server.url("/new-file"), back);
		assert.equal(get.code, 0, get.stderr);
		assert.equal(sha256(readFileSync(back)), sha256(big));
	});

	await timed("nfs-cp copies the sample within the export, and each copy reads the same, also after a restart", async () => {
		const some = sample.slice(0, full ? 2000 : 60);
		await inParallel(some, async (path) => {
			const run = await libnfs("nfs-cp", server.url(path), server.url(`/copy-${path.replaceAll("/", "_")}`));
			assert.equal(run.code, 0, `${path}: ${run.stderr}`);
		});
		await server.restart();
		await inParallel(some, async (path) => {
			const run = await libnfs("nfs-cat", server.url(`/copy-${path.replaceAll("/", "_")}`));
			assert.equal(run.code, 0, `${path}: ${run.stderr}`);
			assert.equal(sha256(run.stdout), sha256(readFileSync(join(lower, path))), path);
		});
	});

	await timed("the lower is as it was", async () => {
		assertSameTree(before, snapshotTree(lower), "the lower was changed");
		assert.ok(existsSync(join(upper, "new-file")));
	});
});

test("serve DIR in its short form keeps changes under the state folder", { skip: needs("root", "nfs-ls", "getfattr") }, async (t) => {
	const made = scratch(t);
	const golden = plant(made.folder("golden"), { "etc/hosts": "127.0.0.1 localhost\n" });
	const before = snapshotTree(golden);
	const state = join(made.path, "state");
	const options = { directory: golden, args: ["--state-dir", state] };
	const server = await startServer(made, options);
	const note = made.file("note", "a note\n");
	const put = await libnfs("nfs-cp", note, server.url("/etc/note"));
	assert.equal(put.code, 0, put.stderr);
	await server.terminate();
	assertSameTree(before, snapshotTree(golden), "the tree was written to");
	assert.ok(existsSync(join(state, "changes/golden/upper/etc/note")), "changes are a set in the state folder");
	await server.start();
	assert.equal((await libnfs("nfs-cat", server.url("/etc/note"))).stdout.toString(), "a note\n", "the change is there after a restart");
	assert.equal((await libnfs("nfs-cat", server.url("/etc/hosts"))).stdout.toString(), "127.0.0.1 localhost\n");
	assert.match(server.stdout, /mount -t nfs .*vers=3.*port=\d+.*mountport=\d+.*nolock/, "the mount command for Linux");
	assert.match(server.stdout, /mount_nfs|mount -t nfs .*nolocks/, "the mount command for macOS");
	assert.equal(server.stdout.match(/^ready/gm)?.length, 2, "one line begins with ready, at each start");
});

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
	const queue = [...items];
	await Promise.all(
		Array.from({ length: READERS }, async () => {
			for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
		}),
	);
}

function sha256(bytes: Buffer): string {
	return createHash("sha256").update(bytes).digest("hex");
}

function modeString(mode: number): string {
	const type = mode >> 12 === 4 ? "d" : mode >> 12 === 10 ? "l" : "-";
	const bits = [..."rwxrwxrwx"].map((letter, index) => ((mode >> (8 - index)) & 1 ? letter : "-"));
	return type + bits.join("");
}
