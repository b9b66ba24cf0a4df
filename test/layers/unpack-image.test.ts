/** Whole images, as docker save writes them and as OCI layouts, are unpacked by their manifests, and by nothing that is not what these say. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import * as zlib from "node:zlib";
import { UnpackError } from "../../src/unpack/unpack-error.ts";
import { unpackLayers } from "../../src/unpack/unpack-layers.ts";
import { fc } from "../support/fast-check.ts";
import { needs, repository } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { runHoldfast } from "../support/server-process.ts";
import { END, type RawEntry, raw } from "../support/tar-archive.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root", "tar");
const main = join(repository, "dist/src/cli/main.js");

/** Files of an image by their paths. */
type Files = Map<string, Buffer>;

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

function layerOf(...entries: RawEntry[]): Buffer {
	return Buffer.concat([...entries.map(raw), END]);
}

const LAYERS = [
	layerOf({ name: "etc/", type: "5", mode: 0o755 }, { name: "etc/a", data: "base" }, { name: "etc/b", data: "gone later" }),
	layerOf({ name: "etc/", type: "5", mode: 0o711, uid: 3 }, { name: "etc/.wh.b" }, { name: "etc/c", data: "x".repeat(5000) }),
	layerOf({ name: "top", data: "top", uid: 7, gid: 8 }),
];

interface ImageOptions {
	readonly layers?: readonly Buffer[];
	readonly compress?: (layer: Buffer) => Buffer;
	readonly type?: string;
	readonly architecture?: string;
	readonly configType?: string;
	readonly diffIds?: readonly string[];
}

/** Adds an image's blobs; the descriptor of its manifest. */
function addImage(files: Files, options: ImageOptions = {}): { mediaType: string; digest: string; size: number } {
	const { layers = LAYERS, compress = zlib.gzipSync, architecture = "amd64" } = options;
	const { type = "application/vnd.oci.image.layer.v1.tar+gzip", configType = "application/vnd.oci.image.config.v1+json" } = options;
	const diffIds = options.diffIds ?? layers.map((layer) => `sha256:${sha256(layer)}`);
	const config = addBlob(files, json({ os: "linux", architecture, rootfs: { type: "layers", diff_ids: diffIds } }), configType);
	const manifest = { schemaVersion: 2, config, layers: layers.map((layer) => addBlob(files, compress(layer), type)) };
	return addBlob(files, json(manifest), "application/vnd.oci.image.manifest.v1+json");
}

function addBlob(files: Files, bytes: Buffer, mediaType: string): { mediaType: string; digest: string; size: number } {
	files.set(`blobs/sha256/${sha256(bytes)}`, bytes);
	return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length };
}

function addIndex(files: Files, ...manifests: object[]): Files {
	files.set("index.json", json({ schemaVersion: 2, manifests }));
	files.set("oci-layout", json({ imageLayoutVersion: "1.0.0" }));
	return files;
}

const named = (name: string) => ({ annotations: { "org.opencontainers.image.ref.name": name } });

function layout(options: ImageOptions = {}): Files {
	const files: Files = new Map();
	return addIndex(files, addImage(files, options));
}

/** As docker before 25 saved it: a layer that occurs twice is a symlink the second time. */
function dockerSave(tags: readonly string[] = ["alpine:3"], layers: readonly Buffer[] = LAYERS): { entries: RawEntry[]; files: Files } {
	const config = json({ os: "linux", architecture: "amd64", rootfs: { diff_ids: layers.map((layer) => `sha256:${sha256(layer)}`) } });
	const files: Files = new Map([[`${sha256(config)}.json`, config]]);
	const entries: RawEntry[] = [];
	const paths = layers.map((layer, place) => {
		const path = `${sha256(Buffer.from(`layer ${place}`))}/layer.tar`;
		const first = layers.indexOf(layer);
		if (first === place) files.set(path, layer);
		else entries.push({ name: path, type: "2", link: `../${sha256(Buffer.from(`layer ${first}`))}/layer.tar` });
		return path;
	});
	files.set("manifest.json", json([{ Config: `${sha256(config)}.json`, RepoTags: tags, Layers: paths }]));
	return { entries: [...[...files].map(([name, data]) => ({ name, data })), ...entries], files };
}

function tarOf(files: Files): Buffer {
	return layerOf(...[...files].map(([name, data]) => ({ name, data })));
}

function folderOf(made: Scratch, name: string, files: Files): string {
	const top = made.folder(name);
	for (const [path, bytes] of files) {
		mkdirSync(dirname(join(top, path)), { recursive: true });
		writeFileSync(join(top, path), bytes);
	}
	return top;
}

/** The layers' trees, without the times of whiteouts, which no archive gives. */
function treesOf(out: string): string[][] {
	return readdirSync(out)
		.sort()
		.map((layer) =>
			[...snapshotTree(join(out, layer))]
				.filter(([path]) => path !== ".")
				.map((pair) => pair.join(" ").replace(/( chr mode=0 .*) mtime=\d+/, "$1")),
		);
}

let count = 0;

async function unpacked(made: Scratch, archive: string, choice = {}): Promise<string[][]> {
	const directory = join(made.path, `out-${count++}`);
	await unpackLayers({ archives: [archive], directory, choice, progress: () => {}, signal: new AbortController().signal });
	return treesOf(directory);
}

async function assertRefused(made: Scratch, archive: string, sentence: RegExp, choice = {}): Promise<void> {
	const directory = join(made.path, "refused");
	const refusal = await unpackLayers({
		archives: [archive],
		directory,
		choice,
		progress: () => {},
		signal: new AbortController().signal,
	}).then(
		() => assert.fail(`it should refuse ${archive}, by ${sentence}`),
		(error: unknown) => error,
	);
	assert.ok(refusal instanceof UnpackError, `${(refusal as Error).stack}`);
	assert.match(refusal.message, sentence);
	assert.match(refusal.message, /^Cannot [^\p{Cc}]+\.$/u, "one sentence, with nothing that a terminal obeys");
	assert.equal(existsSync(directory), false);
}

async function expectedTrees(made: Scratch, layers: readonly Buffer[] = LAYERS): Promise<string[][]> {
	const directory = join(made.path, `out-${count++}`);
	const archives = layers.map((layer, place) => made.file(`layer-${place}.tar`, layer));
	await unpackLayers({ archives, directory, progress: () => {}, signal: new AbortController().signal });
	return treesOf(directory);
}

test("an image gives the same layers as its layers one by one, from every form it comes in", { skip }, async (t) => {
	const made = scratch(t);
	const expected = await expectedTrees(made);
	const oci = layout();
	const save = dockerSave();
	const forms: Record<string, string> = {
		"OCI folder": folderOf(made, "oci", oci),
		"OCI archive": made.file("oci.tar", tarOf(oci)),
		"OCI archive, compressed": made.file("oci.tar.gz", zlib.gzipSync(tarOf(oci))),
		"OCI, layers not compressed": made.file(
			"plain.tar",
			tarOf(layout({ compress: (layer) => layer, type: "application/vnd.oci.image.layer.v1.tar" })),
		),
		"OCI, docker's media types": made.file(
			"docker-types.tar",
			tarOf(
				layout({ type: "application/vnd.docker.image.rootfs.diff.tar.gzip", configType: "application/vnd.docker.container.image.v1+json" }),
			),
		),
		"docker save": made.file("save.tar", layerOf(...save.entries)),
		"docker save, compressed": made.file("save.tgz", zlib.gzipSync(layerOf(...save.entries))),
		"docker save, taken apart": folderOf(made, "save", save.files),
		"docker save of today, with both": made.file("both.tar", tarOf(new Map([...oci, ...save.files]))),
	};
	execFileSync("tar", ["-cf", join(made.path, "packed.tar"), "-C", join(made.path, "oci"), "."]);
	forms["OCI archive, packed by tar"] = join(made.path, "packed.tar");
	for (const [form, path] of Object.entries(forms)) assert.deepEqual(await unpacked(made, path), expected, form);
	for (const input of [tarOf(oci), zlib.gzipSync(layerOf(...save.entries))]) {
		const out = join(made.path, `out-${count++}`);
		const run = spawnSync(process.execPath, [main, "unpack", "-", out, "--json"], { input });
		assert.equal(run.status, 0, run.stderr.toString());
		assert.deepEqual(treesOf(out), expected, "standard input");
		const report = JSON.parse(run.stdout.toString());
		assert.deepEqual(
			report.layers.map(({ diffId }: { diffId: string }) => diffId),
			LAYERS.map((layer) => `sha256:${sha256(layer)}`),
		);
	}
	const twice = [LAYERS[0], LAYERS[1], LAYERS[0]] as const;
	const doubled = made.file("twice.tar", layerOf(...dockerSave(["twice:1"], twice).entries));
	assert.deepEqual(await unpacked(made, doubled), await expectedTrees(made, twice), "a symlink for a layer that occurs twice");
	// an image, and a layer over it
	const over = made.file("over.tar", layerOf({ name: "over", data: "x" }));
	const out = join(made.path, `out-${count++}`);
	assert.equal(runHoldfast(["unpack", forms["docker save"] as string, over, out]).code, 0);
	assert.deepEqual(readdirSync(out).sort(), ["1", "2", "3", "4"]);
	assert.deepEqual(readdirSync(join(out, "4")), ["over"]);
});

const { zstdCompressSync } = zlib as { zstdCompressSync?: (bytes: Buffer) => Buffer };

test("layers compressed with zstd are unpacked where Node.js can, and else refused with the version that can", { skip }, async (t) => {
	const made = scratch(t);
	const type = "application/vnd.oci.image.layer.v1.tar+zstd";
	const compress = zstdCompressSync ?? ((layer: Buffer) => Buffer.concat([Buffer.from("28b52ffd", "hex"), layer]));
	const image = made.file("zstd.tar", tarOf(layout({ type, compress })));
	if (zstdCompressSync === undefined) return void (await assertRefused(made, image, /zstd.*22\.15/));
	const expected = await expectedTrees(made);
	assert.deepEqual(await unpacked(made, image), expected);
	// as zstd:chunked, pzstd and `zstd --rsyncable` of several processors write them
	const inFrames = (layer: Buffer) =>
		Buffer.concat(
			Array.from({ length: Math.ceil(layer.length / 700) }, (_, at) => zstdCompressSync(layer.subarray(at * 700, at * 700 + 700))),
		);
	assert.deepEqual(await unpacked(made, made.file("frames.tar", tarOf(layout({ type, compress: inFrames })))), expected, "many frames");
});

test("of several images and platforms the one is taken that was asked for, or this machine's", { skip }, async (t) => {
	const made = scratch(t);
	const files: Files = new Map();
	const one = (text: string) => [layerOf({ name: text, data: text })];
	const names = async (path: string, choice = {}) => (await unpacked(made, path, choice)).flat().map((line) => line.split(" ")[0]);
	const host = { x64: "amd64" }[process.arch as string] ?? process.arch;
	const mine = addImage(files, { layers: one("mine"), architecture: host });
	const other = addImage(files, { layers: one("other"), architecture: "s390x" });
	const arm = addImage(files, { layers: one("arm"), architecture: "arm" });
	const attestation = { ...addImage(files, { layers: one("no") }), annotations: { "vnd.docker.reference.type": "attestation-manifest" } };
	const artifact = addImage(files, { layers: one("no"), configType: "application/vnd.cncf.helm.config.v1+json" });
	const absent = { ...mine, digest: `sha256:${"0".repeat(64)}`, platform: { os: "linux", architecture: host } };
	const platform = { platform: { os: "linux", architecture: "arm", variant: "v7" } };
	const indexType = "application/vnd.oci.image.index.v1+json";
	const inner = addBlob(files, json({ manifests: [other, { ...arm, ...platform }, attestation, artifact, absent] }), indexType);
	const outer = addBlob(files, json({ manifests: [mine, inner] }), indexType);
	const single = addImage(files, { layers: one("single"), architecture: "riscv64" });
	const full = { annotations: { "io.containerd.image.name": "docker.io/library/alpine:3", "org.opencontainers.image.ref.name": "3" } };
	const path = made.file("several.tar", tarOf(addIndex(files, { ...outer, ...full }, { ...single, ...named("single\x1b[31m") })));
	for (const name of ["alpine", "alpine:3", "docker.io/library/alpine:3", "3"])
		assert.deepEqual(await names(path, { name }), ["mine"], name);
	assert.deepEqual(await names(path, { name: "alpine", platform: "linux/s390x" }), ["other"]);
	assert.deepEqual(await names(path, { name: "alpine", platform: "linux/arm" }), ["arm"]);
	assert.deepEqual(await names(path, { name: "alpine", platform: "linux/arm/v7" }), ["arm"]);
	assert.deepEqual(await names(path, { name: other.digest.slice(0, 20) }), ["other"]);
	assert.deepEqual(await names(path, { name: "single\x1b[31m" }), ["single"], "one platform is taken, whichever it is");
	await assertRefused(made, path, /several images.*--image.*alpine:3, single\\x1b\[31m/);
	await assertRefused(made, path, /no image "debian"; it has .*alpine:3/, { name: "debian" });
	await assertRefused(made, path, /linux\/riscv64 alone.*linux\/s390x.*linux\/arm\/v7/, { name: "alpine", platform: "linux/riscv64" });
	const run = runHoldfast(["unpack", path, join(made.path, "cli"), "--image", "alpine", "--platform", "linux/s390x"]);
	assert.equal(run.code, 0, run.stderr);
	assert.deepEqual(readdirSync(join(made.path, "cli/1")), ["other"]);
	const layer = made.file("layer.tar", LAYERS[0] as Buffer);
	await assertRefused(made, layer, /no image/, { name: "alpine" });
	const foreign: Files = new Map();
	addIndex(foreign, addImage(foreign, { architecture: "s390x" }), addImage(foreign, { architecture: "arm" }));
	await assertRefused(made, made.file("foreign.tar", tarOf(foreign)), /several images/);
	const docker = made.file(
		"two.tar",
		layerOf(
			{
				name: "manifest.json",
				data: json(["a:1", "b:2"].flatMap((tag) => JSON.parse((dockerSave([tag]).files.get("manifest.json") as Buffer).toString()))),
			},
			...dockerSave().entries.filter(({ name }) => name !== "manifest.json"),
		),
	);
	await assertRefused(made, docker, /several images.*a:1, b:2/);
	assert.equal((await unpacked(made, docker, { name: "b" })).length, 3);
});

test("a layer that only begins like an image is a layer", { skip }, async (t) => {
	const made = scratch(t);
	for (const [name, data] of [
		["config.json", "{}"],
		["blobs/", ""],
		["index.json", "{}"],
	] as const) {
		const layer = layerOf({ name, data, type: name.endsWith("/") ? "5" : "0" }, { name: "usr/", type: "5" });
		for (const bytes of [layer, zlib.gzipSync(layer)]) {
			const [tree] = await unpacked(made, made.file("like.tar", bytes));
			assert.deepEqual(tree?.map((line) => line.split(" ")[0]).sort(), [name.replace("/", ""), "usr"].sort());
		}
	}
});

test("what is not as the manifest says is refused, and nothing outside of the image is read", { skip }, async (t) => {
	const made = scratch(t);
	made.file("secret.tar", LAYERS[0] as Buffer);
	const change = (files: Files, edit: (files: Files) => void) => {
		edit(files);
		return tarOf(files);
	};
	const aLayer = (files: Files) => [...files].find(([, bytes]) => bytes[0] === 0x1f) as [string, Buffer];
	const docker = (edit: (manifest: { Config: unknown; Layers: unknown[] }) => void) => {
		const { files } = dockerSave();
		const manifest = JSON.parse((files.get("manifest.json") as Buffer).toString());
		edit(manifest[0]);
		return tarOf(files.set("manifest.json", json(manifest)));
	};
	const deep = () => {
		const files: Files = new Map();
		let inner = addImage(files);
		for (let depth = 0; depth < 10; depth++)
			inner = addBlob(files, json({ manifests: [inner] }), "application/vnd.oci.image.index.v1+json");
		return tarOf(addIndex(files, inner));
	};
	const index = (value: unknown) => tarOf(layout().set("index.json", Buffer.isBuffer(value) ? value : json(value)));
	const evil: [RegExp, Buffer][] = [
		[/has no file blobs\/sha256/, change(layout(), (files) => files.delete(aLayer(files)[0]))],
		[
			/bytes, and its manifest says/,
			change(layout(), (files) => files.set(aLayer(files)[0], Buffer.concat([aLayer(files)[1], Buffer.of(0)]))),
		],
		[/not what its digest/, change(layout(), (files) => files.set(aLayer(files)[0], Buffer.alloc(aLayer(files)[1].length, 7)))],
		[/not what its digest/, tarOf(layout({ diffIds: LAYERS.map(() => `sha256:${"1".repeat(64)}`) }))],
		[/as many layers/, tarOf(layout({ diffIds: [] }))],
		[/none of sha256/, tarOf(layout({ diffIds: LAYERS.map(() => "sha256:../../../secret.tar") }))],
		[/none of sha256/, index({ manifests: [{ digest: "sha256:../../../secret.tar", size: 1 }] })],
		[/none of sha256/, index({ manifests: [{ digest: "__proto__:x", size: 1 }] })],
		[/index is damaged/, index({ manifests: 7 })],
		[/no JSON/, index(Buffer.from("{\x1b"))],
		[/is damaged/, index(Buffer.from("null"))],
		[/not in it/, index({ manifests: [{ digest: `sha256:${"2".repeat(64)}`, size: 1 }] })],
		[/no image of a container/, index({ manifests: [] })],
		[/more than 4194304 bytes/, index(Buffer.alloc(5_000_000, " "))],
		[/8 deep/, deep()],
		[/kind "application\/vnd\.cncf/, tarOf(layout({ type: "application/vnd.cncf.helm.chart.content.v1.tar+gzip" }))],
		[/more than 500 layers/, tarOf(layout({ layers: Array.from({ length: 501 }, () => LAYERS[2] as Buffer) }))],
		[/outside of it/, docker((manifest) => manifest.Layers.splice(0, 1, "../secret.tar"))],
		[/outside of it/, docker((manifest) => manifest.Layers.splice(0, 1, 7))],
		[/has no file/, docker((manifest) => manifest.Layers.splice(0, 1, "/etc/passwd"))],
		[/as many layers/, docker((manifest) => manifest.Layers.splice(0, 1))],
		[/is damaged/, docker((manifest) => Object.assign(manifest, { Config: null }))],
		[/has no file/, docker((manifest) => Object.assign(manifest, { Config: "absent.json" }))],
	];
	for (const [sentence, bytes] of evil) await assertRefused(made, made.file("evil.tar", bytes), sentence);
	const { entries } = dockerSave();
	const loop = entries.map((entry) =>
		entry.name.toString().endsWith("layer.tar") ? { name: entry.name, type: "2", link: "layer.tar" } : entry,
	);
	await assertRefused(made, made.file("loop.tar", layerOf(...loop)), /leads to itself/);
	// in a folder, links and what is no file
	for (const [name, sentence, put] of [
		["escape", /EXDEV/, (at: string) => symlinkSync(join(made.path, "secret.tar"), at)],
		["fifo", /no regular file/, (at: string) => execFileSync("mkfifo", [at])],
		["directory", /no regular file/, (at: string) => mkdirSync(at)],
	] as const) {
		const { files } = dockerSave();
		const top = folderOf(made, name, files);
		const layer = [...files.keys()].find((path) => path.endsWith("layer.tar")) as string;
		rmSync(join(top, layer));
		put(join(top, layer));
		await assertRefused(made, top, sentence);
	}
	await assertRefused(made, made.folder("empty"), /oci-layout/);
	// a file of an image is never taken for the image
	writeFileSync(join(made.folder("half"), "oci-layout"), "{}");
	await assertRefused(made, join(made.path, "half"), /oci-layout/);
});

test("an image with any byte changed is the same image, or refused", { skip }, async (t) => {
	const made = scratch(t);
	const expected = await expectedTrees(made);
	const forms = { oci: tarOf(layout()), docker: layerOf(...dockerSave().entries) };
	let refused = 0;
	await fc.assert(
		fc.asyncProperty(fc.constantFrom("oci", "docker"), fc.nat(), fc.integer({ min: 1, max: 255 }), async (form, at, mask) => {
			const bytes = Buffer.from(forms[form as keyof typeof forms]);
			bytes[at % bytes.length] ^= mask;
			const archive = made.file("changed.tar", bytes);
			const outcome = await unpacked(made, archive).catch((error: unknown) => error);
			const directory = join(made.path, `out-${count - 1}`);
			if (Array.isArray(outcome)) {
				// without its manifest's name it is one layer
				if (outcome.length !== 1) assert.deepEqual(outcome, expected);
				rmSync(directory, { recursive: true });
				return;
			}
			assert.ok(outcome instanceof UnpackError, `${(outcome as Error).stack}`);
			assert.equal(existsSync(directory), false);
			refused++;
		}),
		{ numRuns: 150, seed: 20_261_130 },
	);
	assert.ok(refused > 50, `${refused} of 150 were refused`);
});
