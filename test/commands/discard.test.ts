/** `holdfast discard` on stopped and on running exports: what comes back, what stays and is told, and what is refused. */

import assert from "node:assert/strict";
import {
	closeSync,
	existsSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	readSync,
	rmSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startMount } from "../support/fuse-mount.ts";
import { giveTo } from "../support/held-tree.ts";
import { plant } from "../support/lower-tree.ts";
import { needs, onlyInAll } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { layerArguments, ordinaryUser, runHoldfast, startServer } from "../support/server-process.ts";

const skip = needs("root");

function layersIn(made: Scratch, files: Record<string, string>) {
	const lower = plant(join(made.path, "lower"), files);
	const layers = { lowers: [lower], upper: join(made.path, "upper"), work: join(made.path, "work") };
	mkdirSync(layers.upper);
	return layers;
}

test("discard: a running server takes changes back itself, and handles of before find the lowers' files", { skip }, async (t) => {
	const made = scratch(t);
	const layers = layersIn(made, { "dir/one": "1", "dir/two": "2", "gone/deep/file": "3", kept: "4", f: "5" });
	const server = await startServer(made, layers);
	const nfs = await server.client();
	const root = await nfs.root();
	const at = (path: string) => nfs.walk(root, path);
	const paths = ["dir", "dir/one", "dir/two", "gone", "gone/deep", "gone/deep/file", "kept", "f"];
	const before = new Map<string, { readonly handle: Buffer; readonly fileid: bigint }>();
	for (const path of paths) {
		const handle = await at(path);
		before.set(path, { handle, fileid: (await nfs.attributesOf(handle)).fileid });
	}
	assert.equal((await nfs.rename(root, "dir", root, "moved")).status, 0);
	assert.equal((await nfs.write(await at("moved/one"), 0n, Buffer.from("more than before"))).status, 0);
	assert.equal((await nfs.remove(await at("gone/deep"), "file")).status, 0);
	assert.equal((await nfs.rmdir(await at("gone"), "deep")).status, 0);
	assert.equal((await nfs.rmdir(root, "gone")).status, 0);
	assert.equal((await nfs.setattr(await at("kept"), { mode: 0o600 })).status, 0);
	assert.equal((await nfs.rename(root, "f", root, "g")).status, 0);
	assert.equal((await nfs.mkdir(root, "new")).status, 0);
	const words = layerArguments(layers);
	const run = (...more: string[]) => runHoldfast(["discard", ...words, ...more]);
	const diff = () => runHoldfast(["diff", ...words, "--name-only"]).stdout;

	// nobody can be asked here
	const refused = run();
	assert.deepEqual([refused.code, refused.stdout], [1, ""]);
	assert.match(refused.stderr, /^holdfast: This discards 7 changes at .*\/upper\. To do so give --yes\.\n$/);
	assert.equal(run("new", "--dry-run").stdout, "A  new/\nnothing was changed\n");
	assert.deepEqual(run("nowhere", "--yes"), { code: 1, stdout: "", stderr: "holdfast: Neither the export nor its lowers have nowhere.\n" });
	assert.match(run("../x", "--yes").stderr, /leads out of the export/);

	// a part: only that
	assert.equal(run("moved/one", "--yes").stdout, summary({ reverted: 1 }));
	assert.equal(diff(), "f\ng\ngone\nkept\nmoved\nnew\n");
	// of a removed tree one file, with the directories above it
	assert.equal(run("gone/deep/file", "--yes").code, 0);
	assert.equal(diff(), "f\ng\nkept\nmoved\nnew\n");
	// what stands elsewhere stays there
	const elsewhere = run("f", "--yes");
	assert.deepEqual([elsewhere.code, elsewhere.stderr], [1, "holdfast: f stays as it is: it stands elsewhere by now: discard it there.\n"]);
	assert.deepEqual(JSON.parse(run("g", "--yes", "--json").stdout), { removed: 0, reverted: 0, restored: 0, returned: 1, left: [] });
	assert.equal(run("--yes").code, 0);
	assert.equal(diff(), "");
	for (const [path, { handle, fileid }] of before) {
		assert.ok((await at(path)).equals(handle), path);
		assert.equal((await nfs.attributesOf(handle)).fileid, fileid, path);
	}
	assert.equal((await nfs.readFile(await at("dir/one"))).toString(), "1");
	nfs.close();
	await server.terminate();
});

for (const who of ["root", "an ordinary user"]) {
	test(`discard: on a stopped export it takes the lock itself, and says what cannot return: ${who}`, {
		skip: skip || (who !== "root" && onlyInAll),
	}, async (t) => {
		const made = scratch(t);
		const layers = layersIn(made, { "dir/one": "1", "dir/removed": "3", file: "2" });
		const user = who === "root" ? undefined : ordinaryUser(made);
		const state = made.folder("state");
		mkdirSync(layers.work);
		if (user !== undefined) for (const path of [...layers.lowers, layers.upper, layers.work, state]) giveTo(user, path);
		const as = user === undefined ? {} : { user };
		const server = await startServer(made, { ...layers, args: ["--state-dir", state], ...as });
		const nfs = await server.client();
		const root = await nfs.root();
		assert.equal((await nfs.rename(root, "file", await nfs.walk(root, "dir"), "file")).status, 0);
		assert.equal((await nfs.create(root, "file")).status, 0);
		assert.equal((await nfs.remove(await nfs.walk(root, "dir"), "removed")).status, 0);
		nfs.close();
		await server.terminate();
		const words = [...layerArguments(layers), "--state-dir", state];
		const run = (...more: string[]) => runHoldfast(["discard", ...words, "--yes", ...more], as);
		const blocked = run("dir/file");
		assert.deepEqual(
			[blocked.code, blocked.stderr],
			[1, "holdfast: dir/file stays as it is: its place file is taken by another object, which is not discarded.\n"],
		);
		assert.equal(run().stdout, summary({ reverted: 2, restored: 1, returned: 1, removed: 1 }));
		assert.equal(runHoldfast(["diff", ...words], as).stdout, "");
		assert.equal(runHoldfast(["check", ...words], as).code, 0);
		assert.deepEqual(readdirSync(layers.upper), []);
	});
}

test("discard: a mount of its own server shows the lowers' content, also of the same size and time, and files in it stay open", {
	skip: skip || needs("fuse"),
}, async (t) => {
	const made = scratch(t);
	const [tree, view, state] = ["tree", "view", "state"].map((name) => made.folder(name));
	plant(tree, { same: "lower", other: "lower", "dir/removed": "lower" });
	for (const name of ["same", "other"]) utimesSync(join(tree, name), 1000, 1000);
	const mount = await startMount(made, ["mount", tree, view, "--state-dir", state]);
	const read = (name: string) => readFileSync(join(view, name), "latin1");
	for (const name of ["same", "other"]) {
		assert.equal(read(name), "lower");
		writeFileSync(join(view, name), "UPPER", { flag: "r+" });
		utimesSync(join(view, name), 1000, 1000);
		assert.equal(read(name), "UPPER");
	}
	rmSync(join(view, "dir/removed"));
	writeFileSync(join(view, "born"), "born");
	const listed = () => [readdirSync(view).sort(), readdirSync(join(view, "dir"))];
	assert.deepEqual(listed(), [["born", "dir", "other", "same"], []]);
	const [same, born] = ["same", "born"].map((name) => openSync(join(view, name), "r"));
	const { code, stderr } = runHoldfast(["discard", tree, "--state-dir", state, "--yes"]);
	assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
	// it is told a few milliseconds later
	await mount.until(() => !existsSync(join(view, "born")));
	assert.deepEqual(listed(), [["dir", "other", "same"], ["removed"]]);
	for (const name of ["same", "other", "dir/removed"]) assert.equal(read(name), "lower", name);
	const buffer = Buffer.alloc(5);
	for (const [fd, text] of [
		[same, /^(UPPER|lower)$/],
		[born, /^born/],
	] as const) {
		assert.match(buffer.toString("latin1", 0, readSync(fd, buffer, 0, 5, 0)), text);
		closeSync(fd);
	}
	writeFileSync(join(view, "same"), "again");
	assert.equal(read("same"), "again");
	assert.equal(runHoldfast(["unmount", view]).code, 0);
	assert.equal(await mount.ended(), 0, mount.stderr);
});

function summary({ reverted = 0, restored = 0, returned = 0, removed = 0 }): string {
	return `discarded: ${reverted} as in the lowers again, ${restored} that were removed, ${returned} back in their places, ${removed} new ones gone\n`;
}
