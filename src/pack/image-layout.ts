// An OCI layout of an image with one layer (OCI image specification, "Image Layout").

import { createHash, type Hash } from "node:crypto";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { IMAGE_ARCHITECTURE } from "../layer/image-architecture.ts";

const LAYER = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG = "application/vnd.oci.image.config.v1+json";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const INDEX = "application/vnd.oci.image.index.v1+json";

/** Passes bytes on, and digests and counts them. */
export class Digest {
	bytes = 0;
	readonly #hash: Hash = createHash("sha256");

	async *of(content: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
		for await (const chunk of content) {
			this.#hash.update(chunk);
			this.bytes += chunk.length;
			yield chunk;
		}
	}

	/** To be asked once, when all has been passed on. */
	end(): string {
		return this.#hash.digest("hex");
	}
}

/** Writes a layout to an empty folder. `write` has written the compressed layer to the path that it was given. */
export async function writeImage(
	folder: string,
	write: (path: string) => Promise<{ readonly digest: string; readonly diffId: string; readonly bytes: number }>,
): Promise<{ readonly manifest: string }> {
	const blobs = join(folder, "blobs", "sha256");
	mkdirSync(blobs, { recursive: true });
	const aside = join(folder, "layer.new");
	const layer = await write(aside);
	renameSync(aside, join(blobs, layer.digest));
	const blob = (value: object, mediaType: string) => {
		const bytes = Buffer.from(JSON.stringify(value));
		const digest = createHash("sha256").update(bytes).digest("hex");
		writeFileSync(join(blobs, digest), bytes);
		return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
	};
	const config = blob(
		{
			architecture: IMAGE_ARCHITECTURE,
			os: "linux",
			config: {},
			rootfs: { type: "layers", diff_ids: [`sha256:${layer.diffId}`] },
		},
		CONFIG,
	);
	const layers = [{ mediaType: LAYER, digest: `sha256:${layer.digest}`, size: layer.bytes }];
	const manifest = blob({ schemaVersion: 2, mediaType: MANIFEST, config, layers }, MANIFEST);
	writeFileSync(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [manifest] }));
	// last: without it there is no layout
	writeFileSync(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
	return { manifest: manifest.digest };
}
