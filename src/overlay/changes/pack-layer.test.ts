// A layer that was packed, unpacked above the same lowers, shows what the overlay shows.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { linkSync, lstatSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { plant } from "../../../test/support/lower-tree.ts";
import { needs, volume } from "../../../test/support/requirements.ts";
import { scratch } from "../../../test/support/scratch.ts";
import { unpackLayers } from "../../unpack/unpack-layers.ts";
import type { OverlayObject } from "../../vfs/operations.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { PackError, type PackOptions, packLayer } from "./pack-layer.ts";
import { perform, plantLower, ROOT, SEQUENCES, treeOfOverlay } from "./random-changes.test-support.ts";

const skip = needs("root");
const PLAIN: PackOptions = { timeMax: null, isReproducible: false };

async function packed(opened: OpenedOverlay, options = PLAIN): Promise<Buffer> {
	const pieces: Buffer[] = [];
	for await (const piece of packLayer(opened, options)) pieces.push(Buffer.from(piece));
	return Buffer.concat(pieces);
}

function open(top: string, lowers: readonly string[], handles: "kernel" | "portable" = "kernel"): OpenedOverlay {
	const layers = { lowers, upper: join(top, "upper"), work: join(top, "work"), stateFolder: join(top, "state") };
	return openOverlay({ ...layers, isSync: false, handles, purpose: "serve" });
}

/** The folder of the layer in an archive. */
async function unpacked(top: string, archive: Buffer): Promise<string> {
	const file = join(top, "layer.tar");
	writeFileSync(file, archive);
	const directory = join(top, "image");
	const layers = await unpackLayers({
		archives: [file],
		directory,
		isFakeRoot: false,
		choice: { name: undefined, platform: undefined },
		progress: () => {},
		signal: new AbortController().signal,
	});
	return layers[0].directory;
}

let runs = 0;

for (const handles of ["kernel", "portable"] as const) {
	test(`random changes: a packed layer above the same lowers shows the same tree, ${handles} handles`, { skip }, async (t) => {
		const made = scratch(t);
		await fc.assert(
			fc.asyncProperty(SEQUENCES, async (sequence) => {
				const top = made.folder(`run-${runs++}`);
				const lower = plantLower(join(top, "lower"));
				const second = plant(join(top, "second"), { "a/c": "under", "b/a": "hidden by the upper one" });
				const opened = open(top, [lower, second], handles);
				try {
					for (const step of sequence) await perform(opened, step);
					const now = await treeOfOverlay(opened);
					const layer = await unpacked(top, await packed(opened));
					const again = openOverlay({
						lowers: [layer, lower, second],
						stateFolder: join(top, "state-again"),
						isSync: false,
						handles,
						purpose: "serve",
					});
					try {
						const names = execFileSync("tar", ["-tvf", join(top, "layer.tar")], { encoding: "utf8" });
						assert.deepEqual([...(await treeOfOverlay(again))].sort(), [...now].sort(), names);
					} finally {
						await again.overlay.close();
					}
				} finally {
					await opened.overlay.close();
				}
			}),
			{ numRuns: volume(6, 400) },
		);
	});
}

test("owners, times, xattrs, links, holes and long names are in the archive, as tar(1) reads it too", {
	skip: skip || needs("setfattr"),
}, async (t) => {
	const made = scratch(t);
	const lower = plant(join(made.path, "lower"), { kept: "1", "dir/file": "2" });
	const top = made.folder("export");
	const opened = open(top, [lower]);
	t.after(() => opened.overlay.close());
	const { overlay } = opened;
	const { root } = overlay;
	const long = Buffer.from("n".repeat(250));
	const at = (name: Buffer) => overlay.lookup(root, name, ROOT) as OverlayObject;
	const b = Buffer.from;
	const steps = [
		() => overlay.create(root, long, ROOT, { mode: "guarded", attributes: { mode: 0o640, uid: 3_000_000, gid: 7 } }, null),
		() => overlay.write(at(long), ROOT, 0, b("content"), "open"),
		() => overlay.setxattr(at(long), ROOT, b("user.odd"), Buffer.from([0, 10, 61, 255])),
		() => overlay.link(at(long), root, b("another name"), ROOT, null),
		() => overlay.create(root, b("holes"), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }, null),
		() => overlay.write(at(b("holes")), ROOT, 300_000, b("end"), "open"),
		() => overlay.setattr(at(b("holes")), ROOT, { size: 10_000_000 }, undefined, null),
		() => overlay.setattr(at(long), ROOT, { mtime: { sec: 1_600_000_000, nsec: 123_456_789 } }, undefined, null),
	];
	for (const step of steps) await inPasses<unknown>(overlay, step);
	const archive = await packed(opened);
	assert.ok(archive.length < 100_000, `${archive.length} bytes with the holes`);
	const layer = await unpacked(top, archive);
	const stat = lstatSync(join(layer, "another name"), { bigint: true });
	assert.deepEqual(
		[stat.nlink, stat.uid, stat.gid, stat.mode & 0o7777n, stat.mtimeNs],
		[2n, 3_000_000n, 7n, 0o640n, 1_600_000_000_123_456_789n],
	);
	assert.equal(execFileSync("getfattr", ["--only-values", "-n", "user.odd", join(layer, "another name")]).toString("hex"), "000a3dff");
	const holes = lstatSync(join(layer, "holes"));
	assert.ok(holes.size === 10_000_000 && holes.blocks * 512 < 100_000);
	assert.equal(execFileSync("tar", ["-xOf", join(top, "layer.tar"), "holes"], { maxBuffer: 2 ** 25 }).indexOf("end"), 300_000);
});

test("with --reproducible the archive is the same for the same changes, whenever they were made", { skip }, async (t) => {
	const made = scratch(t);
	const digests: string[] = [];
	for (const [i, name] of ["first", "second"].entries()) {
		const lower = plant(join(made.path, name), { "dir/kept": "1", "dir/gone": "2", z: "3" });
		linkSync(join(lower, "z"), join(lower, "a"));
		const opened = open(made.folder(`${name}-export`), [lower]);
		const { overlay } = opened;
		const directory = () => overlay.lookup(overlay.root, Buffer.from("dir"), ROOT) as OverlayObject;
		for (const step of [
			() => overlay.remove(directory(), Buffer.from("gone"), ROOT, null),
			() => overlay.write(overlay.lookup(overlay.root, Buffer.from("z"), ROOT) as OverlayObject, ROOT, 0, Buffer.from("new"), "open"),
			() => overlay.create(directory(), Buffer.from("zeros"), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }, null),
			() => {
				const zeros = overlay.lookup(directory(), Buffer.from("zeros"), ROOT) as OverlayObject;
				// the same bytes, once as a hole and once written
				if (i === 0) return overlay.setattr(zeros, ROOT, { size: 200_000 }, undefined, null);
				return overlay.write(zeros, ROOT, 0, Buffer.alloc(200_000), "open");
			},
		]) {
			await inPasses<unknown>(overlay, step);
		}
		digests.push(
			createHash("sha256")
				.update(await packed(opened, { timeMax: 1_500_000_000, isReproducible: true }))
				.digest("hex"),
		);
		await opened.overlay.close();
	}
	assert.equal(digests[0], digests[1]);
});

test("a name that begins with .wh. is an error with its path", { skip }, async (t) => {
	const made = scratch(t);
	const opened = open(made.folder("export"), [plant(join(made.path, "lower"), { file: "1" })]);
	t.after(() => opened.overlay.close());
	const { overlay } = opened;
	await inPasses(overlay, () => overlay.mkdir(overlay.root, Buffer.from("dir"), ROOT, { mode: 0o755 }, null));
	await inPasses(overlay, () => {
		const directory = overlay.lookup(overlay.root, Buffer.from("dir"), ROOT) as OverlayObject;
		return overlay.create(directory, Buffer.from(".wh.odd"), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }, null);
	});
	await assert.rejects(packed(opened), (error) => error instanceof PackError && /Cannot pack dir\/\.wh\.odd: /.test(error.message));
});
