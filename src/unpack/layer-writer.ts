// Writes the entries of an archive to a directory, as a lower.

import { changeMode, changeOwner, changeTimes } from "../linux/attributes.ts";
import { truncateFile, writeFrom } from "../linux/data.ts";
import { ENODATA, ERRNO, errnoName } from "../linux/errno.ts";
import { linkDescriptor, makeDirectory, makeNode, makeSymlink } from "../linux/names.ts";
import { close, O, openAt, openBeneath, RESOLVE } from "../linux/open.ts";
import { fstat, Stat, statAt } from "../linux/stat.ts";
import { getXattr, listXattrs, removeXattr, setXattr } from "../linux/xattr.ts";
import { type EntryPath, isAbsolute, nameBytes, parsePath, printPath, whiteoutOf } from "./entry-path.ts";
import { removeTree } from "./remove-tree.ts";
import type { TarEntry, TarTime } from "./tar-reader.ts";
import { EntryError } from "./unpack-error.ts";

/** What is done to a name of an archive without being what the archive asks for. Keys of the notes that a user gets. */
export type NoteKind = "absolute" | "metadata" | "overlayXattr" | "textAcl" | "hiddenLink" | "image";

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
const OPAQUE_XATTR = "trusted.overlay.opaque";
/** Set from an archive they would be redirects, identities, or whiteouts that nobody wrote as such. */
const OVERLAY_PREFIXES = ["trusted.overlay.", "user.overlay."];
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
}

/** Where something is made: a descriptor that is good until the next place is asked for, and what is known of the directory. */
interface Place {
	readonly key: string;
	readonly fd: number;
	readonly directory: Directory;
}

/**
 * Writes the entries of one archive below a directory, as a lower of an overlay. Every name is opened by itself in the directory that
 * was opened before it, no link is followed, and nothing else is ever written to.
 *
 * Directories get their attributes at the end, for what is made in them would change the times, and a default ACL would reach what is
 * made in them.
 */
export class LayerWriter {
	readonly #root: number;
	/** Roots of the layers below this one, from the topmost down. */
	readonly #below: readonly number[];
	readonly #note: (kind: NoteKind, name: Buffer) => void;
	readonly #top: Directory = { attributes: null, children: new Map() };
	/** Where the last entry was made; most entries lie beside it. */
	#last: Place | null = null;
	readonly #stat = new Stat();
	readonly counts: LayerCounts = { entries: 0, bytes: 0, whiteouts: 0, opaque: 0 };

	/** The descriptors remain the caller's. */
	constructor(root: number, below: readonly number[], note: (kind: NoteKind, name: Buffer) => void) {
		this.#root = root;
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
		this.#finish(this.#top, this.#root, this.#below, []);
	}

	/**
	 * An implied parent directory takes its attributes from the topmost lower layer that has it. `below`: the same directory in the layers
	 * that show through here, from the topmost down.
	 */
	#finish(directory: Directory, fd: number, below: readonly number[], path: string[]): void {
		const showsBelow = isOpaque(fd) ? [] : below;
		for (const [name, child] of directory.children) {
			path.push(name);
			const childFd = openDirectory(fd, name);
			const opened: number[] = [];
			try {
				this.#openBelow(showsBelow, path, child, opened);
				this.#finish(child, childFd, opened, path);
			} finally {
				for (const each of [childFd, ...opened]) close(each);
			}
			path.pop();
		}
		try {
			apply(fd, directory.attributes ?? this.#attributesBelow(below));
		} catch (error) {
			throw error instanceof EntryError && error.entry === null ? new EntryError(error.message, nameBytes(`${path.join("/")}/`)) : error;
		}
	}

	#openBelow(below: readonly number[], path: EntryPath, child: Directory, opened: number[]): void {
		for (const parent of below) {
			const fd = openBeneath(parent, nameBytes(path.at(-1) as string), O.path | O.nofollow, BENEATH);
			if (fd === -ERRNO.ENOENT) {
				if (isOpaque(parent)) return;
				continue;
			}
			if (fd < 0) return;
			fstat(fd, this.#stat);
			if (this.#stat.type !== FileType.dir) {
				close(fd);
				const isSeen = opened.length === 0 && child.attributes === null;
				if (isSeen && this.#stat.type === FileType.lnk) this.#note("hiddenLink", nameBytes(path.join("/")));
				return;
			}
			opened.push(fd);
			if (isOpaque(parent)) return;
		}
	}

	#attributesBelow(below: readonly number[]): Attributes {
		if (below.length === 0) return { uid: 0, gid: 0, mode: 0o755, mtime: undefined, atime: undefined, xattrs: new Map() };
		demand(fstat(below[0], this.#stat), "it cannot be read in the layer below");
		return readAttributes(below[0], this.#stat);
	}

	#attributesOf(entry: TarEntry): Attributes {
		if (entry.hasTextAcl) this.#note("textAcl", entry.name);
		const xattrs = new Map<string, Buffer>();
		for (const [name, value] of entry.xattrs) {
			if (OVERLAY_PREFIXES.some((prefix) => name.startsWith(prefix))) {
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
		this.#place(path, true).directory.attributes = attributes;
	}

	/** A new directory, in the place of what is no directory. With a whiteout of its name in this layer it shows nothing of the layers below. */
	#makeDirectory(parent: Place, path: EntryPath): Directory {
		const name = path.at(-1) as string;
		const isHidden = this.#typeOf(parent.fd, name) === FileType.chr && this.#isWhiteout();
		this.#remove(parent, path);
		demand(makeDirectory(parent.fd, nameBytes(name), 0o700), "it cannot be made");
		if (isHidden) {
			const fd = openDirectory(parent.fd, name);
			setOpaque(fd);
			close(fd);
		}
		const directory = { attributes: null, children: new Map() };
		parent.directory.children.set(name, directory);
		return directory;
	}

	async #addOther(path: EntryPath, entry: TarEntry): Promise<void> {
		checkKind(entry);
		const attributes = this.#attributesOf(entry);
		const name = nameBytes(path.at(-1) as string);
		const parent = this.#place(path.slice(0, -1));
		this.#remove(parent, path);
		const flags = entry.type === "file" ? O.wronly | O.creat | O.excl | O.nofollow : O.path | O.nofollow;
		if (entry.type !== "file") demand(makeSpecial(parent.fd, name, entry), "it cannot be made");
		const fd = demand(openAt(parent.fd, name, flags, 0o600), "it cannot be made");
		try {
			if (entry.type === "file") await this.#write(fd, entry);
			apply(fd, attributes);
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
			if (fd < 0 || (fstat(fd, this.#stat) === 0 && this.#stat.type === FileType.chr && this.#isWhiteout())) {
				throw new EntryError(
					`it is a hard link to ${printPath(target)}, which this archive does not have before it; layers cannot share a file, so pack this ` +
						"one again with the file itself in it",
				);
			}
			if (this.#stat.type === FileType.dir) throw new EntryError(`it is a hard link to ${printPath(target)}, which is a directory`);
			const linked = Object.assign(new Stat(), this.#stat);
			const parent = this.#place(path.slice(0, -1));
			if (this.#typeOf(parent.fd, path.at(-1) as string) !== 0 && this.#stat.sameInode(linked)) return;
			this.#remove(parent, path);
			demand(linkDescriptor(fd, parent.fd, nameBytes(path.at(-1) as string)), "the hard link cannot be made");
		} finally {
			if (fd >= 0) close(fd);
		}
	}

	#makeWhiteout(path: EntryPath): void {
		const parent = this.#place(path.slice(0, -1));
		const name = path.at(-1) as string;
		const type = this.#typeOf(parent.fd, name);
		this.counts.whiteouts++;
		if (type === FileType.dir) {
			const fd = openDirectory(parent.fd, name);
			setOpaque(fd);
			close(fd);
		} else if (type === 0) {
			demand(makeNode(parent.fd, nameBytes(name), FileType.chr << 12, 0, 0), "the whiteout cannot be made");
		}
		// any other object of this layer hides what lies below it anyway
	}

	#makeOpaque(path: EntryPath): void {
		setOpaque(this.#place(path).fd);
		this.counts.opaque++;
	}

	/** The type of a name, 0 where there is none. #stat is its. */
	#typeOf(parent: number, name: string): number {
		const status = statAt(parent, nameBytes(name), this.#stat);
		if (status === -ERRNO.ENOENT) return 0;
		demand(status, "it cannot be read");
		return this.#stat.type;
	}

	#isWhiteout(): boolean {
		return this.#stat.rdevMajor === 0 && this.#stat.rdevMinor === 0;
	}

	/** What an entry replaces. */
	#remove(parent: Place, path: EntryPath): void {
		const name = path.at(-1) as string;
		if (this.#typeOf(parent.fd, name) === 0) return;
		demand(removeTree(parent.fd, nameBytes(name)), "what it replaces cannot be removed");
		parent.directory.children.delete(name);
	}

	#forgetLast(): void {
		if (this.#last !== null) close(this.#last.fd);
		this.#last = null;
	}

	/** The directory of that path, which is made where there is none yet; `isEntry`: in the place of what is no directory, too. */
	#place(path: EntryPath, isEntry = false): Place {
		const key = path.join("/");
		if (this.#last?.key === key) return this.#last;
		this.#forgetLast();
		let place: Place = {
			key: "",
			fd: demand(openAt(this.#root, ".", O.path), "the layer's directory cannot be opened"),
			directory: this.#top,
		};
		try {
			for (let depth = 1; depth <= path.length; depth++) {
				const next = this.#descend(place, path.slice(0, depth), isEntry && depth === path.length);
				close(place.fd);
				place = next;
			}
		} catch (error) {
			close(place.fd);
			throw error;
		}
		this.#last = { ...place, key };
		return this.#last;
	}

	#descend(parent: Place, path: EntryPath, mayReplace: boolean): Place {
		const name = path.at(-1) as string;
		const type = this.#typeOf(parent.fd, name);
		if (type !== FileType.dir) {
			if (!mayReplace && type !== 0 && !(type === FileType.chr && this.#isWhiteout())) {
				const what = type === FileType.lnk ? "a symlink, which is never followed" : "no directory";
				throw new EntryError(
					`it lies below ${printPath(path)}, which in this layer is ${what}; the archive is damaged, or made to deceive`,
				);
			}
			this.#makeDirectory(parent, path);
		}
		const directory = parent.directory.children.get(name);
		if (directory === undefined) throw new EntryError(`it lies below ${printPath(path)}, which somebody else has made meanwhile`);
		return { key: "", fd: openDirectory(parent.fd, name), directory };
	}

	/** An object of this layer, or a negated error number. */
	#find(path: EntryPath): number {
		let fd = openAt(this.#root, ".", O.path);
		for (const name of path) {
			if (fd < 0) return fd;
			const child = openBeneath(fd, nameBytes(name), O.path | O.nofollow, BENEATH);
			close(fd);
			fd = child;
		}
		return fd;
	}
}

/** One name in a directory; never through a link, and never on another file system. */
function openDirectory(parent: number, name: string): number {
	return demand(openBeneath(parent, nameBytes(name), O.path | O.directory | O.nofollow, BENEATH), "its directory cannot be opened");
}

/** The result, or an EntryError with the reason. */
function demand(result: number, reason: string): number {
	if (result >= 0) return result;
	const why = result === -ERRNO.ENOSPC ? "there is no space left" : result === -ERRNO.EDQUOT ? "the quota is used up" : errnoName(result);
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

/** The owner before the mode, since a change of the owner clears setuid, and before the xattrs, since it clears capabilities. */
function apply(fd: number, attributes: Attributes): void {
	const { uid, gid, mode, mtime, atime, xattrs } = attributes;
	const stat = new Stat();
	demand(fstat(fd, stat), "it cannot be read");
	demand(changeOwner(fd, uid, gid), "its owner cannot be set");
	if (stat.type !== FileType.lnk) demand(changeMode(fd, mode), "its mode cannot be set");
	for (const [name, value] of xattrs) {
		const status = setXattr(fd, nameBytes(name), value);
		const attribute = `its extended attribute ${printPath([name])}`;
		if (status === -ERRNO.EOPNOTSUPP) throw new EntryError(`this file system does not take ${attribute}; unpack to another one`);
		demand(status, `${attribute} cannot be set`);
	}
	if (mtime !== undefined) demand(changeTimes(fd, atime, mtime), "its times cannot be set");
}

function setOpaque(fd: number): void {
	demand(setXattr(fd, OPAQUE_XATTR, Buffer.from("y")), "it cannot be marked as opaque (trusted extended attributes need CAP_SYS_ADMIN)");
}

function isOpaque(fd: number): boolean {
	const value = getXattr(fd, OPAQUE_XATTR);
	return typeof value !== "number" && value.toString("latin1") === "y";
}

/** A directory gets them from a default ACL of the one around it. */
function removeAcls(fd: number): void {
	for (const name of ["system.posix_acl_access", "system.posix_acl_default"]) {
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
		if (OVERLAY_PREFIXES.some((prefix) => text.startsWith(prefix))) continue;
		const value = getXattr(fd, name);
		if (typeof value !== "number") xattrs.set(text, value);
	}
	const { uid, gid, mode, mtimeSec, mtimeNsec } = stat;
	return { uid, gid, mode: mode & 0o7777, mtime: { sec: mtimeSec, nsec: mtimeNsec }, atime: undefined, xattrs };
}
