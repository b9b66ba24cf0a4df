// Digests of an image's files (OCI image specification, "Content Descriptors", "Digests").

import { createHash, type Hash } from "node:crypto";
import { readRange } from "./archive-bytes.ts";
import type { ImageFile } from "./image-files.ts";
import { UnpackError } from "./unpack-error.ts";

const FORMS: Readonly<Record<string, RegExp>> = { sha256: /^[0-9a-f]{64}$/, sha512: /^[0-9a-f]{128}$/ };

/** "sha256:HEX" or "sha512:HEX", and nothing else: it becomes a path. */
export interface Digest {
	readonly algorithm: string;
	readonly hex: string;
}

export function parseDigest(text: unknown): Digest {
	const [algorithm, hex, ...rest] = typeof text === "string" ? text.split(":") : [];
	if (algorithm === undefined || hex === undefined || rest.length > 0 || !Object.hasOwn(FORMS, algorithm) || !FORMS[algorithm].test(hex)) {
		throw new UnpackError("its manifest has a digest that is none of sha256 or sha512; it is damaged, or made to deceive");
	}
	return { algorithm, hex };
}

export function printDigest({ algorithm, hex }: Digest): string {
	return `${algorithm}:${hex}`;
}

export function newHash({ algorithm }: Digest): Hash {
	return createHash(algorithm);
}

/** UnpackError unless the hash is that digest; `what` begins the sentence. */
export function demandDigest(hash: Hash, digest: Digest, what: string): void {
	if (hash.digest("hex") === digest.hex) return;
	throw new UnpackError(`${what} is not what its digest ${printDigest(digest)} says; it is damaged, or made to deceive: get it again`);
}

/** Reads the whole file. `step` hears how many bytes were read. */
export async function verifyFile(file: ImageFile, digest: Digest, what: string, step: (bytes: number) => void): Promise<void> {
	const hash = newHash(digest);
	let bytes = 0;
	for await (const chunk of readRange(file.fd, file.start, file.end)) {
		hash.update(chunk);
		bytes += chunk.length;
		step(bytes);
	}
	demandDigest(hash, digest, what);
}
