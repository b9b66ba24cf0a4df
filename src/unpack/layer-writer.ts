// Writes the entries of an archive to a directory, as a lower.

import { OVERRIDE_XATTR } from "../layer/rights.ts";
import { changeTimes } from "../linux/attributes.ts";
import { truncateFile, writeFrom } from "../linux/data.ts";
import { namesOf } from "../linux/directory.ts";
import { ENODATA, ERRNO, whyNot } from "../linux/errno.ts";
import { linkDescriptor, makeDirectory, makeNode, makeSymlink, readLinkAt, unlinkName } from "../linux/names.ts";
import { close, O, openAt, openBeneath, RESOLVE } from "../linux/open.ts";
import { fstat, Stat, statAt } from "../linux/stat.ts";
import { getXattr, getXattrAt, listXattrs, removeXattr, setXattr } from "../linux/xattr.ts";
import { must, valueOrNone } from "../vfs/system-errors.ts";
import { xattrOrNone } from "../vfs/xattrs.ts";
import { DirectoryCursor } from "./directory-cursor.ts";
import { type EntryPath, isAbsolute, nameBytes, PATH_BYTES_MAX, parsePath, printPath, splitTarget, whiteoutOf } from "./entry-path.ts";
import type { LayerForm } from "./layer-form.ts";
import { removeTree } from "./remove-tree.ts";
import type { TarEntry, TarEntryType, TarTime } from "./tar-reader.ts";
import { EntryError } from "./unpack-error.ts";

/** What is done to a name of an archive without being what the archive asks for. Keys of the notes that a user gets. */
export type NoteKind =
	| "absolute"
	| "metadata"
	| "overlayXattr"
	| "userXattr"
	| "rootXattr"
	| "linkOwner"
	| "textAcl"
	| "hiddenLink"
	| "image";

/** Counts of what a layer held. */
export interface LayerCounts {
	entries: number;
	bytes: number;
	whiteouts: number;
	opaque: number;
}

interface Attributes {
	readonly uid: number;
	readonly gid: number;
	readonly mode: number;
	readonly mtime: TarTime | undefined;
	readonly atime: TarTime | undefined;
	readonly xattrs: ReadonlyMap<string, Buffer>;
}

const FileType = { fifo: 1, chr: 2, dir: 4, blk: 6, reg: 8, lnk: 10 } as const;
/** In the root of an archive they tell that of a whole image, whose layers are archives in it: OCI layout, docker save. */
const IMAGE_FILES = new Set(["oci-layout", "repositories"]);
const TYPE_NUMBERS: Readonly<Record<Exclude<TarEntryType, "link">, number>> = {
	file: FileType.reg,
	directory: FileType.dir,
	symlink: FileType.lnk,
	"character-device": FileType.chr,
	"block-device": FileType.blk,
	fifo: FileType.fifo,
};
/** Values of the xattr that says that a directory shows nothing of the layers below, or that it has whiteouts in the form of xattrs. */
const OPAQUE = "y";
const HAS_WHITEOUTS = "x";
/** As many symlinks as Linux follows in one path. */
const LINKS_MAX = 40;
/** Of all directories together: they are held in memory until the end. */
const HELD_XATTR_BYTES_MAX = 64 * 1024 * 1024;
/** Set from an archive they would be redirects, identities, or whiteouts that nobody wrote as such. */
const OVERLAY_PREFIXES = ["trusted.overlay.", "user.overlay."];
const ACL_ACCESS = "system.posix_acl_access";
const ACL_DEFAULT = "system.posix_acl_default";
const XATTR_NAME_BYTES_MAX = 255;
const XATTR_BYTES_MAX = 65536;
const LINK_BYTES_MAX = 4095;
/** dev_t of Linux: 12 bits and 20 bits. */
const MAJOR_MAX = 0xfff;
const MINOR_MAX = 0xfffff;
const BENEATH = RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev;

/** A directory of the layer. Without attributes: it had no entry of its own yet. */
interface Directory {
	attributes: Attributes | null;
	readonly children: Map<string, Directory>;
	/** What the layers below have under its name is gone, since this layer has a whiteout of it too. */
	isReplaced: boolean;
	mark: "" | typeof OPAQUE | typeof HAS_WHITEOUTS;
}

/** Where something is made: a descriptor that is good until the next place is asked for, and what is known of the directory. */
interface OpenDirectory {
	readonly fd: number;
	readonly directory: Directory;
}

/**
 * Writes the entries of one archive below a directory, as a lower of an overlay. A symlink of the archive that stands for a directory is followed as
 * in a process whose root is the layer: step by step, by this program, and each directory is opened by names that no link is followed in.
 * Nothing else is ever written to.
 *
 * Directories get their attributes at the end, for what is made in them would change the times, and a default ACL would reach what is
 * made in them.
 */
export class LayerWriter {
	readonly #root: number;
	/** Roots of the layers below this one, from the topmost down. */
	readonly #below: readonly number[];
	readonly #note: (kind: NoteKind, name: Buffer) => void;
	readonly #form: LayerForm;
	readonly #top: Directory = newDirectory();
	/** Where the last entry was made; most entries lie beside it. */
	#last: OpenDirectory | null = null;
	/** The path that led there; null once it may lead elsewhere. */
	#lastKey: string | null = null;
	#heldXattrBytes = 0;
	readonly #stat = new Stat();
	readonly counts: LayerCounts = { entries: 0, bytes: 0, whiteouts: 0, opaque: 0 };

	/** The descriptors remain the caller's. */
	constructor(root: number, below: readonly number[], form: LayerForm, note: (kind: NoteKind, name: Buffer) => void) {
		this.#root = root;
		this.#form = form;
		this.#below = below;
		this.#note = note;
		// what the folder around it passes on is no part of the layer
		removeAcls(root);
	}

	close(): void {
		this.#forgetLast();
	}

	/** EntryError: it cannot be made as the archive has it. */
	async add(entry: TarEntry): Promise<void> {
		const given = parsePath(entry.name);
		const whiteout = whiteoutOf(given);
		if (isAbsolute(entry.name)) this.#note("absolute", entry.name);
		if (given.length === 1 && IMAGE_FILES.has(given[0])) this.#note("image", entry.name);
		this.counts.entries++;
		switch (whiteout.kind) {
			case "metadata":
				this.#note("metadata", entry.name);
				return;
			case "opaque":
				this.#makeOpaque(whiteout.path);
				return;
			case "whiteout":
				this.#makeWhiteout(whiteout.path);
				return;
		}
		if (entry.type === "directory") this.#addDirectory(given, this.#attributesOf(entry));
		else if (given.length === 0)
			throw new EntryError("it would replace the root of the layer, which is a directory; the archive is damaged, or made to deceive");
		else if (entry.type === "link") this.#addLink(given, entry);
		else await this.#addOther(given, entry);
	}

	/** Gives the directories their attributes. */
	finish(): void {
		this.#forgetLast();
		const cursors = [this.#root, ...this.#below].map((fd) => new DirectoryCursor(fd));
		try {
			for (const { fd } of cursors) demand(fd, "its directory cannot be opened");
			const below = cursors.slice(1);
			const end = below.findIndex(({ fd }) => this.#isOpaque(fd));
			this.#finish(this.#top, cursors[0], end < 0 ? below : below.slice(0, end + 1), [], implied(this.#top));
		} finally {
			for (const cursor of cursors) cursor.close();
		}
	}

	/**
	 * An implied parent directory takes its attributes from the topmost lower layer that shows it. `at` and `below` are at the same directory in
	 * this layer and in the layers below that show there, from the topmost down; these are followed on the way to implied directories alone.
	 */
	#finish(
		directory: Directory,
		at: DirectoryCursor,
		below: readonly DirectoryCursor[],
		path: string[],
		isNeeded: ReadonlySet<Directory>,
	): void {
		const showing = directory.mark === OPAQUE ? [] : below;
		for (const [name, child] of directory.children) {
			path.push(name);
			demand(at.down(nameBytes(name)), "its directory cannot be opened");
			const childBelow = child.isReplaced || !isNeeded.has(child) ? [] : this.#goDown(showing, path, child);
			this.#finish(child, at, childBelow, path, isNeeded);
			for (const cursor of [at, ...childBelow]) demand(cursor.up(), "its directory cannot be left");
			path.pop();
		}
		const name = nameBytes(`${path.join("/")}/`);
		try {
			this.#apply(at.fd, directory.attributes ?? this.#attributesBelow(below), name);
		} catch (error) {
			throw error instanceof EntryError && error.entry === null ? new EntryError(error.message, name) : error;
		}
	}

	/** Takes the layers that show in a directory to a child of it; the layers that show there too, from the topmost down. The others stay. */
	#goDown(above: readonly DirectoryCursor[], path: EntryPath, child: Directory): DirectoryCursor[] {
		const showing: DirectoryCursor[] = [];
		const name = nameBytes(path.at(-1) as string);
		for (const cursor of above) {
			const status = cursor.down(name);
			if (status === 0) {
				showing.push(cursor);
				if (this.#isOpaque(cursor.fd)) break;
			} else if (status !== -ERRNO.ENOENT) {
				const isLink = statAt(cursor.fd, name, this.#stat) === 0 && this.#stat.type === FileType.lnk;
				if (isLink && showing.length === 0 && child.attributes === null) this.#note("hiddenLink", nameBytes(path.join("/")));
				break;
			}
		}
		return showing;
	}

	#attributesBelow([topmost]: readonly DirectoryCursor[]): Attributes {
		if (topmost === undefined) return { uid: 0, gid: 0, mode: 0o755, mtime: undefined, atime: undefined, xattrs: new Map() };
		demand(fstat(topmost.fd, this.#stat), "it cannot be read in the layer below");
		this.#form.rights.show(topmost.fd, this.#stat);
		return readAttributes(topmost.fd, this.#stat);
	}

	#attributesOf(entry: TarEntry): Attributes {
		if (entry.hasTextAcl) this.#note("textAcl", entry.name);
		const xattrs = new Map<string, Buffer>();
		for (const [name, value] of entry.xattrs) {
			if (OVERLAY_PREFIXES.some((prefix) => name.startsWith(prefix)) || this.#form.reserved.includes(name)) {
				this.#note("overlayXattr", entry.name);
				continue;
			}
			if (name.length > XATTR_NAME_BYTES_MAX || name.includes("\0") || value.length > XATTR_BYTES_MAX) {
				throw new EntryError("it has an extended attribute that is too long for Linux");
			}
			xattrs.set(name, value);
		}
		const { uid, gid, mode, mtime, atime } = entry;
		return { uid, gid, mode, mtime, atime, xattrs };
	}

	#addDirectory(path: EntryPath, attributes: Attributes): void {
		const { directory } = this.#place(path, true);
		this.#heldXattrBytes += xattrBytes(attributes) - xattrBytes(directory.attributes);
		if (this.#heldXattrBytes > HELD_XATTR_BYTES_MAX) {
			throw new EntryError("with it the directories have more than 64 MiB of extended attributes, which no layer needs");
		}
		directory.attributes = attributes;
	}

	/** A new directory, in the place of what is no directory. In the place of a whiteout of this layer it shows nothing of the layers below. */
	#makeDirectory(parent: OpenDirectory, name: string): Directory {
		const isReplaced = this.#isWhiteout(parent.fd, name);
		this.#remove(parent, name);
		demand(makeDirectory(parent.fd, nameBytes(name), 0o700), "it cannot be made");
		const directory = newDirectory();
		parent.directory.children.set(name, directory);
		if (isReplaced) this.#replaceBelow(parent, name);
		return directory;
	}

	/** A directory of this layer takes the place of what the layers below have. */
	#replaceBelow(parent: OpenDirectory, name: string): void {
		const directory = knownChild(parent.directory, name);
		directory.isReplaced = true;
		const fd = openDirectory(parent.fd, name);
		try {
			this.#setOpaque({ fd, directory });
		} finally {
			close(fd);
		}
	}

	async #addOther(path: EntryPath, entry: TarEntry): Promise<void> {
		checkKind(entry);
		const attributes = this.#attributesOf(entry);
		const name = path.at(-1) as string;
		const parent = this.#place(path.slice(0, -1));
		this.#remove(parent, name);
		const type = TYPE_NUMBERS[entry.type as keyof typeof TYPE_NUMBERS];
		const isRegular = this.#form.rights.realType(type) === FileType.reg;
		if (!isRegular) demand(makeSpecial(parent.fd, nameBytes(name), entry), "it cannot be made");
		const flags = isRegular ? O.wronly | O.creat | O.excl | O.nofollow : O.path | O.nofollow;
		const fd = demand(openAt(parent.fd, nameBytes(name), flags, 0o600), "it cannot be made");
		try {
			if (type === FileType.reg) await this.#write(fd, entry);
			else if (isRegular) demand(this.#form.rights.disguise(fd, type, entry.major, entry.minor), "what it is cannot be noted");
			this.#apply(fd, attributes, entry.name);
		} finally {
			close(fd);
		}
	}

	async #write(fd: number, entry: TarEntry): Promise<void> {
		for await (const { offset, bytes } of entry.content) {
			for (let done = 0; done < bytes.length; ) {
				const rest = done === 0 ? bytes : bytes.subarray(done);
				done += demand(writeFrom(fd, rest, offset + done), "its content cannot be written");
			}
			this.counts.bytes += bytes.length;
		}
		if (entry.isSparse) demand(truncateFile(fd, entry.size), "its content cannot be written");
	}

	#addLink(path: EntryPath, entry: TarEntry): void {
		const target = parsePath(entry.linkName);
		const fd = this.#find(target);
		try {
			if (fd < 0) {
				throw new EntryError(
					`it is a hard link to ${printPath(target)}, which this archive does not have before it; layers cannot share a file, so pack this ` +
						"one again with the file itself in it",
				);
			}
			demand(fstat(fd, this.#stat), "what it is linked to cannot be read");
			if (this.#stat.type === FileType.dir) throw new EntryError(`it is a hard link to ${printPath(target)}, which is a directory`);
			const linked = Object.assign(new Stat(), this.#stat);
			const parent = this.#place(path.slice(0, -1));
			const name = path.at(-1) as string;
			if (this.#typeOf(parent.fd, name) !== 0 && this.#stat.sameInode(linked)) return;
			this.#remove(parent, name);
			demand(linkDescriptor(fd, parent.fd, nameBytes(name)), "the hard link cannot be made");
		} finally {
			if (fd >= 0) close(fd);
		}
	}

	#makeWhiteout(path: EntryPath): void {
		const parent = this.#place(path.slice(0, -1));
		const name = path.at(-1) as string;
		const type = this.#typeOf(parent.fd, name);
		this.counts.whiteouts++;
		if (type === FileType.dir) this.#replaceBelow(parent, name);
		// any other object of this layer hides what lies below it anyway
		else if (type === 0) this.#addWhiteout(parent, name);
	}

	#addWhiteout(parent: OpenDirectory, name: string): void {
		if (!this.#form.hasXattrWhiteouts) {
			demand(makeNode(parent.fd, nameBytes(name), FileType.chr << 12, 0, 0), "the whiteout cannot be made");
			return;
		}
		// there such a file would be seen, and nothing shows through that it would have to hide
		if (parent.directory.mark === OPAQUE) return;
		if (parent.directory.mark !== HAS_WHITEOUTS) this.#mark(parent, HAS_WHITEOUTS);
		const fd = demand(openAt(parent.fd, nameBytes(name), O.wronly | O.creat | O.excl | O.nofollow, 0o600), "the whiteout cannot be made");
		const status = setXattr(fd, this.#form.xattr.whiteout, Buffer.from("y"));
		close(fd);
		demand(status, "the whiteout cannot be marked");
	}

	#makeOpaque(path: EntryPath): void {
		this.#setOpaque(this.#place(path));
		this.counts.opaque++;
	}

	#setOpaque(place: OpenDirectory): void {
		if (place.directory.mark === OPAQUE) return;
		if (place.directory.mark === HAS_WHITEOUTS) this.#removeWhiteouts(place.fd);
		this.#mark(place, OPAQUE);
	}

	#mark({ fd, directory }: OpenDirectory, mark: typeof OPAQUE | typeof HAS_WHITEOUTS): void {
		demand(setXattr(fd, this.#form.xattr.opaque, Buffer.from(mark)), "it cannot be marked as opaque");
		directory.mark = mark;
	}

	#removeWhiteouts(directory: number): void {
		const fd = demand(openAt(directory, ".", O.rdonly | O.directory), "its directory cannot be opened");
		try {
			const names = namesOf(fd);
			if (typeof names === "number") throw new EntryError(`its directory cannot be read: ${whyNot(names)}`);
			for (const name of names) {
				if (this.#isWhiteout(fd, name.toString("latin1"))) demand(unlinkName(fd, name), "a whiteout cannot be removed");
			}
		} finally {
			close(fd);
		}
	}

	/** The type of a name, 0 where there is none. #stat is its. */
	#typeOf(parent: number, name: string): number {
		const status = statAt(parent, nameBytes(name), this.#stat);
		if (status === -ERRNO.ENOENT) return 0;
		demand(status, "it cannot be read");
		return this.#stat.type;
	}

	#isWhiteout(parent: number, name: string): boolean {
		const type = this.#typeOf(parent, name);
		if (!this.#form.hasXattrWhiteouts) return type === FileType.chr && this.#stat.rdevMajor === 0 && this.#stat.rdevMinor === 0;
		const { whiteout } = this.#form.xattr;
		const isEmpty = type === FileType.reg && this.#stat.size === 0;
		return isEmpty && valueOrNone(getXattrAt(parent, nameBytes(name), whiteout), "Cannot read a whiteout", whiteout) !== null;
	}

	#isOpaque(fd: number): boolean {
		return xattrOrNone(fd, this.#form.xattr.opaque, "Cannot read the marks of a directory")?.toString("latin1") === OPAQUE;
	}

	/** What an entry replaces. */
	#remove(parent: OpenDirectory, name: string): void {
		const type = this.#typeOf(parent.fd, name);
		if (type === 0) return;
		demand(removeTree(parent.fd, nameBytes(name)), "what it replaces cannot be removed");
		parent.directory.children.delete(name);
		// the path to the place may have led through what is gone
		if (type === FileType.dir || type === FileType.lnk) this.#lastKey = null;
	}

	#forgetLast(): void {
		if (this.#last !== null) close(this.#last.fd);
		this.#last = null;
		this.#lastKey = null;
	}

	/** The directory of that path, which is made where there is none yet; `isEntry`: in the place of what is no directory, too. */
	#place(path: EntryPath, isEntry = false): OpenDirectory {
		const key = path.join("/");
		if (this.#last !== null && this.#lastKey === key) return this.#last;
		this.#forgetLast();
		const fd = openPathIn(this.#root, path, O.path | O.directory);
		this.#last = fd >= 0 ? { fd, directory: this.#known(path) } : (this.#walk(path, isEntry ? "entry" : "make") as OpenDirectory);
		this.#lastKey = key;
		return this.#last;
	}

	/**
	 * Goes to a directory name by name, through symlinks as in a process whose root is the layer: ".." of the root is the root, and an absolute target begins
	 * there. "make": what is missing on the way is made; "entry": the last name becomes a directory, whatever it was; "find": null where one is missing.
	 */
	#walk(path: EntryPath, aim: "make" | "entry" | "find"): OpenDirectory | null {
		const todo = [...path].reverse();
		let names: string[] = [];
		let links = 0;
		let place = this.#open(names);
		const goTo = (next: OpenDirectory) => {
			close(place.fd);
			place = next;
		};
		try {
			for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
				if (name === "..") {
					names.pop();
					goTo(this.#open(names));
					continue;
				}
				const mayReplace = aim === "entry" && todo.length === 0;
				const type = this.#typeOf(place.fd, name);
				if (type === FileType.lnk && !mayReplace) {
					if (++links > LINKS_MAX) throw new EntryError(`its path goes through more than ${LINKS_MAX} symlinks`);
					const target = splitTarget(must(readLinkAt(place.fd, nameBytes(name)), "Cannot read a symlink"));
					todo.push(...[...target.names].reverse());
					if (!target.isAbsolute) continue;
					names = [];
					goTo(this.#open(names));
					continue;
				}
				names.push(name);
				if (type !== FileType.dir) {
					if (aim === "find") {
						close(place.fd);
						return null;
					}
					if (type !== 0 && !mayReplace && !this.#isWhiteout(place.fd, name)) {
						throw new EntryError(
							`it lies below ${printPath(names)}, which in this layer is no directory; the archive is damaged, or made to deceive`,
						);
					}
					if (names.reduce((bytes, each) => bytes + each.length + 1, -1) > PATH_BYTES_MAX) {
						throw new EntryError(`symlinks lead it to a path of more than ${PATH_BYTES_MAX} bytes, which Linux does not take`);
					}
					this.#makeDirectory(place, name);
				}
				goTo({ fd: openDirectory(place.fd, name), directory: knownChild(place.directory, name) });
			}
			return place;
		} catch (error) {
			close(place.fd);
			throw error;
		}
	}

	/** A directory of this layer, by names that are no links. */
	#open(names: readonly string[]): OpenDirectory {
		const directory = this.#known(names);
		return { fd: demand(openPathIn(this.#root, names, O.path | O.directory), "its directory cannot be opened"), directory };
	}

	#known(names: readonly string[]): Directory {
		let directory = this.#top;
		for (const name of names) directory = knownChild(directory, name);
		return directory;
	}

	/** An object of this layer that is no whiteout, O_PATH, or a negated error number. */
	#find(path: EntryPath): number {
		if (path.length === 0) return openPathIn(this.#root, path, O.path);
		const parent = this.#walk(path.slice(0, -1), "find");
		if (parent === null) return -ERRNO.ENOENT;
		try {
			const name = path.at(-1) as string;
			return this.#isWhiteout(parent.fd, name) ? -ERRNO.ENOENT : openPathIn(parent.fd, [name], O.path);
		} finally {
			close(parent.fd);
		}
	}

	/** The owner before the mode, since a change of the owner clears setuid, and before the xattrs, since it clears capabilities. */
	#apply(fd: number, attributes: Attributes, name: Buffer): void {
		const { uid, gid, mode, mtime, atime, xattrs } = attributes;
		const { rights, isForgiving } = this.#form;
		const stat = new Stat();
		demand(fstat(fd, stat), "it cannot be read");
		demand(rights.change(fd, stat.type, { uid, gid, mode }), "its owner and mode cannot be set");
		if (rights.isKept && stat.type === FileType.lnk && (uid !== 0 || gid !== 0)) this.#note("linkOwner", name);
		for (const [key, value] of xattrs) {
			const status = setXattr(fd, nameBytes(key), value);
			// Linux lets only files and directories have them
			const isUser = key.startsWith("user.") && stat.type !== FileType.reg && stat.type !== FileType.dir;
			if (status === -ERRNO.EPERM && isUser) this.#note("userXattr", name);
			else if ((status === -ERRNO.EPERM || status === -ERRNO.EOPNOTSUPP) && isForgiving && !key.startsWith("user."))
				this.#note("rootXattr", name);
			else demand(status, `its extended attribute ${printPath([key])} cannot be set`);
		}
		// an ACL may take from the owner, who is this process, the access that it needs
		if (rights.isKept && xattrs.has(ACL_ACCESS)) demand(rights.change(fd, stat.type, { mode }), "its mode cannot be set");
		if (mtime !== undefined) demand(changeTimes(fd, atime, mtime), "its times cannot be set");
	}
}

function newDirectory(): Directory {
	return { attributes: null, children: new Map(), isReplaced: false, mark: "" };
}

function knownChild(directory: Directory, name: string): Directory {
	const child = directory.children.get(name);
	if (child === undefined) throw new EntryError(`it lies below ${printPath([name])}, which somebody else has made meanwhile`);
	return child;
}

function xattrBytes(attributes: Attributes | null): number {
	let bytes = 0;
	for (const [name, value] of attributes?.xattrs ?? []) bytes += name.length + value.length;
	return bytes;
}

/** The directories without an entry of their own, and all on the way to them. */
function implied(directory: Directory, found = new Set<Directory>()): ReadonlySet<Directory> {
	let isNeeded = directory.attributes === null;
	for (const child of directory.children.values()) {
		implied(child, found);
		if (found.has(child)) isNeeded = true;
	}
	if (isNeeded) found.add(directory);
	return found;
}

/** A path below a directory, of names that are no links, on one file system; the directory itself for no names. */
function openPathIn(root: number, names: readonly string[], flags: number): number {
	return names.length === 0 ? openAt(root, ".", flags) : openBeneath(root, nameBytes(names.join("/")), flags | O.nofollow, BENEATH);
}

/** One name in a directory; never through a link, and never on another file system. */
function openDirectory(parent: number, name: string): number {
	return demand(openBeneath(parent, nameBytes(name), O.path | O.directory | O.nofollow, BENEATH), "its directory cannot be opened");
}

/** The result, or an EntryError with the reason. */
function demand(result: number, reason: string): number {
	if (result >= 0) return result;
	const why =
		result === -ERRNO.ENOSPC
			? "there is no space left"
			: result === -ERRNO.EDQUOT
				? "the quota is used up"
				: result === -ERRNO.EOPNOTSUPP
					? "this file system does not take it; unpack to another one"
					: whyNot(result);
	throw new EntryError(`${reason}: ${why}`);
}

function checkKind(entry: TarEntry): void {
	if (entry.type === "symlink") {
		if (entry.linkName.length === 0 || entry.linkName.length > LINK_BYTES_MAX || entry.linkName.includes(0)) {
			throw new EntryError("it is a symlink whose target can be none (empty, too long, or with a NUL)");
		}
	} else if (entry.type === "character-device" || entry.type === "block-device") {
		const { major, minor } = entry;
		if (!(major >= 0 && major <= MAJOR_MAX && minor >= 0 && minor <= MINOR_MAX))
			throw new EntryError(`its device number ${major}:${minor} is none that Linux has`);
		if (entry.type === "character-device" && major === 0 && minor === 0) {
			throw new EntryError(
				"it is a character device 0:0, which is how overlayfs itself marks a whiteout; in a layer's archive a whiteout is a file .wh.NAME, so pack it again so",
			);
		}
	}
}

function makeSpecial(parent: number, name: Buffer, entry: TarEntry): number {
	switch (entry.type) {
		case "symlink":
			return makeSymlink(entry.linkName, parent, name);
		case "character-device":
			return makeNode(parent, name, FileType.chr << 12, entry.major, entry.minor);
		case "block-device":
			return makeNode(parent, name, FileType.blk << 12, entry.major, entry.minor);
		default:
			return makeNode(parent, name, FileType.fifo << 12, 0, 0);
	}
}

/** A directory gets them from a default ACL of the one around it. */
function removeAcls(fd: number): void {
	for (const name of [ACL_ACCESS, ACL_DEFAULT]) {
		const status = removeXattr(fd, name);
		if (status !== -ENODATA && status !== -ERRNO.EOPNOTSUPP)
			demand(status, "the ACL that the folder around it passes on cannot be removed");
	}
}

function readAttributes(fd: number, stat: Stat): Attributes {
	const xattrs = new Map<string, Buffer>();
	const names = listXattrs(fd);
	for (const name of typeof names === "number" ? [] : names) {
		const text = name.toString("latin1");
		if (OVERLAY_PREFIXES.some((prefix) => text.startsWith(prefix)) || text === OVERRIDE_XATTR) continue;
		const value = getXattr(fd, name);
		if (typeof value !== "number") xattrs.set(text, value);
	}
	const { uid, gid, mode, mtimeSec, mtimeNsec } = stat;
	return { uid, gid, mode: mode & 0o7777, mtime: { sec: mtimeSec, nsec: mtimeNsec }, atime: undefined, xattrs };
}
