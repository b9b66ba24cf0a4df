/**
 * A tree of 20,000 real files of this machine, and all that a tree may hold besides, is copied up entirely by the Linux client's
 * `chown -R`. What then lies in the upper, what the kernel's overlayfs shows of it after a release, and what the client saw equal a
 * `cp -a` of the lower to which the same was done.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertSame, assertSameFind, describe, plantOddities, plantRealFiles, type Tree } from "../support/real-image.ts";
import { needs, sbinPath } from "../support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../support/scratch.ts";
import { layerArguments, runHoldfast, startServer } from "../support/server-process.ts";
import { assertQuiet, runVm } from "../support/virtual-machine.ts";

const skip = needs("root", "vm", "find", "tar", "setfattr", "getfattr", "setfacl") || cannotMount("ext4");
const files = 20_000;
const group = ":8765";
const owner = "4321";
const lanes = 8;
const megabytes = 1600;

/** An ext4 whose flushes cost nothing: 20,000 files are flushed one by one. */
function mountInMemory(made: Scratch): string {
	const image = join(made.mount("tmpfs", "memory", megabytes), "image");
	writeFileSync(image, "");
	truncateSync(image, megabytes * 2 ** 20);
	execFileSync("mkfs.ext4", ["-q", "-F", "-i", "4096", image], { stdio: "pipe", env: { ...process.env, PATH: sbinPath() } });
	symlinkSync(image, join(made.path, "disk.img"));
	return made.mountImage("disk");
}

/**
 * Of a lower file with several names only those need be in the upper by which it was changed; the others stay in the lower, and are
 * the file of the upper by the index.
 */
function withoutFurtherNames(expected: Tree, upper: Tree): Tree {
	const sameFile = (line: string) => / same-file-as=(.*)$/.exec(line)?.[1] ?? "";
	const firstInUpper = new Map<string, string>();
	for (const [path, line] of expected) {
		if (upper.has(path) && !firstInUpper.has(sameFile(line))) firstInUpper.set(sameFile(line), JSON.stringify(path));
	}
	const left = new Map<string, string>();
	for (const [path, line] of expected) {
		const first = firstInUpper.get(sameFile(line));
		if (!upper.has(path) && first !== undefined && sameFile(line) !== "") continue;
		left.set(path, sameFile(line) === "" ? line : line.replace(/ same-file-as=.*$/, ` same-file-as=${first ?? "nothing"}`));
	}
	return left;
}

function chownLocally(top: string): void {
	execFileSync("chown", ["-hR", group, "."], { cwd: top });
	execFileSync("chown", ["-hR", owner, "owned"], { cwd: top });
}

test("a tree of 20,000 real files, copied up by chown -R of the Linux client, equals a cp -a of it", {
	skip,
}, async (t) => {
	const made: Scratch = scratch(t);
	const disk = mountInMemory(made);
	const lower = join(disk, "lower");
	const count = plantRealFiles(lower, files);
	if (count < files) {
		t.skip(`needs ${files} files below /etc and /usr; there are ${count}`);
		return;
	}
	plantOddities(lower);
	const before = describe(lower);
	const reference = join(disk, "reference");
	execFileSync("cp", ["-a", lower, reference]);
	assertSame(before, describe(reference), "the reference, a cp -a of the lower");
	chownLocally(reference);
	const expected = describe(reference);

	const work = join(disk, "work");
	const options = { lowers: [lower], upper: join(disk, "upper"), work };
	const state = ["--state-dir", made.folder("state")];
	const server = await startServer(made, { ...options, args: ["--async", ...state] });
	const results = made.folder("results");
	const vm = await runVm(made, "copy-up-everything.sh", {
		env: { TOP: made.folder("mount"), PORT: String(server.port), RESULTS: results, GROUP: group, OWNER: owner, LANES: String(lanes) },
		writable: [results],
	});
	assertQuiet(t, vm, server.stderr);
	t.diagnostic(`${expected.size} objects; virtual machine: ${vm.seconds.toFixed(1)} s`);
	await server.terminate();

	assertSameFind(join(results, "find"), reference, "%y %m %U %G %n %s\\t%P\\0", "find on the client and in the reference");

	const released = runHoldfast(["release", ...layerArguments(options), ...state]);
	assert.equal(released.code, 0, released.stderr);
	const upper = describe(options.upper);
	assertSame(withoutFurtherNames(expected, upper), upper, "the upper by itself");
	const merged = made.folder("merged");
	const layers = `lowerdir=${lower},upperdir=${options.upper},workdir=${work},index=on,nfs_export=on,redirect_dir=on`;
	execFileSync("mount", ["-t", "overlay", "-o", layers, "overlay", merged]);
	made.beforeRemoval(() => execFileSync("umount", [merged]));
	assertSame(expected, describe(merged), "the kernel's overlayfs over the released upper");
	assertSame(before, describe(lower), "the lower");
});
