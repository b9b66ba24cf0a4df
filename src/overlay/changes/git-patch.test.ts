// A patch of the changes, applied by git to a tree of the lower, gives what the overlay shows.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lstatSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { plant } from "../../../test/support/lower-tree.ts";
import { needs, volume } from "../../../test/support/requirements.ts";
import { type Scratch, scratch } from "../../../test/support/scratch.ts";
import { FileType, type OverlayObject } from "../../vfs/operations.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { Contents } from "./content.ts";
import { fileChanges } from "./file-changes.ts";
import { patchOf, type Unsaid } from "./git-patch.ts";
import { perform, plantLower, ROOT, SEQUENCES, type Tree, treeOfOverlay, treeOnDisk } from "./random-changes.test-support.ts";

const skip = needs("root");

function open(made: Scratch, lower: string, name: string, handles: "kernel" | "portable"): OpenedOverlay {
	const top = made.folder(name);
	const layers = { lowers: [lower], upper: join(top, "upper"), work: join(top, "work"), stateFolder: join(top, "state") };
	return openOverlay({ ...layers, isSync: false, handles, purpose: "serve" });
}

async function patch(opened: OpenedOverlay, hasBinary = true): Promise<{ readonly text: Buffer; readonly unsaid: Unsaid }> {
	const contents = new Contents(opened);
	const unsaid = { specials: 0, ofGit: 0, binaries: 0 };
	const pieces: Buffer[] = [];
	for await (const change of fileChanges(opened, contents)) {
		for await (const piece of patchOf(change, { hasBinary, unsaid })) pieces.push(piece);
	}
	contents.close();
	return { text: Buffer.concat(pieces), unsaid };
}

/** Files and symlinks, with what git keeps of modes. */
function asGitHasIt(tree: Tree): string[] {
	return [...tree]
		.map(([path, value]) => [path, value.split(" ")] as const)
		.filter(([, [type]]) => Number(type) !== FileType.dir)
		.map(
			([path, [type, mode, ...content]]) => `${path}: ${type} ${(Number.parseInt(mode, 8) & 0o100) === 0 ? "" : "x"} ${content.join(" ")}`,
		)
		.sort();
}

/** A copy of the lower that git has applied the patch to. */
function applied(made: Scratch, lower: string, name: string, text: Buffer): string {
	const copy = join(made.path, `${name}.git`);
	execFileSync("cp", ["-a", lower, copy]);
	const git = (...words: string[]) => execFileSync("git", words, { cwd: copy, stdio: "pipe" });
	git("init", "-q");
	git("-c", "core.fileMode=true", "add", "-A");
	writeFileSync(join(made.path, `${name}.patch`), text);
	if (text.length > 0) git("apply", "--index", "--whitespace=nowarn", join(made.path, `${name}.patch`));
	execFileSync("rm", ["-rf", join(copy, ".git")]);
	return copy;
}

let runs = 0;

for (const handles of ["kernel", "portable"] as const) {
	test(`random changes: git apply of the patch gives what the overlay shows, ${handles} handles`, {
		skip: skip || needs("git"),
	}, async (t) => {
		const made = scratch(t);
		await fc.assert(
			fc.asyncProperty(SEQUENCES, async (sequence) => {
				const name = `run-${runs++}`;
				const lower = plantLower(join(made.folder(`${name}-lower`), "lower"));
				const opened = open(made, lower, name, handles);
				try {
					for (const step of sequence) await perform(opened, step);
					const { text } = await patch(opened);
					const result = asGitHasIt(treeOnDisk(applied(made, lower, name, text)));
					assert.deepEqual(result, asGitHasIt(await treeOfOverlay(opened)), text.toString());
				} finally {
					await opened.overlay.close();
				}
			}),
			{ numRuns: volume(6, 400) },
		);
	});
}

/** Changes files by name, through the overlay. */
async function changed(t: TestContext, before: Record<string, string | Buffer>, after: Record<string, Buffer | null>) {
	const made = scratch(t);
	const lower = plant(join(made.path, "lower"), before);
	const opened = open(made, lower, "export", "kernel");
	t.after(() => opened.overlay.close());
	const { overlay } = opened;
	for (const [path, content] of Object.entries(after)) {
		const name = Buffer.from(path, "latin1");
		const { root } = overlay;
		if (overlay.lookup(root, name, ROOT) !== null) await inPasses(overlay, () => overlay.remove(root, name, ROOT, null));
		if (content === null) continue;
		await inPasses(overlay, () => overlay.create(root, name, ROOT, { mode: "guarded", attributes: { mode: 0o644 } }, null));
		for (let at = 0; at < content.length; at += 65536) {
			const object = () => overlay.lookup(root, name, ROOT) as OverlayObject;
			await inPasses(overlay, () => overlay.write(object(), ROOT, at, content.subarray(at, at + 65536), "open"));
		}
	}
	return { made, lower, opened };
}

test("names of any bytes, texts without a last newline, empty and binary files go through git apply", {
	skip: skip || needs("git"),
}, async (t) => {
	const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * i * 31 + (i >> 3)) & 0xff));
	const lines = (count: number, odd: string) =>
		Array.from({ length: count }, (_, i) => (i % 50 === 7 ? `${odd} ${i}` : `line ${i}`)).join("\n");
	const { made, lower, opened } = await changed(
		t,
		{ text: lines(300, "old"), "no newline": "one", binary: bytes, "binary gone": bytes.subarray(7), empty: "", "to be empty": "x\n" },
		{
			text: Buffer.from(`${lines(300, "new")}\n`),
			"no newline": Buffer.from("two"),
			binary: Buffer.concat([Buffer.from("more"), bytes]),
			"binary gone": null,
			"new binary": bytes.subarray(0, 53),
			empty: Buffer.from("no more\n"),
			"to be empty": Buffer.alloc(0),
			"new empty": Buffer.alloc(0),
			'quo"te': Buffer.from("1"),
			"back\\slash": Buffer.from("2"),
			"new\nline": Buffer.from("3\n"),
			"tab\there": Buffer.from("4\n"),
			"not UTF-8 \xff": Buffer.from("5\n"),
			" space ": Buffer.from("6\n"),
			"\x01": Buffer.from("7\n"),
		},
	);
	const { text, unsaid } = await patch(opened);
	assert.deepEqual(unsaid, { specials: 0, ofGit: 0, binaries: 0 });
	const copy = applied(made, lower, "odd", text);
	assert.equal(readdirSync(copy).length, 14);
	for (const { path } of await shown(opened)) {
		const at = Buffer.concat([Buffer.from(`${copy}/`), path]);
		assert.deepEqual(readFileSync(at), await contentOf(opened, path), path.toString("latin1"));
	}
	// without --binary a patch says that they differ
	const plain = await patch(opened, false);
	assert.equal(plain.unsaid.binaries, 3);
	assert.match(plain.text.toString("latin1"), /^Binary files a\/binary and b\/binary differ$/m);
});

async function shown(opened: OpenedOverlay): Promise<{ readonly path: Buffer }[]> {
	const { overlay } = opened;
	return inPasses(overlay, () => {
		const found: { path: Buffer }[] = [];
		const cursor = overlay.list(overlay.root, ROOT, 0, 2);
		while (cursor.next()) found.push({ path: Buffer.from(cursor.name) });
		return found;
	});
}

async function contentOf(opened: OpenedOverlay, name: Buffer): Promise<Buffer> {
	const { overlay } = opened;
	const contents = new Contents(opened);
	const handle = await inPasses(overlay, () => Buffer.from((overlay.lookup(overlay.root, name, ROOT) as OverlayObject).handle));
	const pieces: Buffer[] = [];
	for await (const piece of contents.now(handle)) pieces.push(piece);
	contents.close();
	return Buffer.concat(pieces);
}

test("what git cannot keep is counted and left out: its own folder, devices, fifos", { skip }, async (t) => {
	const { lower, opened } = await changed(
		t,
		{ kept: "1\n", pipe: { node: ["p"] } as never },
		{ ".git": Buffer.from("x"), ".GIT.": Buffer.from("y"), pipe: null },
	);
	assert.ok(lstatSync(join(lower, "pipe")).isFIFO());
	const { text, unsaid } = await patch(opened);
	assert.equal(text.toString(), "");
	assert.deepEqual(unsaid, { specials: 1, ofGit: 2, binaries: 0 });
});
