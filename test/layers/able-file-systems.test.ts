/** An upper is served only where its file system can do all that this takes; what finds that out leaves nothing. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { giveTo } from "../support/held-tree.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../support/scratch.ts";
import { ordinaryUser, runHoldfast, startServer } from "../support/server-process.ts";

const noFuse = existsSync("/dev/fuse") ? false : "no FUSE here";

test("a file system that takes no flags of renameat2 is refused with the call that failed, and nothing is made there", {
	skip: needs("root", "bindfs") || noFuse,
}, (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { f: "f" });
	const at = made.folder("mounted");
	execFileSync("bindfs", [made.folder("contents"), at], { stdio: "pipe" });
	made.beforeRemoval(() => execFileSync("umount", ["-l", at]));
	for (const handles of ["auto", "portable"]) {
		const { code, stdout, stderr } = runHoldfast([
			...["serve", "--create", "--lower", lower, "--upper", join(at, "upper"), "--handles", handles],
			...["--listen", "127.0.0.1:0", "--state-dir", made.folder("state")],
		]);
		assert.equal(code, 1);
		assert.equal(stdout, "");
		const what = "cannot do what an upper needs: renameat2\\(2\\) with RENAME_NOREPLACE in \\S+/upper\\.work/holdfast failed \\(EINVAL\\)";
		assert.match(
			stderr,
			new RegExp(`^holdfast: Cannot serve the upper \\S+: its file system \\(fuse(\\.bindfs)?\\) ${what}\\. Keep upper and work on`),
		);
		assert.deepEqual(readdirSync(at), []);
	}
});

for (const kind of ["ext4", "xfs", "btrfs", "tmpfs"] satisfies FileSystem[]) {
	for (const by of ["root", "an ordinary user"]) {
		const skip =
			needs("root", kind === "tmpfs" ? "mount" : `mkfs.${kind}`) || cannotMount(kind) || (by === "root" ? false : needs("setpriv"));
		test(`on ${kind}, served by ${by}, the probe leaves nothing, also what a killed one has left`, { skip }, async (t) => {
			const made = scratch(t);
			const base = made.mount(kind);
			const lower = plant(join(base, "lower"), { f: "f" });
			const [upper, work] = [join(base, "upper"), join(base, "work")];
			for (const folder of [upper, work]) mkdirSync(folder);
			const probe = join(work, "holdfast/probe");
			const state = made.folder("state");
			const user = by === "root" ? undefined : ordinaryUser(made);
			if (user !== undefined) giveTo(user, base, state);
			const server = await startServer(made, {
				lowers: [lower],
				upper,
				work,
				args: ["--state-dir", state],
				...(user === undefined ? {} : { user }),
			});
			assert.ok(!existsSync(probe));
			await server.terminate();
			mkdirSync(join(probe, "c"), { recursive: true });
			writeFileSync(join(probe, "a"), "");
			if (user !== undefined) giveTo(user, probe);
			await server.start();
			assert.ok(!existsSync(probe));
			await server.terminate();
			mkdirSync(probe);
			writeFileSync(join(probe, "mine"), "");
			if (user !== undefined) giveTo(user, probe);
			await assert.rejects(server.start());
			assert.match(server.stderr, /Cannot remove \S+\/probe: it is not empty \(ENOTEMPTY\)\. It was put there by somebody else/);
			assert.ok(existsSync(join(probe, "mine")));
		});
	}
}
