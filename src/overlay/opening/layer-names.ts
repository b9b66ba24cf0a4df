// The names by which layers are recognised: by root handle, and by the names in the root.

import { createHash } from "node:crypto";
import type { Layer } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { namesOf } from "../../linux/directory.ts";
import { whyNot } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";

export function rootName(handle: FileHandle): string {
	return `${handle.type}:${handle.bytes.toString("hex")}`;
}

/** By what a lower is recognised wherever it was copied to: the names in its root. */
export function treeName(layer: Layer): string {
	const known = treeNames.get(layer) ?? treeNameOf(layer.root, layer.path);
	treeNames.set(layer, known);
	return known;
}

/** A root may hold a million names: it is listed once. */
const treeNames = new WeakMap<Layer, string>();

/** The same of an open directory. */
export function treeNameOf(root: number, path: string): string {
	const names = namesOf(root);
	if (typeof names === "number") throw new LayerError(`Cannot read the root of ${path}: ${whyNot(names, path)}.`);
	const hash = createHash("sha256");
	for (const name of names.map((name) => name.toString("latin1")).sort()) hash.update(Buffer.from(`${name}/`, "latin1"));
	return `names:${hash.digest("hex").slice(0, 32)}`;
}
