// All exports of a server as one tree: where each lies, and read-only directories on the way to them.

import type { Caller } from "../rpc/caller.ts";
import { OverlayError } from "../vfs/errors.ts";
import {
	Access,
	type Attributes,
	type ClientRequest,
	type Credentials,
	FileType,
	type ListCursor,
	type OverlayObject,
	type OverlayOperations,
} from "../vfs/operations.ts";
import { type Export, makeExport } from "./export.ts";
import { type Admission, type Exports, isWithin } from "./exports.ts";
import { squash } from "./squash.ts";

/** A directory of the pseudo file system (RFC 8881 section 7.3). */
class PseudoDirectory implements OverlayObject {
	readonly type = FileType.dir;
	readonly handle: Buffer;
	readonly fileid: number;
	readonly parent: PseudoDirectory | null;
	/** By name in latin1. An export is entered by its root. */
	readonly entries = new Map<string, PseudoDirectory | Export>();

	constructor(path: readonly Uint8Array[], parent: PseudoDirectory | null) {
		this.parent = parent;
		const [hi, lo] = hashOf(path);
		this.handle = Buffer.alloc(HANDLE_BYTES);
		this.handle.writeUInt32BE(MAGIC, 0);
		this.handle.writeUInt32BE(PSEUDO_EXPORT_ID, 4);
		this.handle.writeUInt32BE(hi, 8);
		this.handle.writeUInt32BE(lo, 12);
		this.fileid = parent === null ? ROOT_FILEID : fileidOf(path);
	}
}

const HANDLE_BYTES = 16;
const MAGIC = 0x70736575;
/** No export has it: their ids are drawn at random, and 0 is none. */
const PSEUDO_EXPORT_ID = 0;
const ROOT_FILEID = 2;
const EPOCH = { sec: 0, nsec: 0 };

/** Where a name leads that is an export's root. */
export interface Junction {
	readonly served: Export;
	readonly root: OverlayObject;
}

/**
 * The tree that clients of version 4 see: exports by their names, and above and between them directories that nobody can change. One export named "/" is
 * the whole tree, and there are no such directories then. An export whose name lies within another one hides what the other has there.
 */
export class Namespace {
	readonly #exports: Exports;
	/** The directories above and between, as an export of their own; null where there are none. */
	readonly pseudo: Export | null = null;
	readonly #root: PseudoDirectory | null = null;
	readonly #byHandle = new Map<string, PseudoDirectory>();
	/** The innermost export that another one lies within. */
	readonly #outer = new Map<Export, Export>();
	/** Exports that lie within another one. */
	readonly #within = new Map<Export, Export[]>();
	/** Fileids of the places that exports cover in the directories above and between. */
	readonly #coveredFileids = new Map<Export, number>();

	/** Whether any export knows what a change of the request was answered before a restart, of those from one number up to, and without, another. */
	isAnswered(request: ClientRequest, from: number, end: number): boolean {
		for (const { overlay } of this.#exports.all) {
			for (let change = from; change < end; change++) if (overlay.answerTo({ request, change }) !== null) return true;
		}
		return false;
	}

	constructor(exports: Exports) {
		this.#exports = exports;
		for (const served of exports.all) {
			const outer = outerOf(served, exports.all);
			if (outer === null) continue;
			this.#outer.set(served, outer);
			this.#within.set(outer, [...(this.#within.get(outer) ?? []), served]);
		}
		const isWhole = exports.all.some(({ components }) => components.length === 0);
		if (isWhole || exports.all.length === 0) return;
		this.#root = this.#add([], null);
		for (const served of exports.all) if (!this.#outer.has(served)) this.#place(this.#root, served);
		this.pseudo = pseudoExport(this.#root, this.#byHandle, exports.all.length);
	}

	/** The root of all. */
	get root(): Junction {
		if (this.pseudo !== null) return { served: this.pseudo, root: this.pseudo.overlay.root };
		const served = this.#exports.all.find(({ components }) => components.length === 0) as Export;
		return { served, root: served.overlay.root };
	}

	/** The export that a handle names; null: there is none. */
	byHandle(handle: Uint8Array): Export | null {
		return this.#exports.byHandle(handle) ?? (this.pseudo !== null && isPseudoHandle(handle) ? this.pseudo : null);
	}

	/** Everybody who may come at all sees the directories between exports. */
	admission(served: Export, caller: Caller): Admission {
		if (served !== this.pseudo) return this.#exports.admission(served, caller);
		return { export: served, who: squash(caller.user, served.squash, false), readOnly: true };
	}

	/** The export that a name of a directory leads into. */
	entered(served: Export, directory: OverlayObject, name: Uint8Array, who: Credentials): Junction | null {
		if (served === this.pseudo) {
			const entry = (directory as PseudoDirectory).entries.get(latin1(name));
			return entry === undefined || entry instanceof PseudoDirectory ? null : { served: entry, root: entry.overlay.root };
		}
		const within = this.#within.get(served);
		if (within === undefined) return null;
		for (const inner of within) {
			const path = inner.components.slice(served.components.length);
			if (Buffer.compare(path[path.length - 1], name) !== 0) continue;
			const place = this.#walk(served, path.slice(0, -1), who);
			if (place !== null && Buffer.compare(place.handle, directory.handle) === 0) return { served: inner, root: inner.overlay.root };
		}
		return null;
	}

	/** Whether other exports lie within this one, so that its listings have to be looked through. */
	hasJunctions(served: Export): boolean {
		return served === this.pseudo || this.#within.has(served);
	}

	/**
	 * The directory that an export's root lies in; null for the root of all, and where that directory does not exist. `enter` begins the pass of the export
	 * that it belongs to, and gives the caller there.
	 */
	above(served: Export, enter: (outer: Export) => Credentials): Junction | null {
		const outer = this.#outer.get(served);
		if (outer !== undefined) {
			const path = served.components.slice(outer.components.length, -1);
			const root = this.#walk(outer, path, enter(outer));
			return root === null ? null : { served: outer, root };
		}
		if (this.pseudo === null) return null;
		enter(this.pseudo);
		let directory = this.#root as PseudoDirectory;
		for (const name of served.components.slice(0, -1)) directory = directory.entries.get(latin1(name)) as PseudoDirectory;
		return { served: this.pseudo, root: directory };
	}

	/** The parent of a directory between exports; null for the root of all. */
	parentOf(directory: OverlayObject): OverlayObject | null {
		return (directory as PseudoDirectory).parent;
	}

	/** The fileid of the place that the root of an export covers (mounted_on_fileid); null where it covers none. */
	coveredFileid(served: Export): number | null {
		return this.#coveredFileids.get(served) ?? null;
	}

	#walk(served: Export, path: readonly Uint8Array[], who: Credentials): OverlayObject | null {
		let at: OverlayObject | null = served.overlay.root;
		for (const name of path) {
			if (at === null || at.type !== FileType.dir) return null;
			at = served.overlay.lookup(at, name, who);
		}
		return at;
	}

	#add(path: readonly Uint8Array[], parent: PseudoDirectory | null): PseudoDirectory {
		const directory = new PseudoDirectory(path, parent);
		this.#byHandle.set(latin1(directory.handle), directory);
		return directory;
	}

	#place(root: PseudoDirectory, served: Export): void {
		let directory = root;
		for (const [depth, name] of served.components.slice(0, -1).entries()) {
			const key = latin1(name);
			let next = directory.entries.get(key);
			if (!(next instanceof PseudoDirectory)) {
				next = this.#add(served.components.slice(0, depth + 1), directory);
				directory.entries.set(key, next);
			}
			directory = next;
		}
		directory.entries.set(latin1(served.components[served.components.length - 1]), served);
		this.#coveredFileids.set(served, fileidOf(served.components));
	}
}

/** The innermost export that another one lies within. */
function outerOf(served: Export, all: readonly Export[]): Export | null {
	let found: Export | null = null;
	for (const other of all) {
		if (other === served || !isWithin(other.components, served.components)) continue;
		if (found === null || other.components.length > found.components.length) found = other;
	}
	return found;
}

function isPseudoHandle(handle: Uint8Array): boolean {
	return handle.length === HANDLE_BYTES && Buffer.from(handle.buffer, handle.byteOffset, 4).readUInt32BE(0) === MAGIC;
}

function pseudoExport(root: PseudoDirectory, byHandle: ReadonlyMap<string, PseudoDirectory>, number: number): Export {
	return { ...makeExport({ name: "/", overlay: new PseudoOverlay(root, byHandle) }, number, new Map()), fsidHi: 0, fsidLo: 0 };
}

function readOnly(): never {
	throw new OverlayError("rofs", "The directories between exports cannot be changed");
}

function isDirectory(): never {
	throw new OverlayError("isdir", "This is a directory");
}

/** The directories between exports, as an overlay that cannot be changed. */
class PseudoOverlay implements OverlayOperations {
	readonly root: PseudoDirectory;
	readonly readOnly = true;
	readonly writeVerifier = Buffer.alloc(8);
	readonly changes = 0;
	readonly #byHandle: ReadonlyMap<string, PseudoDirectory>;

	constructor(root: PseudoDirectory, byHandle: ReadonlyMap<string, PseudoDirectory>) {
		this.root = root;
		this.#byHandle = byHandle;
	}

	beginPass(): void {}

	decode(bytes: Uint8Array): OverlayObject {
		const found = this.#byHandle.get(latin1(bytes));
		if (found === undefined) throw new OverlayError("stale", "No export lies below this directory any more");
		return found;
	}

	birthTime(): null {
		return null;
	}

	getattr(object: OverlayObject): Attributes {
		const directory = object as PseudoDirectory;
		const [changeHi, changeLo] = hashOf([...directory.entries.keys()].sort().map((name) => Buffer.from(name, "latin1")));
		const subdirectories = directory.entries.size;
		return {
			type: FileType.dir,
			mode: 0o555,
			nlink: 2 + subdirectories,
			uid: 0,
			gid: 0,
			sizeHi: 0,
			sizeLo: 4096,
			blocks: 0,
			rdevMajor: 0,
			rdevMinor: 0,
			fileidHi: Math.floor(directory.fileid / 2 ** 32),
			fileidLo: directory.fileid >>> 0,
			atime: EPOCH,
			mtime: EPOCH,
			ctime: EPOCH,
			changeHi,
			changeLo,
		};
	}

	/** Exports are entered by `Namespace.entered`. */
	lookup(directory: OverlayObject, name: Uint8Array): OverlayObject | null {
		const entry = (directory as PseudoDirectory).entries.get(latin1(name));
		return entry instanceof PseudoDirectory ? entry : null;
	}

	access(_object: OverlayObject, _who: unknown, wanted: number): number {
		return wanted & (Access.read | Access.lookup);
	}

	list(directory: OverlayObject, _who: unknown, cookieHi: number, cookieLo: number): ListCursor {
		return cursorOf(directory as PseudoDirectory, cookieHi, cookieLo);
	}

	statfs(): { totalBytes: 0; freeBytes: 0; availableBytes: 0; totalFiles: 0; freeFiles: 0 } {
		return { totalBytes: 0, freeBytes: 0, availableBytes: 0, totalFiles: 0, freeFiles: 0 };
	}

	readlink(): never {
		throw new OverlayError("inval", "This is not a symlink");
	}

	onChange(): void {}
	holdOnLoss(): void {}

	restoreHolds(): number {
		return 0;
	}

	endOfRestore(): void {}

	answerTo(): null {
		return null;
	}

	commit = (): Promise<void> => Promise.resolve();
	stable = (): null => null;
	read = isDirectory;
	write = isDirectory;
	seek = isDirectory;
	allocate = isDirectory;
	deallocate = isDirectory;
	copyRange = isDirectory;
	cloneRange = isDirectory;
	hold = isDirectory;
	letGo = isDirectory;
	setattr = readOnly;
	create = readOnly;
	createUnnamed = readOnly;
	mkdir = readOnly;
	symlink = readOnly;
	mknod = readOnly;
	remove = readOnly;
	rmdir = readOnly;
	rename = readOnly;
	exchange = readOnly;
	link = readOnly;
	getxattr = readOnly;
	setxattr = readOnly;
	removexattr = readOnly;
	listxattr = (): [] => [];
}

/** Cookies are made of the names, so that they hold over restarts and other exports. */
function cursorOf(directory: PseudoDirectory, cookieHi: number, cookieLo: number): ListCursor {
	const named = [...directory.entries].map(([key, entry]) => {
		const name = Buffer.from(key, "latin1");
		const [hi, lo] = hashOf([name]);
		return { name, entry, hi: (hi >>> 1) | 1, lo };
	});
	named.sort((a, b) => a.hi - b.hi || a.lo - b.lo);
	const after = named.filter(({ hi, lo }) => hi > cookieHi || (hi === cookieHi && lo > cookieLo));
	let index = -1;
	return {
		next: () => ++index < after.length,
		get name() {
			return after[index].name;
		},
		get cookieHi() {
			return after[index].hi;
		},
		get cookieLo() {
			return after[index].lo;
		},
		fileid() {
			const { entry } = after[index];
			const fileid = entry instanceof PseudoDirectory ? entry.fileid : fileidOf(entry.components);
			return { hi: Math.floor(fileid / 2 ** 32), lo: fileid >>> 0 };
		},
		object() {
			const { entry } = after[index];
			return entry instanceof PseudoDirectory ? entry : entry.overlay.root;
		},
	};
}

function latin1(bytes: Uint8Array): string {
	return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

/** Above the fileid of the root, and a safe number. */
function fileidOf(path: readonly Uint8Array[]): number {
	const [hi, lo] = hashOf(path);
	return (hi & 0xfffff) * 2 ** 32 + lo + ROOT_FILEID + 1;
}

function hashOf(path: readonly Uint8Array[]): readonly [hi: number, lo: number] {
	let hi = 0x811c9dc5;
	let lo = 0x2545f491;
	const mix = (byte: number): void => {
		hi = Math.imul(hi ^ byte, 0x01000193);
		lo = Math.imul(((lo << 5) | (lo >>> 27)) ^ byte, 0x9e3779b1);
	};
	for (const name of path) {
		mix(0x2f);
		for (const byte of name) mix(byte);
	}
	return [(hi ^ (hi >>> 15)) >>> 0, (lo ^ (lo >>> 13)) >>> 0];
}
