/** `holdfast pack` beside a running server: plain, compressed, as an OCI layout; what cannot be written leaves nothing. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as zlib from "node:zlib";
import { gunzipSync } from "node:zlib";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { layerArguments, runHoldfast, startServer } from "../support/server-process.ts";

const skip = needs("root");
const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

test("pack: a layer of what clients have changed, in each form", { skip }, async (t) => {
	const made = scratch(t);
	const lower = plant(join(made.path, "lower"), { "dir/one": "1", gone: "2" });
	const layers = { lowers: [lower], upper: join(made.path, "upper"), work: join(made.path, "work") };
	mkdirSync(layers.upper);
	const server = await startServer(made, layers);
	const nfs = await server.client();
	const root = await nfs.root();
	assert.equal((await nfs.write(await nfs.walk(root, "dir/one"), 0n, Buffer.from("changed"))).status, 0);
	assert.equal((await nfs.remove(root, "gone")).status, 0);
	const at = (name: string) => join(made.path, name);
	const run = (...more: string[]) => runHoldfast(["pack", ...layerArguments(layers), "--reproducible", ...more]);
	assert.deepEqual(run("-o", at("layer.tar")), { code: 0, stdout: "", stderr: "" });
	const plain = readFileSync(at("layer.tar"));
	assert.equal(run("-o", at("layer.tgz")).code, 0);
	assert.deepEqual(gunzipSync(readFileSync(at("layer.tgz"))), plain);
	const zstd = run("-o", at("layer.tar.zst"));
	if ("zstdDecompressSync" in zlib) {
		assert.deepEqual((zlib.zstdDecompressSync as (bytes: Buffer) => Buffer)(readFileSync(at("layer.tar.zst"))), plain);
	} else {
		assert.equal(zstd.code, 1);
		assert.match(zstd.stderr, /^holdfast: Cannot write [^\n]*: Node\.js [^\n]* has no zstd [^\n]*\n$/);
	}
	assert.equal(runHoldfast(["unpack", at("layer.tar"), at("unpacked")]).code, 0);
	assert.deepEqual(readdirSync(at("unpacked/1")).sort(), ["dir", "gone"]);

	const image = run("--image", at("image"));
	assert.equal(image.code, 0);
	const blob = (digest: string) => {
		const bytes = readFileSync(at(`image/blobs/${digest.replace(":", "/")}`));
		assert.equal(`sha256:${sha256(bytes)}`, digest);
		return bytes;
	};
	const [{ digest, size }] = JSON.parse(readFileSync(at("image/index.json"), "utf8")).manifests;
	assert.equal(image.stdout, `${digest}\n`);
	assert.equal(blob(digest).length, size);
	const manifest = JSON.parse(blob(digest).toString());
	assert.deepEqual(gunzipSync(blob(manifest.layers[0].digest)), plain);
	assert.deepEqual(JSON.parse(blob(manifest.config.digest).toString()).rootfs.diff_ids, [`sha256:${sha256(plain)}`]);
	assert.equal(runHoldfast(["unpack", at("image"), at("again")]).code, 0);
	assert.deepEqual(readFileSync(at("again/1/dir/one"), "utf8"), "changed");

	// nothing is overwritten, and of what fails nothing is left
	assert.equal(run("--image", at("image")).code, 1);
	assert.equal(run("--image", at("x"), "-o", at("y")).code, 2);
	assert.equal((await nfs.create(root, ".wh.odd")).status, 0);
	writeFileSync(at("old.tar"), "old");
	const refused = run("-o", at("old.tar"));
	assert.equal(refused.code, 1);
	assert.match(refused.stderr, /^holdfast: Cannot pack \.wh\.odd: [^\n]*\n$/);
	assert.equal(readFileSync(at("old.tar"), "utf8"), "old");
	assert.equal(run("--image", at("new-image")).code, 1);
	assert.deepEqual(
		readdirSync(made.path).filter((name) => name.startsWith("new-image") || name.endsWith(".new")),
		[],
	);
	assert.equal(run("-o", at("no/such/folder.tar")).code, 1);
});
