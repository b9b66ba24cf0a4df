/** What `--dry-run` says beside a running server, and that nothing changes by it. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { layerArguments, runHoldfast, startServer } from "../support/server-process.ts";
import { assertSameTree, snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root");

test("each command that takes --dry-run works beside a server, says what would be, and changes nothing", { skip }, async (t) => {
	const made = scratch(t);
	for (const handles of ["kernel", "portable"] as const) {
		const lower = plant(made.folder(`${handles}-lower`), { "dir/file": "contents", gone: "x", "dir/large": "x".repeat(2 ** 21) });
		const image = plant(made.folder(`${handles}-image`), { "dir/file": "other", gone: "x" });
		const options = { lowers: [lower], upper: made.folder(`${handles}-upper`), work: made.folder(`${handles}-work`) };
		const state = ["--state-dir", made.folder("state")];
		const server = await startServer(made, { ...options, args: [...state, "--handles", handles] });
		const client = await server.client();
		const root = await client.root();
		await client.writeFile(await client.walk(root, "dir/file"), "CON");
		await client.setattr(await client.walk(root, "dir/large"), { mode: 0o600 });
		await client.remove(root, "gone");
		const before = [options.upper, options.work, lower].map((path) => snapshotTree(path));
		const layers = [...layerArguments(options), ...state];
		const place = ["--upper", options.upper, "--work", options.work];
		const said = (expected: RegExp, ...args: string[]) => {
			const run = runHoldfast([...args, "--dry-run"]);
			assert.equal(run.code, 0, `${args.join(" ")}: ${run.stderr}`);
			assert.match(run.stdout, expected, args.join(" "));
		};
		said(/would copy up: 1 files, 2097152 bytes/, "settle", ...layers);
		said(/Nothing was changed.*\n.*Key 2 verifies/, "key", "rotate", ...layers);
		said(/^no errors$/m, "check", "--repair", ...layers);
		said(/^M {2}dir\/file\nP {2}dir\/large\nD {2}gone\nnothing was changed\n$/, "discard", ...layers);
		said(/^M {2}dir\/file\nP {2}dir\/large\nD {2}gone\nwould apply 3 changes to \S+; nothing was changed\n$/, "apply", ...layers);
		said(/nothing to adopt/, "adopt", ...layers);
		if (handles === "kernel") {
			said(/would complete: 1 large files.*\n.*\n.*\nnothing was changed\n$/, "release", ...layers);
			said(/would be portable: 4 names in the lowers, 3 objects of the upper\nnothing was changed/, "rebind", ...layers);
		} else {
			said(/would no longer be export [0-9a-f]{8}\nnothing was changed/, "fork", ...place);
			// whose data is not copied up yet cannot be put on another image
			assert.match(runHoldfast(["rebase", "--dry-run", ...place, "--lower", image]).stderr, /holdfast settle first/);
			await server.terminate();
			assert.equal(runHoldfast(["settle", ...layers]).code, 0);
			await server.start();
			before.splice(0, 2, ...[options.upper, options.work].map((path) => snapshotTree(path)));
			said(/2 changed, 1 removed, 0 added\n(.*\n)*nothing was changed\n$/, "rebase", ...place, "--lower", image, "--was", lower);
		}
		for (const [i, path] of [options.upper, options.work, lower].entries())
			assertSameTree(before[i] as ReturnType<typeof snapshotTree>, snapshotTree(path), path);
		client.close();
		await server.terminate();
	}
});

test("adopt --dry-run says what it would refuse, and what there is to adopt", { skip: needs("root", "setfattr") }, (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { "dir/file": "" });
	const upper = plant(made.folder("upper"), { "dir/sub/file": "", gone: { node: ["c", "0", "0"] } });
	execFileSync("setfattr", ["-n", "trusted.overlay.opaque", "-v", "y", join(upper, "dir")]);
	const before = snapshotTree(made.path);
	const run = (...args: string[]) =>
		runHoldfast(["adopt", "--dry-run", "--lower", lower, ...args, "--state-dir", join(made.path, "state")]);
	const counts = "3 directories, 1 whiteouts, 1 objects with marks of an overlay";
	assert.equal(run("--upper", upper).stdout, `would adopt ${upper}: ${counts}\nnothing was changed\n`);
	assert.match(run("--upper", join(lower, "dir")).stderr, /inside|overlap/i);
	assert.match(run("--upper", join(made.path, "none")).stderr, /there is no such directory/);
	assertSameTree(before, snapshotTree(made.path), "something was made");
});

test("adopt --dry-run refuses a copy with its work folder, as adopt does, and adopts the copy of the upper alone", { skip }, (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { "dir/file": "" });
	const upper = made.folder("upper");
	const adopt = (path: string, ...args: string[]) =>
		runHoldfast(["adopt", "--lower", lower, "--upper", path, "--state-dir", join(made.path, "state"), ...args]);
	assert.equal(adopt(upper).code, 0);
	const copied = join(made.path, "copied");
	for (const suffix of ["", ".work"]) execFileSync("cp", ["-a", `${upper}${suffix}`, `${copied}${suffix}`]);
	for (const args of [[], ["--dry-run"]]) {
		assert.match(adopt(copied, ...args).stderr, /was made for another directory .*copy the upper alone/, args.join(" "));
	}
	rmSync(`${copied}.work`, { recursive: true });
	assert.match(adopt(copied, "--dry-run").stdout, /^would adopt/);
	assert.match(adopt(copied).stdout, /^adopted/);
});
