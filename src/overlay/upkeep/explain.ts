// Explains a handle: its fields, its object and its paths.

import { PROVIDER_KERNEL, PROVIDER_PORTABLE, parseHandle, ROOT_HOME } from "../../handle/wire-handle.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { rootNode } from "../engine/engine.ts";
import { DirectoryCursor } from "../listing/listing.ts";
import type { Node } from "../nodes/node.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { attributesOf } from "../operations/attributes.ts";
import { inPasses } from "../operations/until-ready.ts";
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
	const { overlay } = opened;
	const { engine } = overlay;
	const paths: string[] = [];
	let looked = 0;
	const links = attributesOf(engine, node, false).nlink;
	const directories: { readonly handle: Buffer; readonly path: string }[] = [{ handle: rootNode(engine).handle, path: "" }];
	while (directories.length > 0 && paths.length < links) {
		const { handle, path } = directories.pop() as (typeof directories)[number];
		tellProgress("looking for its names", ++looked, "directories");
		await inPasses(overlay, () => {
			const below: typeof directories = [];
			const found: string[] = [];
			const directory = overlay.decode(handle);
			const cursor = new DirectoryCursor(engine, overlay.listings, directory, directory, 0, 2);
			while (cursor.next()) {
				const child = cursor.object();
				if (child === null) continue;
				const childPath = `${path}/${showName(cursor.name)}`;
				if (child.key === node.key) found.push(childPath);
				if (child.type === FileType.dir) below.push({ handle: child.handle, path: childPath });
			}
			directories.push(...below);
			paths.push(...found);
		});
	}
	return paths;
}
