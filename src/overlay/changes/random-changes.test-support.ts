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

export async function treeOfOverlay({ overlay }: OpenedOverlay): Promise<Tree> {
	const tree: Tree = new Map();
	const visit = async (path: string, object: OverlayObject): Promise<void> => {
		const below = await inPasses(overlay, () => {
			const { handle, type } = object;
			const now = overlay.decode(handle);
			let content = "";
			if (type === FileType.reg) {
				const { count } = overlay.read(now, ROOT, 0, 4096, reading, 0, "open");
				content = reading.bytes.subarray(0, count).toString("latin1");
			} else if (type === FileType.lnk) content = overlay.readlink(now).toString();
			tree.set(path, entry(type, overlay.getattr(now).mode, content));
			const found: [string, OverlayObject][] = [];
			const cursor = type === FileType.dir ? overlay.list(now, ROOT, 0, 2) : null;
			while (cursor?.next()) {
				const child = overlay.lookup(now, cursor.name, ROOT);
				assert.ok(child !== null);
				found.push([Buffer.from(cursor.name).toString(), child]);
			}
			return found;
		});
		for (const [name, child] of below) await visit(path === "" ? name : `${path}/${name}`, child);
	};
	await visit("", overlay.root);
	return tree;
}

export type Step = readonly [operation: number, one: number, other: number, name: number];
const NAMES = ["a", "b", "c", "d e", "ä"];

export async function perform(opened: OpenedOverlay, [operation, one, other, name]: Step): Promise<void> {
	const { overlay } = opened;
	// in an order that does not depend on the keys of the export
	const paths = [...(await treeOfOverlay(opened)).keys()].sort();
	const find = (path: string) =>
		path
			.split("/")
			.filter(Boolean)
			.reduce<OverlayObject>((at, part) => {
				const found = overlay.lookup(at, Buffer.from(part), ROOT);
				assert.ok(found !== null);
				return found;
			}, overlay.root);
	const source = paths[one % paths.length];
	const parent = source.includes("/") ? source.slice(0, source.lastIndexOf("/")) : "";
	const last = Buffer.from(source.slice(parent === "" ? 0 : parent.length + 1));
	const target = paths[other % paths.length];
	const newName = Buffer.from(NAMES[name % NAMES.length]);
	const operations = [
		() => overlay.create(find(target), newName, ROOT, { mode: "guarded", attributes: { mode: 0o644 } }, null),
		() => overlay.write(find(source), ROOT, 0, Buffer.from(`content ${one} ${other}`), "open"),
		() => overlay.remove(find(parent), last, ROOT, null),
		() => overlay.rmdir(find(parent), last, ROOT, null),
		() => overlay.mkdir(find(target), newName, ROOT, { mode: 0o755 }, null),
		() => overlay.rename(find(parent), last, find(target), newName, ROOT, null),
		() => overlay.link(find(source), find(target), newName, ROOT, null),
		() => overlay.setattr(find(source), ROOT, { mode: name % 2 === 0 ? 0o700 : 0o755 }, undefined, null),
		() => overlay.symlink(find(target), newName, ROOT, Buffer.from(`to ${one}`), {}, null),
		() => overlay.exchange(find(parent), last, find(target), newName, ROOT, null),
	];
	try {
		await inPasses(overlay, operations[operation % operations.length]);
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
