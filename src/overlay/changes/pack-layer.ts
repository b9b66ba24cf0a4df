// The changes as a layer of a container image: a tar archive with whiteouts as OCI images have them.

import { hasPrefix, OPAQUE_FILE, WHITEOUT_PREFIX } from "../../layer/hiding.ts";
import { isSameOrBelow, namesInPath, pathBelow, SEPARATOR, splitPath } from "../../layer/path-search.ts";
import type { Real } from "../../layer/real.ts";
import type { Stat } from "../../linux/stat.ts";
import { dataBytes, END_BLOCKS, type EntryHeader, headerBlocks, type Piece, padding } from "../../pack/tar-writer.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { rootNode } from "../engine/engine.ts";
import { DirectoryCursor } from "../listing/listing.ts";
import { lookupChild, nodeAt } from "../lookup/objects.ts";
import { findInStack } from "../lookup/stack-search.ts";
import { linkCount, statOf } from "../lookup/stat.ts";
import type { Node } from "../nodes/node.ts";
import { lowersOf } from "../nodes/reals.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { shownValues } from "../operations/extended-attributes.ts";
import { inPasses } from "../operations/until-ready.ts";
import { directoriesOfBase } from "./base-tree.ts";
import type { Change } from "./change.ts";
import { changeList } from "./change-list.ts";
import { Contents } from "./content.ts";

/** What the archive of a layer cannot say of an export. */
export class PackError extends Error {}

export interface PackOptions {
	/** Times of modification are none later, in seconds; null: as they are. */
	readonly timeMax: number | null;
	/** The same whatever holes the disk has: runs of zeros are holes. */
	readonly isReproducible: boolean;
}

const EMPTY = Buffer.alloc(0);
/** Behind "." and "..". */
const FIRST_COOKIE = 2;

/** The bytes of the archive. PackError. */
export async function* packLayer(opened: OpenedOverlay, options: PackOptions): AsyncGenerator<Buffer> {
	const contents = new Contents(opened);
	try {
		const packer = new Packer(opened, contents, options);
		yield* packer.changes();
		yield END_BLOCKS;
	} finally {
		contents.close();
	}
}

/** What an entry is made of. */
interface Seen {
	readonly handle: Buffer;
	readonly type: FileType;
	readonly stat: Stat;
	/** Of an object of several names. */
	readonly group: string | null;
	readonly link: Buffer | null;
	readonly xattrs: readonly (readonly [string, Buffer])[];
}

class Packer {
	readonly #opened: OpenedOverlay;
	readonly #contents: Contents;
	readonly #options: PackOptions;
	/** Directories on the way to the last entry that have entries of their own. */
	#above: Buffer[] = [];
	/** Where objects of several names were packed first. */
	readonly #names = new Map<string, Buffer>();
	/** Where the lowers have directories that were renamed. */
	readonly #left: Buffer[] = [];
	#count = 0;

	constructor(opened: OpenedOverlay, contents: Contents, options: PackOptions) {
		this.#opened = opened;
		this.#contents = contents;
		this.#options = options;
	}

	async *changes(): AsyncGenerator<Buffer> {
		// first, as the directories above all else: what unpacks a layer gives its root no owner and mode of the layers below
		yield* this.#object(EMPTY, await this.#look(await inPasses(this.#opened.overlay, () => rootNode(this.#opened.overlay.engine).handle)));
		// packed whole, with what changed in it
		let whole: Buffer | null = null;
		for await (const change of changeList(this.#opened)) {
			if (change.kind === "renamed" && change.from !== null) this.#left.push(change.from);
			if (change.path.length === 0 || (whole !== null && isSameOrBelow(change.path, whole))) continue;
			whole = null;
			if (change.kind === "removed") yield* this.#whiteout(change.path);
			else if (change.kind === "renamed") {
				whole = change.path;
				yield* this.#tree(change.path, change.handle as Buffer);
			} else yield* this.#entry(change.path, change.handle as Buffer, await this.#hidesDirectory(change));
		}
		for (const from of this.#left.sort(Buffer.compare)) if (await this.#isBare(from)) yield* this.#whiteout(from);
	}

	/** A new directory in the place of one of the lowers, and nothing of that shows in it. */
	async #hidesDirectory({ path, kind, type }: Change): Promise<boolean> {
		if (kind !== "added" || type !== FileType.dir) return false;
		return this.#isDirectoryOfBase(path);
	}

	#isDirectoryOfBase(path: Buffer): Promise<boolean> {
		const { overlay } = this.#opened;
		return inPasses(overlay, () => directoriesOfBase(overlay.engine, namesInPath(path)) !== null);
	}

	/** Whether a layer that says nothing of this path would show what the lowers have there, where the overlay has nothing. */
	#isBare(path: Buffer): Promise<boolean> {
		const { overlay } = this.#opened;
		const { engine } = overlay;
		return inPasses(overlay, () => {
			let node: Node | null = rootNode(engine);
			let reals: readonly Real[] = lowersOf(node);
			const names = namesInPath(path);
			for (const [i, name] of names.entries()) {
				const child: Node | null = lookupChild(engine, node, name);
				if (i === names.length - 1) return child === null;
				reals = findInStack(engine, reals, name)?.reals ?? [];
				// another one stands there, or the lower one that it was merged with has moved: nothing below it shows
				const isMerged: boolean = child !== null && reals.length > 0 && child.reals.some(({ key }) => key === reals[0].key);
				if (child === null || !isMerged) return false;
				node = child;
			}
			return false;
		});
	}

	/** A directory with all that it holds. */
	async *#tree(path: Buffer, handle: Buffer): AsyncGenerator<Buffer> {
		const { overlay } = this.#opened;
		yield* this.#entry(path, handle, await this.#isDirectoryOfBase(path));
		const pending = [{ path, handle }];
		for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
			const directory = at;
			if (directory.path !== path) yield* this.#entry(directory.path, directory.handle, false);
			const listed = await inPasses(overlay, () => {
				const node = overlay.decode(directory.handle);
				const found: { readonly path: Buffer; readonly handle: Buffer; readonly isDirectory: boolean }[] = [];
				const cursor = new DirectoryCursor(overlay.engine, overlay.listings, node, node, 0, FIRST_COOKIE);
				while (cursor.next()) {
					const child = cursor.object();
					if (child === null) continue;
					const below = pathBelow(directory.path, Buffer.from(cursor.name));
					found.push({ path: below, handle: child.handle, isDirectory: child.type === FileType.dir });
				}
				return found.sort((a, b) => Buffer.compare(a.path, b.path));
			});
			for (const one of listed) if (!one.isDirectory) yield* this.#entry(one.path, one.handle, false);
			pending.push(...listed.filter(({ isDirectory }) => isDirectory).reverse());
		}
	}

	async *#entry(path: Buffer, handle: Buffer, isOpaque: boolean): AsyncGenerator<Buffer> {
		tellProgress("packing", ++this.#count, "names");
		const seen = await this.#look(handle);
		// sockets are no part of any archive
		if (seen.type === FileType.sock) return;
		yield* this.#ancestors(path);
		yield* this.#object(path, seen);
		if (seen.type !== FileType.dir) return;
		this.#above.push(path);
		if (isOpaque) yield this.#marker(pathBelow(path, Buffer.from(OPAQUE_FILE)));
	}

	async *#whiteout(path: Buffer): AsyncGenerator<Buffer> {
		yield* this.#ancestors(path);
		const { directory, name } = splitPath(path);
		refuseWhiteoutName(path);
		yield this.#marker(pathBelow(directory, Buffer.concat([WHITEOUT_PREFIX, name])));
	}

	/** What unpacks the layer would make up the attributes of a directory without an entry. */
	async *#ancestors(path: Buffer): AsyncGenerator<Buffer> {
		refuseWhiteoutName(path);
		this.#above = this.#above.filter((directory) => isSameOrBelow(path, directory));
		let at: Buffer = EMPTY;
		for (const name of namesInPath(splitPath(path).directory)) {
			at = pathBelow(at, name);
			if (this.#above.some((directory) => directory.equals(at))) continue;
			const directory = at;
			const handle = await inPasses(this.#opened.overlay, () => this.#handleAt(directory));
			yield* this.#object(directory, await this.#look(handle));
			this.#above.push(directory);
		}
	}

	#handleAt(path: Buffer): Buffer {
		const node = nodeAt(this.#opened.overlay.engine, namesInPath(path));
		if (node === null) throw new PackError(`The directory ${showName(path)} went away while it was packed: try again`);
		return node.handle;
	}

	#look(handle: Buffer): Promise<Seen> {
		const { overlay } = this.#opened;
		const { engine } = overlay;
		return inPasses(overlay, () => {
			const node = overlay.decode(handle);
			const stat = statOf(engine, node);
			const isLinked = node.type !== FileType.dir && linkCount(engine, node, stat) > 1;
			const xattrs = shownValues(engine, engine.descriptors.path(node.top))
				.map(({ name, value }) => [name.toString("latin1"), value] as const)
				.sort(([a], [b]) => (a < b ? -1 : 1));
			const link = node.type === FileType.lnk ? Buffer.from(overlay.readlink(node)) : null;
			engine.descriptors.trim();
			return { handle, type: node.type, stat, group: isLinked ? node.key : null, link, xattrs };
		});
	}

	async *#object(path: Buffer, seen: Seen): AsyncGenerator<Buffer> {
		const { stat, type, group, link, xattrs, handle } = seen;
		const known = group === null ? undefined : this.#names.get(group);
		const head = {
			path: type === FileType.dir ? Buffer.concat([path, SEPARATOR]) : path,
			size: 0,
			mode: stat.mode & 0o7777,
			uid: stat.uid,
			gid: stat.gid,
			mtime: this.#time(stat),
		};
		if (type === FileType.dir && path.length === 0) head.path = Buffer.from("./");
		if (known !== undefined) {
			yield headerBlocks({ ...head, type: "1", link: known });
			return;
		}
		if (group !== null) this.#names.set(group, path);
		if (type === FileType.reg) yield* this.#file({ ...head, type: "0", xattrs }, stat, handle);
		else {
			const device = [stat.rdevMajor, stat.rdevMinor] as const;
			yield headerBlocks({ ...head, type: TYPES[type as keyof typeof TYPES], xattrs, device, ...(link === null ? {} : { link }) });
		}
	}

	async *#file(head: EntryHeader, stat: Stat, handle: Buffer): AsyncGenerator<Buffer> {
		const { size } = stat;
		const mayHaveHoles = size >= SPARSE_BYTES_MIN && (this.#options.isReproducible || stat.blocks * 512 < size);
		const found = mayHaveHoles ? await piecesOf(this.#contents.now(handle), size) : null;
		const pieces = found !== null && size - dataBytes(found) >= SPARSE_BYTES_MIN ? found : null;
		yield headerBlocks({ ...head, size, ...(pieces === null ? {} : { pieces }) });
		const stored = pieces === null ? [{ offset: 0, length: size }] : pieces;
		yield* exactly(this.#contents.now(handle), stored, head.path);
		yield padding(dataBytes(stored));
	}

	#marker(path: Buffer): Buffer {
		return headerBlocks({ path, type: "0", size: 0, mode: 0o644, uid: 0, gid: 0, mtime: { sec: 0, nsec: 0 } });
	}

	#time({ mtimeSec: sec, mtimeNsec: nsec }: Stat): { readonly sec: number; readonly nsec: number } {
		const { timeMax } = this.#options;
		return timeMax !== null && (sec > timeMax || (sec === timeMax && nsec > 0)) ? { sec: timeMax, nsec: 0 } : { sec, nsec };
	}
}

const TYPES = {
	[FileType.dir]: "5",
	[FileType.lnk]: "2",
	[FileType.chr]: "3",
	[FileType.blk]: "4",
	[FileType.fifo]: "6",
} as const;

/** Smaller holes cost more than they save. */
const SPARSE_BYTES_MIN = 64 * 1024;
const HOLE_BYTES = 4096;
const ZEROS = Buffer.alloc(HOLE_BYTES);
/** What unpacking a layer takes at most is many times as much. */
const PIECES_MAX = 65_536;

/** What is not zeros, in blocks; null: it is in too many pieces. */
async function piecesOf(content: AsyncIterable<Buffer>, size: number): Promise<Piece[] | null> {
	const pieces: { offset: number; length: number }[] = [];
	let offset = 0;
	for await (const chunk of content) {
		for (let at = 0; at < chunk.length; at += HOLE_BYTES) {
			const block = chunk.subarray(at, at + HOLE_BYTES);
			if (block.equals(ZEROS.subarray(0, block.length))) continue;
			const last = pieces.at(-1);
			if (last !== undefined && last.offset + last.length === offset + at) last.length += block.length;
			else if (pieces.push({ offset: offset + at, length: block.length }) > PIECES_MAX) return null;
		}
		offset += chunk.length;
	}
	// GNU tar tells the end of a file that ends in a hole so
	if ((pieces.at(-1)?.offset ?? 0) + (pieces.at(-1)?.length ?? 0) < size) pieces.push({ offset: size, length: 0 });
	return pieces;
}

/** As many bytes as the header says: a file that has grown is cut, and one that has shrunk is an error. */
async function* exactly(content: AsyncIterable<Buffer>, pieces: readonly Piece[], path: Buffer): AsyncGenerator<Buffer> {
	let offset = 0;
	let next = 0;
	for await (const chunk of content) {
		for (; next < pieces.length; next++) {
			const { offset: from, length } = pieces[next];
			const [start, end] = [Math.max(from, offset), Math.min(from + length, offset + chunk.length)];
			if (start < end) yield chunk.subarray(start - offset, end - offset);
			if (from + length > offset + chunk.length) break;
		}
		offset += chunk.length;
		if (next === pieces.length) return;
	}
	if (pieces.slice(next).some(({ length }) => length > 0))
		throw new PackError(`The file ${showName(path)} became smaller while it was packed: try again`);
}

function refuseWhiteoutName(path: Buffer): void {
	if (!namesInPath(path).some((name) => hasPrefix(name, WHITEOUT_PREFIX))) return;
	throw new PackError(
		`Cannot pack ${showName(path)}: in the layer of an image a name that begins with .wh. says that something is removed`,
	);
}
