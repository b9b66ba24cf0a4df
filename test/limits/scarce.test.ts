/** Upper on a file system that has become read-only, or has no inodes left: what people are told, and what clients can still do. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, statfsSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ok, refused } from "../support/nfs3-client.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../support/scratch.ts";
import { runHoldfast, startServer } from "../support/server-process.ts";

const FILE_SYSTEMS: readonly FileSystem[] = ["tmpfs", "ext4"];

for (const kind of FILE_SYSTEMS) {
	const skip = needs("root") || cannotMount(kind);

	test(`an upper on a ${kind} that is mounted read-only is refused with one sentence, and served again when it is not`, {
		skip,
	}, async (t) => {
		const made = scratch(t);
		const lower = made.folder("lower");
		writeFileSync(join(lower, "file"), "file");
		const disk = made.mount(kind, "disk", 32);
		const options = { lowers: [lower], upper: join(disk, "upper"), args: ["--state-dir", made.folder("state")] };
		const refuse = (upper: string) => {
			const { code, stdout, stderr } = runHoldfast([
				"serve",
				"--lower",
				lower,
				"--upper",
				upper,
				"--listen",
				"127.0.0.1:0",
				...options.args,
			]);
			assert.equal(code, 1, stdout + stderr);
			assert.match(stderr, /^holdfast: Cannot .*read-only.*\.\n$/i);
		};
		execFileSync("mount", ["-o", "remount,ro", disk]);
		refuse(join(disk, "new"));
		execFileSync("mount", ["-o", "remount,rw", disk]);
		const server = await startServer(made, options);
		const client = await server.client();
		const { handle } = await ok(client.create(await client.root(), "new"));
		await server.terminate();
		execFileSync("mount", ["-o", "remount,ro", disk]);
		refuse(options.upper);
		execFileSync("mount", ["-o", "remount,rw", disk]);
		await server.start();
		const again = await server.client();
		await ok(again.getattr(handle as Buffer));
		client.close();
		again.close();
	});

	test(`a client that comes for the first time removes files of a ${kind} without a free inode`, { skip }, async (t) => {
		const made = scratch(t);
		const disk = made.mount(kind, "disk", 32, 256);
		const [lower, upper] = [join(disk, "lower"), join(disk, "upper")];
		mkdirSync(lower);
		const server = await startServer(made, { lowers: [lower], upper, args: ["--state-dir", made.folder("state")] });
		const before = await server.client();
		for (const name of ["one", "two"]) await ok(before.create(await before.root(), name), name);
		before.close();
		await server.terminate();
		// as if nobody had come before
		rmSync(join(disk, "upper.work/holdfast/requests"), { recursive: true });
		mkdirSync(join(disk, "fill"));
		const fillers: string[] = [];
		await server.start();
		for (let left = statfsSync(disk).ffree; left > 0; left--) {
			fillers.push(join(disk, "fill", String(left)));
			writeFileSync(fillers.at(-1) as string, "");
		}
		const client = await server.client();
		const root = await client.root();
		await ok(client.remove(root, "one"), "REMOVE");
		// the inode that this has freed somebody else takes
		for (let left = statfsSync(disk).ffree; left > 0; left--) writeFileSync(join(disk, "fill", `again${left}`), "");
		await refused(client.create(root, "new"), "nospc");
		await ok(client.remove(root, "two"), "REMOVE");
		await ok(client.create(root, "new"), "CREATE");
		for (const filler of fillers) unlinkSync(filler);
		await server.restart();
		const again = await server.client();
		const names = await again.list(await again.root(), { dots: false });
		assert.deepEqual(
			names.map(({ name }) => name),
			["new"],
		);
		client.close();
		again.close();
	});
}
