// Random changes of an overlay by what clients can ask for, and what it shows then.

import assert from "node:assert/strict";
import { linkSync, lstatSync, readdirSync, readFileSync, readlinkSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fc } from "../../../test/support/fast-check.ts";
import { plant } from "../../../test/support/lower-tree.ts";
import { allocate } from "../../linux/memory.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType, type OverlayObject } from "../../vfs/operations.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import type { Overlay } from "../operations/overlay.ts";
import { inPasses } from "../operations/until-ready.ts";

export const ROOT = { uid: 0, gid: 0, gids: [] };

/** What stands at each path: type, mode, and content or target. */
export type Tree = Map<string, string>;

export function treeOnDisk(top: string): Tree {
	const tree: Tree = new Map();
	const visit = (path: string) => {
		const at = join(top, path);
		const stat = lstatSync(at);
		const content = stat.isFile() ? readFileSync(at, "latin1") : stat.isSymbolicLink() ? readlinkSync(at) : "";
		tree.set(path, entry((stat.mode >> 12) as FileType, stat.mode & 0o7777, content));
		if (stat.isDirectory()) for (const name of readdirSync(at)) visit(path === "" ? name : `${path}/${name}`);
	};
	visit("");
	return tree;
}

function entry(type: FileType, mode: number, content: string): string {
	return `${type} ${type === FileType.lnk ? "" : mode.toString(8)} ${content}`;
}

const reading = allocate(4096);

/** What is read of a file, or what a symlink leads to; nothing of other objects. */
export function contentOf(overlay: Overlay, object: OverlayObject): string {
	if (object.type === FileType.lnk) return overlay.readlink(object).toString();
	if (object.type !== FileType.reg) return "";
	const { count } = overlay.read(object, ROOT, 0, 4096, reading, 0, "open");
	return reading.bytes.subarray(0, count).toString("latin1");
}

/** What `look` says of each object of an overlay, by its path. */
export async function lookAtAll<T>({ overlay }: OpenedOverlay, look: (object: OverlayObject) => T): Promise<Map<string, T>> {
	const tree = new Map<string, T>();
	const visit = async (path: string, handle: Buffer): Promise<void> => {
		const below = await inPasses(overlay, () => {
			const now = overlay.decode(handle);
			tree.set(path, look(now));
			const found: [string, Buffer][] = [];
			const cursor = now.type === FileType.dir ? overlay.list(now, ROOT, 0, 2) : null;
			while (cursor?.next()) {
				const child = overlay.lookup(now, cursor.name, ROOT);
				assert.ok(child !== null, `${path}/${cursor.name} is listed, and is not there`);
				found.push([Buffer.from(cursor.name).toString(), child.handle]);
			}
			return found;
		});
		for (const [name, child] of below) await visit(path === "" ? name : `${path}/${name}`, child);
	};
	await visit("", overlay.root.handle);
	return tree;
}

export function treeOfOverlay(opened: OpenedOverlay): Promise<Tree> {
	const { overlay } = opened;
	return lookAtAll(opened, (object) => entry(object.type, overlay.getattr(object).mode, contentOf(overlay, object)));
}

export function objectAt(overlay: Overlay, path: string): OverlayObject {
	return path
		.split("/")
		.filter(Boolean)
		.reduce<OverlayObject>((at, part) => {
			const found = overlay.lookup(at, Buffer.from(part), ROOT);
			assert.ok(found !== null, path);
			return found;
		}, overlay.root);
}

/** A path of the tree, its parent and its last name. */
export interface Place {
	readonly path: string;
	readonly parent: string;
	readonly last: string;
}

export function placeOf(path: string): Place {
	const end = path.lastIndexOf("/");
	return { path, parent: path.slice(0, Math.max(0, end)), last: path.slice(end + 1) };
}

export type Step = readonly [operation: number, one: number, other: number, name: number];
export const NAMES = ["a", "b", "c", "d e", "ä"];

/** What a step may be: each a change that clients ask for. */
export const OPERATIONS = ["create", "write", "remove", "rmdir", "mkdir", "rename", "link", "chmod", "symlink", "exchange"] as const;
/** The same with owners, xattrs, and what takes the place of another object. */
export const MORE_OPERATIONS = [
	...(["create", "write", "remove", "rmdir", "mkdir", "rename", "link", "chown", "symlink"] as const),
	...(["exchangeThere", "setxattr", "remove", "renameThere"] as const),
];
export type Operation = (typeof OPERATIONS | typeof MORE_OPERATIONS)[number];

export async function perform(
	opened: OpenedOverlay,
	[operation, one, other, name]: Step,
	operations: readonly Operation[] = OPERATIONS,
): Promise<void> {
	const { overlay } = opened;
	// in an order that does not depend on the keys of the export
	const paths = [...(await lookAtAll(opened, () => null)).keys()].sort();
	const find = (path: string) => objectAt(overlay, path);
	const source = placeOf(paths[one % paths.length]);
	const target = placeOf(paths[other % paths.length]);
	const [last, there, fresh] = [source.last, target.last, NAMES[name % NAMES.length]].map((text) => Buffer.from(text));
	const mode = name % 2 === 0 ? 0o700 : 0o755;
	const steps: Record<Operation, () => unknown> = {
		create: () => overlay.create(find(target.path), fresh, ROOT, { mode: "guarded", attributes: { mode: 0o644 } }, null),
		write: () => overlay.write(find(source.path), ROOT, 0, Buffer.from(`content ${one} ${other}`), "open"),
		remove: () => overlay.remove(find(source.parent), last, ROOT, null),
		rmdir: () => overlay.rmdir(find(source.parent), last, ROOT, null),
		mkdir: () => overlay.mkdir(find(target.path), fresh, ROOT, { mode: 0o755 }, null),
		rename: () => overlay.rename(find(source.parent), last, find(target.path), fresh, ROOT, null),
		renameThere: () => overlay.rename(find(source.parent), last, find(target.parent), there, ROOT, null),
		link: () => overlay.link(find(source.path), find(target.path), fresh, ROOT, null),
		chmod: () => overlay.setattr(find(source.path), ROOT, { mode }, undefined, null),
		chown: () => overlay.setattr(find(source.path), ROOT, { mode, uid: 7 }, undefined, null),
		symlink: () => overlay.symlink(find(target.path), fresh, ROOT, Buffer.from(`to ${one}`), {}, null),
		exchange: () => overlay.exchange(find(source.parent), last, find(target.path), fresh, ROOT, null),
		exchangeThere: () => overlay.exchange(find(source.parent), last, find(target.parent), there, ROOT, null),
		setxattr: () => overlay.setxattr(find(source.path), ROOT, Buffer.from("user.a"), Buffer.from("value"), "any", null),
	};
	try {
		await inPasses(overlay, steps[operations[operation % operations.length]]);
	} catch (error) {
		if (!(error instanceof OverlayError)) throw error;
	}
}

/** Sequences of steps. */
export const SEQUENCES = fc.array(fc.tuple(fc.nat(99), fc.nat(99), fc.nat(99), fc.nat(99)), { minLength: 1, maxLength: 24 });

/** A lower with what the steps find to do. */
export function plantLower(at: string): string {
	plant(at, { "a/a/a": "1", "a/a/b": "2", "a/b": "3", "b/a": "4", "b/c/d e": "5", c: "6", "d e/": "" });
	linkSync(join(at, "a/b"), join(at, "b/b"));
	symlinkSync("a/a", join(at, "ä"));
	return at;
}
