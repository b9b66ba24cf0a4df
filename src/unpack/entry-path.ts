// Names in an archive: split, checked, and told from whiteouts.

import { EntryError, quoteName } from "./unpack-error.ts";

/** Names of a layer, and what its whiteouts say (OCI image specification, "Image Layer Filesystem Changeset", "Whiteouts"). */

const SLASH = 0x2f;
const NAME_BYTES_MAX = 255;
/** PATH_MAX of Linux, without the NUL. */
export const PATH_BYTES_MAX = 4095;
const WHITEOUT_PREFIX = ".wh.";
/** What aufs keeps for itself. */
const METADATA_PREFIX = ".wh..wh.";
const OPAQUE_NAME = ".wh..wh..opq";

/** Names from the layer's root down, each of them one that a directory may hold; none at all is the root. As Latin-1. */
export type EntryPath = readonly string[];

/** Splits a name of an archive. A slash at its beginning is dropped, as tar does; EntryError for what leads outside or can be no name. */
export function parsePath(name: Uint8Array): EntryPath {
	if (name.length > PATH_BYTES_MAX) throw new EntryError(`its name has more than ${PATH_BYTES_MAX} bytes, which Linux does not take`);
	if (name.includes(0)) throw new EntryError("its name holds a NUL; the archive is damaged, or made to deceive");
	const path: string[] = [];
	for (const component of Buffer.from(name).toString("latin1").split("/")) {
		if (component === "" || component === ".") continue;
		if (component === "..") throw new EntryError('its name holds "..", which could lead out of the layer; do not trust this archive');
		if (component.length > NAME_BYTES_MAX) throw new EntryError(`its name has a part of more than ${NAME_BYTES_MAX} bytes`);
		path.push(component);
	}
	return path;
}

export function isAbsolute(name: Uint8Array): boolean {
	return name[0] === SLASH;
}

/** Names of a symlink's target, ".." among them. */
export function splitTarget(target: Uint8Array): { readonly isAbsolute: boolean; readonly names: readonly string[] } {
	const names = Buffer.from(target).toString("latin1").split("/");
	return { isAbsolute: isAbsolute(target), names: names.filter((name) => name !== "" && name !== ".") };
}

export type Whiteout =
	| { readonly kind: "none" }
	/** Hides that path of the layers below. */
	| { readonly kind: "whiteout"; readonly path: EntryPath }
	/** Hides what the layers below have in that directory. */
	| { readonly kind: "opaque"; readonly path: EntryPath }
	/** Nothing that belongs to the layer. */
	| { readonly kind: "metadata" };

export function whiteoutOf(path: EntryPath): Whiteout {
	const first = path.findIndex((component) => component.startsWith(WHITEOUT_PREFIX));
	if (first < 0) return { kind: "none" };
	const component = path[first];
	const isLast = first === path.length - 1;
	if (component.startsWith(METADATA_PREFIX)) {
		return isLast && component === OPAQUE_NAME ? { kind: "opaque", path: path.slice(0, -1) } : { kind: "metadata" };
	}
	if (!isLast) throw new EntryError("it lies in a whiteout, which is no directory; the archive is damaged, or made to deceive");
	const hidden = component.slice(WHITEOUT_PREFIX.length);
	if (hidden === "" || hidden === "." || hidden === "..") {
		throw new EntryError("it is a whiteout that names nothing; the archive is damaged, or made to deceive");
	}
	return { kind: "whiteout", path: [...path.slice(0, -1), hidden] };
}

export function nameBytes(component: string): Buffer {
	return Buffer.from(component, "latin1");
}

/** For a sentence. */
export function printPath(path: EntryPath): string {
	return quoteName(nameBytes(path.join("/")));
}
