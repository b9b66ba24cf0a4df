import { createHash } from "node:crypto";
import { allocate } from "../../src/linux/memory.ts";
import type { Node } from "../../src/overlay/nodes/node.ts";
import { type Attributes, FileType } from "../../src/vfs/operations.ts";
import { ROOT, type Stage } from "./stage.ts";

/** What a client sees of one name. */
export interface Seen {
	readonly handle: string;
	readonly fileid: string;
	readonly type: string;
	readonly mode: string;
	readonly owner: string;
	/** Of directories it is not part of any promise: a merged one shows 1. */
	readonly nlink: number;
	readonly content: string;
	/** Sorted, with their values. */
	readonly xattrs: string;
	readonly mtime: string;
	readonly ctime: string;
}

/** By path; the root is "". */
export type Tree = ReadonlyMap<string, Seen>;

const TYPES = new Map(Object.entries(FileType).map(([name, number]) => [number as number, name]));
const buffer = allocate(64 * 1024);

/** Lists and reads everything. When `isThorough`, throws where the ways to one object contradict each other. */
export async function observe(stage: Stage, isThorough: boolean): Promise<Tree> {
	const tree = new Map<string, Seen>();
	const visit = async (path: string, handle: Buffer): Promise<void> => {
		const seen = seenBy(stage, handle);
		tree.set(path, seen);
		if (seen.type !== "dir") return;
		for (const entry of await list(stage, handle, isThorough)) {
			const child = path === "" ? entry.name : `${path}/${entry.name}`;
			const { overlay } = stage;
			const found = overlay.lookup(overlay.decode(handle), Buffer.from(entry.name), ROOT);
			if (found === null) throw new Error(`${child} is listed, and look-up does not find it`);
			if (isThorough) {
				if (!entry.handle?.equals(found.handle)) throw new Error(`${child}: the listing has another handle`);
				if (entry.fileid !== fileidOf(overlay.getattr(found, false))) throw new Error(`${child}: the listing has another fileid`);
			}
			await visit(child, found.handle);
		}
	};
	await visit("", stage.overlay.root.handle);
	return tree;
}

interface Entry {
	readonly name: string;
	readonly handle: Buffer | null;
	readonly fileid: string;
}

async function list(stage: Stage, handle: Buffer, isThorough: boolean): Promise<Entry[]> {
	return stage.settle(() => {
		const { overlay } = stage;
		const cursor = overlay.list(overlay.decode(handle), ROOT, 0, 2);
		const entries: Entry[] = [];
		while (cursor.next()) {
			const name = Buffer.from(cursor.name).toString();
			const { hi, lo } = isThorough ? cursor.fileid() : { hi: 0, lo: 0 };
			entries.push({ name, fileid: `${hi}:${lo}`, handle: isThorough ? (cursor.object()?.handle ?? null) : null });
		}
		return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
	});
}

function fileidOf(attributes: Attributes): string {
	return `${attributes.fileidHi}:${attributes.fileidLo}`;
}

/** By its handle alone. */
export function seenBy(stage: Stage, handle: Buffer): Seen {
	const { overlay } = stage;
	const node = overlay.decode(handle);
	if (!node.handle.equals(handle)) throw new Error("the object of a handle has another handle");
	const attributes = overlay.getattr(node, false);
	const size = attributes.sizeHi * 2 ** 32 + attributes.sizeLo;
	let content = `${attributes.rdevMajor}:${attributes.rdevMinor}`;
	if (node.type === FileType.reg) {
		const { count } = overlay.read(node, ROOT, 0, buffer.bytes.length, buffer, 0);
		const read = buffer.bytes.subarray(0, count);
		content = count === size && count < 64 ? JSON.stringify(read.toString()) : `${size} ${createHash("sha1").update(read).digest("hex")}`;
	} else if (node.type === FileType.lnk) content = overlay.readlink(node).toString();
	return {
		handle: handle.toString("hex"),
		fileid: fileidOf(attributes),
		type: TYPES.get(attributes.type) as string,
		mode: attributes.mode.toString(8),
		owner: `${attributes.uid}:${attributes.gid}`,
		nlink: attributes.nlink,
		content,
		xattrs: xattrsOf(stage, node),
		mtime: `${attributes.mtime.sec}.${attributes.mtime.nsec}`,
		ctime: `${attributes.ctime.sec}.${attributes.ctime.nsec}`,
	};
}

function xattrsOf(stage: Stage, node: Node): string {
	const { overlay } = stage;
	const names = overlay.listxattr(node, ROOT).map((name) => `${name}=${overlay.getxattr(node, ROOT, name).toString("hex")}`);
	return names.sort().join(" ");
}

/** Objects by the first path that they had, so that trees of different stages can be compared. */
export class Names {
	readonly before: Tree;
	readonly #names = new Map<string, string>();
	readonly #mtimes = new Map<string, string>();

	constructor(before: Tree) {
		this.before = before;
		for (const [path, { handle, mtime }] of before) {
			if (this.#names.has(handle)) continue;
			this.#names.set(handle, `/${path}`);
			this.#mtimes.set(handle, mtime);
		}
	}

	/** All that must be equal, one line for each path. Times only as "kept" or "changed" since then. */
	describe(tree: Tree): string[] {
		const born = new Map<string, string>();
		for (const [path, { handle }] of tree) if (!this.#names.has(handle) && !born.has(handle)) born.set(handle, `new /${path}`);
		return [...tree].map(([path, seen]) => {
			const { type, mode, owner, nlink, content, xattrs, handle, mtime } = seen;
			const was = this.#mtimes.get(handle);
			const time = was === undefined ? "-" : was === mtime ? "kept" : "changed";
			const links = type === "dir" ? "-" : nlink;
			return `/${path} ${type} ${mode} ${owner} nlink=${links} content=${content} xattrs=${xattrs} object=${this.#names.get(handle) ?? born.get(handle)} mtime=${time}`;
		});
	}

	/** What a handle is called in this tree. */
	nameOf(handle: Buffer | null | undefined, tree: Tree): string {
		if (handle === null || handle === undefined) return "none";
		const text = handle.toString("hex");
		return this.#names.get(text) ?? [...tree].find(([, seen]) => seen.handle === text)?.[0] ?? "unknown";
	}
}

/** What of two lists differs, for a message. */
export function difference(expected: readonly string[], actual: readonly string[]): string {
	const wanted = new Set(expected);
	const found = new Set(actual);
	return [
		...expected.filter((line) => !found.has(line)).map((line) => `  - ${line}`),
		...actual.filter((line) => !wanted.has(line)).map((line) => `  + ${line}`),
	].join("\n");
}
