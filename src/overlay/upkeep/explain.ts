// Explains a handle: its fields, its object and its paths.

import { PROVIDER_KERNEL, PROVIDER_PORTABLE, parseHandle, ROOT_HOME } from "../../handle/wire-handle.ts";
import { pathBelow } from "../../layer/path-search.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { namesOfObjects } from "../changes/names-of-objects.ts";
import type { Node } from "../nodes/node.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { attributesOf } from "../operations/attributes.ts";
import { type KeyUse, listKeys } from "./keys.ts";

/** What can be said of a handle; fields that need the layers are absent without them. */
export interface HandleExplanation {
	readonly format: number;
	readonly keyId: number;
	readonly keyUse?: KeyUse | "unknown";
	readonly provider: string;
	/** Where the export takes the handles of new objects from, and why. */
	readonly exportHandles?: string;
	readonly exportId: string;
	readonly home: number;
	readonly homeKind?: string;
	readonly idType: number;
	readonly id: string;
	readonly signature?: "good" | "bad";
	readonly object?: {
		readonly type: string;
		readonly fileid: string;
		readonly links: number;
		readonly bytes: number;
		/** Paths in the overlay, as `showName` makes them; none for an object that only the index holds. */
		readonly paths: readonly string[];
		readonly layer: string;
		readonly isUpper: boolean;
	};
	/** Why it finds no object. */
	readonly stale?: string;
}

const TYPE_NAMES: ReadonlyMap<FileType, string> = new Map<FileType, string>([
	[FileType.reg, "regular file"],
	[FileType.dir, "directory"],
	[FileType.lnk, "symlink"],
	[FileType.chr, "character device"],
	[FileType.blk, "block device"],
	[FileType.fifo, "fifo"],
	[FileType.sock, "socket"],
]);

const PROVIDERS: ReadonlyMap<number, string> = new Map([
	[PROVIDER_KERNEL, "kernel handles"],
	[PROVIDER_PORTABLE, "portable handles"],
]);

/** Null when the bytes have not even the shape of a handle. */
export async function explainHandle(bytes: Buffer, opened: OpenedOverlay | null): Promise<HandleExplanation | null> {
	const fields = parseHandle(bytes);
	if (fields === null) return null;
	const shape: HandleExplanation = {
		format: fields.version,
		keyId: fields.keyId,
		provider: PROVIDERS.get(fields.provider) ?? `unknown (${fields.provider})`,
		exportId: fields.exportId.toString(16).padStart(8, "0"),
		home: fields.home,
		idType: fields.id.type,
		id: fields.id.bytes.toString("hex"),
		...(fields.home === ROOT_HOME ? { homeKind: "the root of the export" } : {}),
	};
	if (opened === null) return shape;
	const { engine } = opened.overlay;
	const home = opened.registry.homes.find((record) => record.number === fields.home);
	const known: HandleExplanation = {
		...shape,
		...(home === undefined ? {} : { homeKind: `${home.kind} ${home.uuid}` }),
		exportHandles: `${opened.handles.kind} (${opened.handles.why})`,
		keyUse: listKeys(opened.registry).find(({ id }) => id === fields.keyId)?.use ?? "unknown",
		signature: engine.signer.verify(bytes) ? "good" : "bad",
	};
	if (known.signature !== "good") return known;
	try {
		const node = opened.overlay.decode(bytes);
		const attributes = attributesOf(engine, node, false);
		const paths = await pathsOf(opened, node);
		return {
			...known,
			object: {
				type: TYPE_NAMES.get(node.type) ?? "object",
				fileid: ((BigInt(node.fileidHi) << 32n) | BigInt(node.fileidLo)).toString(),
				links: attributes.nlink,
				bytes: attributes.sizeHi * 0x100000000 + attributes.sizeLo,
				paths,
				layer: node.top.layer.path,
				isUpper: node.isUpper,
			},
		};
	} catch (error) {
		if (error instanceof OverlayError) return { ...known, stale: error.message };
		throw error;
	}
}

function directoryPath(node: Node): string {
	const names: string[] = [];
	for (let at = node; at.parent !== null && at.name !== null; at = at.parent) names.unshift(showName(at.name));
	return `/${names.join("/")}`;
}

/** A directory knows where it is; the names of anything else are searched for through the whole tree. */
async function pathsOf(opened: OpenedOverlay, node: Node): Promise<string[]> {
	if (node.type === FileType.dir) return [directoryPath(node)];
	const links = attributesOf(opened.overlay.engine, node, false).nlink;
	const found = await namesOfObjects(opened, new Map([[node.key, links]]));
	return found.map(({ directory, name }) => `/${showName(pathBelow(directory, name))}`);
}
