// Portable ids in an upper: an xattr on each object, and links in work that lead back to it.

import { randomBytes } from "node:crypto";
import { RecentMap } from "../collections/recent-map.ts";
import { namesOf } from "../linux/directory.ts";
import { ENODATA, ERRNO, whyNot } from "../linux/errno.ts";
import { type FileHandle, handleOf } from "../linux/file-handle.ts";
import type { PathBytes } from "../linux/libc.ts";
import { linkDescriptor, makeDirectory, RENAME, readLinkAt, renameName, unlinkName } from "../linux/names.ts";
import { close, O, openAt } from "../linux/open.ts";
import { fstat, Stat, statAt } from "../linux/stat.ts";
import { getXattr, removeXattr, setXattr } from "../linux/xattr.ts";
import { isNoXattr, must } from "../vfs/system-errors.ts";
import { xattrOrNone } from "../vfs/xattrs.ts";
import { type Birth, type HandleProvider, idOfName } from "./handle-provider.ts";
import { LayerError } from "./layer-error.ts";
import { openNames, PATH_GONE } from "./path-search.ts";
import { HASH_BYTES, PORTABLE } from "./portable-id.ts";
import { asideName, damagedRecord, readRecord, recordOrNone, writeAside, writeRecord } from "./sealed-record.ts";
import { hasLastingHandles } from "./unfit-file-system.ts";

/** Folders of `work/holdfast`. */
const FILES = "ids";
const DIRECTORIES = "directories";
const INODES = "inodes";

/** S_IFMT >> 12. */
const DIRECTORY = 4;
const REGULAR = 8;
const SYMLINK = 10;

/** Among the names in `inodes`: that of every inode is there. */
const ALL_NOTED = "all";

const NAMES_MAX = 65_536;
const UNREAD = "Cannot read the id of an object";
const ROOT_BYTES = Buffer.alloc(HASH_BYTES);

export const UPPER_ROOT: FileHandle = { type: PORTABLE.directory, bytes: ROOT_BYTES };

/** Where a directory of upper is. */
interface DirectoryPlace {
	readonly above: string;
	readonly name: Buffer;
}

function encodePlace({ above, name }: DirectoryPlace): Buffer {
	return Buffer.concat([Buffer.from(`${above}/`), name]);
}

/**
 * Portable ids of an upper. The id of an object is an xattr of its inode (type, 16 random bytes), and what leads to it lies in
 * `work/holdfast`: of anything but a directory a hard link, `ids/ID`; of a directory the id of the one above it and its name, as the target
 * of a symlink `directories/ID`. What Linux lets no user.* attribute be set on has its id as the target of `inodes/INODE`, by the
 * kernel handle of its inode, or the number where the file system's handles do not last; it is believed where `ids/ID` is that inode.
 */
export class PortableUpper implements HandleProvider {
	readonly isPortable = true;
	readonly #root: number;
	readonly #rootStat = new Stat();
	readonly #xattr: string;
	readonly #entryXattr: string;
	/** The kernel's handles of its inodes last. */
	readonly #hasHandles: boolean;
	readonly #files: number;
	readonly #directories: number;
	readonly #inodes: number;
	readonly #kept: number[] = [];
	/** Of what can carry no xattr and had a kernel handle, by the names of their ids; filled where an upper was copied. */
	readonly #births = new Map<string, Birth>();
	/** Of directories, by their ids in hex. */
	readonly #places = new RecentMap<string, DirectoryPlace>(NAMES_MAX);

	/**
	 * - `own`: a descriptor of `work/holdfast`.
	 * - `xattrs`: names of the xattr that holds an id, and of the one by which an index entry names its directory.
	 * - `fileSystem`: its name.
	 */
	constructor(root: number, own: number, xattrs: { readonly identity: string; readonly upper: string }, fileSystem: string) {
		this.#root = root;
		this.#xattr = xattrs.identity;
		this.#entryXattr = xattrs.upper;
		this.#hasHandles = hasLastingHandles(fileSystem);
		fstat(root, this.#rootStat);
		this.#files = openFolder(own, FILES);
		this.#directories = openFolder(own, DIRECTORIES);
		this.#inodes = openFolder(own, INODES);
	}

	close(): void {
		close(this.#files);
		close(this.#directories);
		close(this.#inodes);
		for (const fd of this.#kept.splice(0)) close(fd);
	}

	/** -ENODATA: it has none. */
	of(fd: number): FileHandle | number {
		const known = this.#carriedBy(fd);
		// one that was copied along with its inode says nothing
		if (typeof known !== "number") return known.isDirectory ? known.id : this.#ifLeadsHere(known.id, fd);
		if (known !== -ENODATA) return known;
		const status = fstat(fd, scratch);
		if (status < 0) return status;
		if (scratch.sameInode(this.#rootStat)) return UPPER_ROOT;
		if (scratch.type === DIRECTORY) return this.#entryId(fd);
		if (scratch.type === REGULAR) return -ENODATA;
		const noted = this.#notedOf(fd);
		return typeof noted === "number" ? noted : this.#ifLeadsHere(noted.id, fd);
	}

	/** The id of an inode where its link is this inode; -ENODATA where it is not. */
	#ifLeadsHere(id: FileHandle, fd: number): FileHandle | number {
		const leads = this.#leadsHere(keyOf(id), fd);
		return leads < 0 ? leads : leads === 0 ? -ENODATA : id;
	}

	at(directory: number, name: PathBytes): FileHandle | number {
		return idOfName(this, directory, name);
	}

	child(_parent: FileHandle, directory: number, name: Uint8Array): FileHandle | number {
		return this.at(directory, name);
	}

	open(handle: FileHandle, flags: number): number {
		if (handle.type === PORTABLE.directory) return this.#openDirectory(handle, flags);
		if (handle.type === PORTABLE.path || handle.type === PORTABLE.entry) return -ERRNO.ESTALE;
		const fd = this.#openFile(handle, flags);
		// of an inode that had a kernel handle before `holdfast rebind` the id does not say what it is
		return fd === -ERRNO.ESTALE && handle.type !== PORTABLE.file ? this.#openDirectory(handle, flags) : fd;
	}

	birthOf(handle: FileHandle): Birth | null {
		if (handle.type === PORTABLE.file || handle.type === PORTABLE.directory) return null;
		const fd = this.open(handle, O.path | O.nofollow);
		if (fd < 0) return null;
		let known: Noted | number = this.#carriedBy(fd);
		if (known === -ENODATA) {
			const status = fstat(fd, scratch);
			known = status < 0 ? status : scratch.type === DIRECTORY ? -ENODATA : this.#notedOf(fd);
		}
		close(fd);
		if (known === -ENODATA) return null;
		return must(known, UNREAD).birth;
	}

	layerInHome(): null {
		return null;
	}

	trail(): null {
		return null;
	}

	ancestry(): null {
		return null;
	}

	takeOpened(): null {
		return null;
	}

	/** Has an inode keep the kernel handle by which clients know it, as its id, and what its file id is made of. 0, or the negated error number. */
	adoptHandle(fd: number, id: FileHandle, isDirectory: boolean, birth: Birth): number {
		const value = Buffer.alloc(REBOUND_BYTES + id.bytes.length);
		value[0] = REBOUND;
		value[1] = isDirectory ? 1 : 0;
		value[2] = id.type;
		value.writeUInt16BE(birth.space, 3);
		value.writeUInt32BE(birth.inoHi, 5);
		value.writeUInt32BE(birth.inoLo, 9);
		value.set(id.bytes, REBOUND_BYTES);
		return this.#carry(fd, id, isDirectory, value, birth);
	}

	/** Has an inode carry an id, or notes it where it can carry none; a file gets the link by which it is found. 0, or the negated error number. */
	#carry(fd: number, id: FileHandle, isDirectory: boolean, value: Buffer, birth: Birth | null): number {
		let status = setXattr(fd, this.#xattr, value);
		if (isDirectory) return status;
		if (status === -ERRNO.EPERM) status = this.#noteInode(fd, id, birth);
		if (status < 0) return status;
		const linked = linkDescriptor(fd, this.#files, keyOf(id));
		if (linked !== -ERRNO.EEXIST) return linked;
		const leads = this.#leadsHere(keyOf(id), fd);
		return leads < 0 ? leads : leads === 1 ? 0 : linked;
	}

	/** What the xattr of an inode says, or the negated error number: -ENODATA where it has none. */
	#carriedBy(fd: number): Carried | number {
		const value = getXattr(fd, this.#xattr);
		if (typeof value === "number") return isNoXattr(value, this.#xattr) ? -ENODATA : value;
		if (value.length === HASH_BYTES + 1 && (value[0] === PORTABLE.file || value[0] === PORTABLE.directory)) {
			return { id: { type: value[0], bytes: value.subarray(1) }, isDirectory: value[0] === PORTABLE.directory, birth: null };
		}
		// the root carries 16 random bytes, which are no id
		if (value.length < REBOUND_BYTES + KERNEL_ID_BYTES_MIN || value[0] !== REBOUND) return -ENODATA;
		return {
			id: { type: value[2], bytes: value.subarray(REBOUND_BYTES) },
			isDirectory: value[1] === 1,
			birth: { space: value.readUInt16BE(3), inoHi: value.readUInt32BE(5), inoLo: value.readUInt32BE(9) },
		};
	}

	openOn(_mount: number, handle: FileHandle, flags: number): number {
		return this.open(handle, flags);
	}

	/** `Layer.stat` has done it. */
	countNames(): void {}

	/** A new id, of what is still to be made. */
	newId(isDirectory: boolean): FileHandle {
		return { type: isDirectory ? PORTABLE.directory : PORTABLE.file, bytes: randomBytes(HASH_BYTES) };
	}

	/** Gives an inode its id, and a file the link by which it is found; a directory has to be placed too. 0, or the negated error number. */
	assign(fd: number, id: FileHandle): number {
		return this.#carry(fd, id, id.type === PORTABLE.directory, Buffer.concat([Buffer.of(id.type), id.bytes]), null);
	}

	/** Notes where a directory is. 0, or the negated error number. */
	place(id: FileHandle, above: FileHandle, name: Uint8Array | string): number {
		const key = keyOf(id);
		const place = { above: keyOf(above), name: Buffer.from(name as string) };
		const status = writeRecord(this.#directories, key, encodePlace(place));
		if (status === 0) this.#places.set(key, place);
		return status;
	}

	/** The same, with what was noted before kept aside: `placeBack` then needs no room. `settlePlace` ends that. */
	placeAnew(id: FileHandle, above: FileHandle, name: Uint8Array | string): number {
		const key = keyOf(id);
		const aside = asideName(key);
		const written = writeAside(this.#directories, key, encodePlace({ above: keyOf(above), name: Buffer.from(name as string) }));
		if (written < 0) return written;
		const status = renameName(this.#directories, aside, this.#directories, key, RENAME.exchange);
		if (status === -ERRNO.ENOENT) return renameName(this.#directories, aside, this.#directories, key);
		this.#places.delete(key);
		if (status < 0) unlinkName(this.#directories, aside);
		return status;
	}

	placeBack(id: FileHandle): number {
		const key = keyOf(id);
		this.#places.delete(key);
		return renameName(this.#directories, asideName(key), this.#directories, key, RENAME.exchange);
	}

	settlePlace(id: FileHandle): void {
		unlinkName(this.#directories, asideName(keyOf(id)));
	}

	/** Notes by their inodes as they are now the ids of what can carry none: numbers are others where an upper was copied to. */
	noteInodes(): void {
		this.#readBirths();
		this.#visitBare((fd, id, key) => this.#noteInode(fd, id, this.#births.get(key) ?? null));
	}

	/** Visits the files that can carry no id: a descriptor that is closed afterwards, with attributes in `scratch`, the id, and its name in `ids`. */
	#visitBare(visit: (fd: number, id: FileHandle, key: string) => void): void {
		for (const name of listFolder(this.#files, FILES)) {
			const key = name.toString("latin1");
			const id = idOfKey(key);
			const fd = id === null ? -1 : openAt(this.#files, name, O.path | O.nofollow);
			if (id === null || fd === -ERRNO.ENOENT) continue;
			must(fd, `Cannot open ${FILES}/${key} of work/holdfast`);
			try {
				must(fstat(fd, scratch), "Cannot read an object of upper");
				const isPlain = scratch.type === REGULAR || scratch.type === DIRECTORY;
				if (!isPlain && xattrOrNone(fd, this.#xattr, UNREAD) === null) visit(fd, id, key);
			} finally {
				close(fd);
			}
		}
	}

	/** Whether an inode has an id with it, wherever that leads. */
	isCarried(fd: number): boolean {
		return this.#carriedOrNone(fd) !== null;
	}

	/** OverlayError where it cannot be read. */
	#carriedOrNone(fd: number): Carried | null {
		const known = this.#carriedBy(fd);
		return known === -ENODATA ? null : must(known, UNREAD);
	}

	/** As `of`; null: it has none. OverlayError where that cannot be read. */
	idOrNone(fd: number): FileHandle | null {
		const id = this.of(fd);
		return id === -ENODATA ? null : must(id, UNREAD);
	}

	/** Sees to it that the id of a file leads to it. */
	linkAgain(fd: number): "kept" | "linked" | "lost" {
		if (this.idOrNone(fd) !== null) return "kept";
		const known = this.#carriedOrNone(fd);
		if (known === null || known.isDirectory) return "lost";
		return this.#linkInstead(fd, keyOf(known.id)) < 0 ? "lost" : "linked";
	}

	/** Notes again the id of an inode that can carry none, by the link that leads to it. 0, or the negated error number: -ENOENT where no note can be made of that. */
	noteAgain(fd: number): number {
		const status = fstat(fd, scratch);
		if (status < 0) return status;
		const name = listFolder(this.#files, FILES).find((one) => statAt(this.#files, one, linkStat) === 0 && linkStat.sameInode(scratch));
		const key = name?.toString("latin1") ?? "";
		// what the file id of one with a kernel handle was made of is known to the note alone
		const id = PLAIN_KEY.test(key) ? idOfKey(key) : null;
		return id === null ? -ERRNO.ENOENT : this.#noteInode(fd, id);
	}

	/** Gives an inode that can carry no id the id of a file that was a copy of it. 0, or the negated error number. */
	linkLost(fd: number, id: FileHandle): number {
		const noted = this.#noteInode(fd, id, this.#births.get(keyOf(id)) ?? null);
		return noted < 0 ? noted : this.#linkInstead(fd, keyOf(id));
	}

	/** Ids of inodes that can carry none, without the known ones, with what the inodes look like (`lookOf`). */
	others(known: ReadonlySet<string>): { readonly id: FileHandle; readonly look: string }[] {
		const found: { readonly id: FileHandle; readonly look: string }[] = [];
		this.#visitBare((fd, id, key) => {
			if (!known.has(key)) found.push({ id, look: lookOf(fd, scratch) });
		});
		return found;
	}

	/**
	 * Notes by the inode what id it carries, for the time when nothing leads there: a copy that somebody makes of the inode then, with its xattrs,
	 * is told from it (`takeNoted`). 0, or the negated error number.
	 */
	noteCarried(fd: number): number {
		const known = this.#carriedBy(fd);
		if (typeof known === "number") return known === -ENODATA ? 0 : known;
		const leads = known.isDirectory ? 1 : this.#leadsHere(keyOf(known.id), fd);
		if (leads !== 1) return leads;
		return this.#noteInode(fd, known.id, known.birth);
	}

	/** All that carry an id are noted. 0, or the negated error number. */
	endNotes(): number {
		return writeRecord(this.#inodes, ALL_NOTED, Buffer.from(ALL_NOTED));
	}

	get hasNotes(): boolean {
		return recordOrNone(this.#inodes, ALL_NOTED, (text) => text === ALL_NOTED) !== null;
	}

	/** Has the id that an inode carries lead to it again where it is noted of this inode, and takes it from it else. 0, or the negated error number. */
	takeNoted(fd: number): number {
		const known = this.#carriedBy(fd);
		if (typeof known === "number") return known === -ENODATA ? 0 : known;
		const status = fstat(fd, scratch);
		if (status < 0) return status;
		const noted = this.#notedOf(fd);
		if (typeof noted === "number" && noted !== -ENODATA) return noted;
		if (typeof noted === "number" || keyOf(noted.id) !== keyOf(known.id)) return removeXattr(fd, this.#xattr);
		const leads = known.isDirectory ? 1 : this.#leadsHere(keyOf(known.id), fd);
		return leads < 0 ? leads : leads === 1 ? 0 : this.#linkInstead(fd, keyOf(known.id));
	}

	/** For who has none of what `noteCarried` noted: has the id that a file carries lead to it, where it leads nowhere. */
	linkFree(fd: number): void {
		const known = this.#carriedOrNone(fd);
		if (known === null || known.isDirectory) return;
		const status = linkDescriptor(fd, this.#files, keyOf(known.id));
		if (status !== -ERRNO.EEXIST) must(status, "Cannot link an object of upper");
	}

	forgetNotes(): void {
		unlinkName(this.#inodes, ALL_NOTED);
		for (const name of listFolder(this.#inodes, INODES)) unlinkName(this.#inodes, name);
	}

	/** Removes all links that lead to files: inodes go on carrying their ids. 0, or the negated error number. */
	unlinkFiles(): number {
		for (const name of listFolder(this.#files, FILES)) {
			const status = unlinkName(this.#files, name);
			if (status < 0) return status;
		}
		return 0;
	}

	#linkInstead(fd: number, name: string): number {
		const aside = asideName(name);
		unlinkName(this.#files, aside);
		const linked = linkDescriptor(fd, this.#files, aside);
		return linked < 0 ? linked : renameName(this.#files, aside, this.#files, name);
	}

	/** Closed with this. */
	keep(fd: number): void {
		this.#kept.push(fd);
	}

	/** The inode is gone, or has lost its last name. */
	forget(id: FileHandle): void {
		const key = keyOf(id);
		if (id.type !== PORTABLE.file) {
			this.#forgetPlace(key);
			if (id.type === PORTABLE.directory) return;
		}
		const fd = openAt(this.#files, key, O.path | O.nofollow);
		if (fd < 0) return;
		unlinkName(this.#files, key);
		if (fstat(fd, scratch) === 0 && scratch.type !== REGULAR) this.#forgetInode(fd);
		close(fd);
	}

	/** An inode loses its name in work, which is the last one where it was built there; as far as a crash let it come to an id it is to have none. */
	forgetBuilt(fd: number): void {
		if (fstat(fd, scratch) < 0) return;
		const { type, nlink } = scratch;
		const carried = this.#carriedBy(fd);
		if (type === DIRECTORY) {
			if (typeof carried !== "number" && carried.isDirectory) this.#forgetPlace(keyOf(carried.id));
			return;
		}
		// a further name of an object that lives
		if (nlink > 2) return;
		const known = carried === -ENODATA && type !== REGULAR ? this.#notedOf(fd) : carried;
		// what cannot be read stays: a link too many does no harm
		if (typeof known === "number" && known !== -ENODATA) return;
		const key = typeof known === "number" ? null : keyOf(known.id);
		if (key !== null && this.#leadsHere(key, fd) === 1) unlinkName(this.#files, key);
		else if (nlink === 2) return;
		if (type !== REGULAR) this.#forgetInode(fd);
	}

	#forgetPlace(key: string): void {
		this.#places.delete(key);
		unlinkName(this.#directories, key);
		unlinkName(this.#directories, asideName(key));
	}

	/** `scratch`: its attributes. */
	#forgetInode(fd: number): void {
		const name = this.#inodeName(fd, scratch);
		// a note too many is not believed
		if (typeof name === "number") return;
		unlinkName(this.#inodes, name);
		unlinkName(this.#inodes, asideName(name));
	}

	/** Whether the link of an id is this inode: 1 or 0, or the negated error number. */
	#leadsHere(key: string, fd: number): number {
		const status = statAt(this.#files, key, linkStat);
		if (status < 0) return status === -ERRNO.ENOENT ? 0 : status;
		const own = fstat(fd, scratch);
		return own < 0 ? own : linkStat.sameInode(scratch) ? 1 : 0;
	}

	#entryId(fd: number): FileHandle | number {
		const value = getXattr(fd, this.#entryXattr);
		if (typeof value === "number") return isNoXattr(value, this.#entryXattr) ? -ENODATA : value;
		return { type: PORTABLE.entry, bytes: value };
	}

	#openFile(id: FileHandle, flags: number): number {
		const name = keyOf(id);
		const fd = openAt(this.#files, name, flags | O.nofollow);
		if (fd < 0) return fd === -ERRNO.ENOENT ? -ERRNO.ESTALE : fd;
		// nothing but this link is left of it
		const status = fstat(fd, scratch);
		if (status === 0 && scratch.nlink > 1) return fd;
		close(fd);
		return status < 0 ? status : -ERRNO.ESTALE;
	}

	#openDirectory(id: FileHandle, flags: number): number {
		if (id.bytes.equals(ROOT_BYTES)) return openAt(this.#root, ".", flags & ~O.nofollow);
		const fd = this.#openPlace(id, flags, true);
		// what is remembered may be older than a recovery
		return fd === -ERRNO.ESTALE ? this.#openPlace(id, flags, false) : fd;
	}

	#openPlace(id: FileHandle, flags: number, mayRemember: boolean): number {
		const names: Buffer[] = [];
		const rootKey = ROOT_BYTES.toString("hex");
		let above = 0;
		for (let key = keyOf(id); key !== rootKey; above++) {
			const place = (mayRemember ? this.#places.get(key) : undefined) ?? this.#readPlace(key);
			if (typeof place === "number") return place;
			// records that lead round were not written by us
			if (above > NAMES_MAX) return -ERRNO.ESTALE;
			names.push(place.name);
			key = place.above;
		}
		const fd = openNames(this.#root, names.reverse(), flags);
		if (fd < 0) return PATH_GONE.has(-fd) ? -ERRNO.ESTALE : fd;
		const known = this.#carriedBy(fd);
		if (typeof known !== "number" && known.isDirectory && keyOf(known.id) === keyOf(id)) return fd;
		close(fd);
		return typeof known === "number" && known !== -ENODATA ? known : -ERRNO.ESTALE;
	}

	/** -ESTALE: there is none. */
	#readPlace(key: string): DirectoryPlace | number {
		const value = readRecord(this.#directories, key);
		if (typeof value === "number") return value === -ERRNO.ENOENT ? -ERRNO.ESTALE : value;
		const slash = value.indexOf(0x2f);
		const place = { above: value.toString("latin1", 0, Math.max(0, slash)), name: value.subarray(slash + 1) };
		const isWhole = (PLAIN_KEY.test(place.above) || KERNEL_KEY.test(place.above)) && place.name.length > 0 && !place.name.includes(0x2f);
		if (!isWhole) return damagedRecord(this.#directories, key);
		this.#places.set(key, place);
		return place;
	}

	/** What is noted of an inode that can carry nothing, or the negated error number: -ENODATA for nothing; `scratch`: its attributes. */
	#notedOf(fd: number): Noted | number {
		const name = this.#inodeName(fd, scratch);
		const noted = typeof name === "number" ? name : this.#readNote(name);
		return noted === -ERRNO.ENOENT ? -ENODATA : noted;
	}

	#readNote(name: string): Noted | number {
		const value = readRecord(this.#inodes, name);
		if (typeof value === "number") return value;
		const [key, ...rest] = value.toString("latin1").split(":");
		const [id, birth] = [idOfKey(key), rest.length === 0 ? null : birthOf(rest)];
		if (id === null || (birth === null && rest.length > 0)) return damagedRecord(this.#inodes, name);
		return { id, birth };
	}

	#readBirths(): void {
		for (const name of listFolder(this.#inodes, INODES).map((name) => name.toString("latin1"))) {
			if (name === ALL_NOTED || name.endsWith(".new")) continue;
			const { id, birth } = must(this.#readNote(name), "Cannot read the note of an inode");
			if (birth !== null) this.#births.set(keyOf(id), birth);
		}
	}

	/** A kernel handle has the generation of the inode in it; it is only compared, which needs no privilege. */
	#inodeName(fd: number, stat: Stat): string | number {
		const handle = this.#hasHandles ? handleOf(fd) : -ERRNO.ENOTSUP;
		if (typeof handle === "number" && !NO_HANDLES.has(handle)) return handle;
		if (typeof handle === "number") return `${stat.inoHi.toString(16)}-${stat.inoLo.toString(16)}`;
		return `${handle.type}-${handle.bytes.toString("hex")}`;
	}

	#noteInode(fd: number, id: FileHandle, birth: Birth | null = null): number {
		const status = fstat(fd, scratch);
		if (status < 0) return status;
		const end = birth === null ? "" : `:${birth.space}:${birth.inoHi}:${birth.inoLo}`;
		const name = this.#inodeName(fd, scratch);
		return typeof name === "number" ? name : writeRecord(this.#inodes, name, Buffer.from(keyOf(id) + end));
	}
}

/** Errors of name_to_handle_at(2) that say that this file system, or a process without privilege, gets none. */
const NO_HANDLES: ReadonlySet<number> = new Set([
	-ERRNO.EOPNOTSUPP,
	-ERRNO.ENOTSUP,
	-ERRNO.ENOSYS,
	-ERRNO.EPERM,
	-ERRNO.EACCES,
	-ERRNO.EOVERFLOW,
]);

/** First byte of the xattr of an inode that had a kernel handle: then whether it is a directory, type, space (2), inode number (8), bytes of the handle. */
const REBOUND = 0xe5;
const REBOUND_BYTES = 13;
/** Shorter handles no file system gives. */
const KERNEL_ID_BYTES_MIN = 8;

/** What is known of an inode: its id, and what its file id was made of. */
interface Noted {
	readonly id: FileHandle;
	readonly birth: Birth | null;
}

interface Carried extends Noted {
	readonly isDirectory: boolean;
}

/** The id that has this name in the folders of work, of anything but a directory; null: it is none. */
function idOfKey(key: string): FileHandle | null {
	if (PLAIN_KEY.test(key)) return { type: PORTABLE.file, bytes: Buffer.from(key, "hex") };
	if (!KERNEL_KEY.test(key)) return null;
	return { type: Number.parseInt(key.slice(1, 3), 16), bytes: Buffer.from(key.slice(3), "hex") };
}

const KERNEL_KEY = /^k[0-9a-f]{2}(?:[0-9a-f]{2})+$/;

function birthOf(numbers: readonly string[]): Birth | null {
	const [space, inoHi, inoLo] = numbers.map(Number);
	return numbers.length === 3 && [space, inoHi, inoLo].every(Number.isInteger) ? { space, inoHi, inoLo } : null;
}

/** The name of an id in the folders of work. */
export function keyOf({ type, bytes }: FileHandle): string {
	const hex = bytes.toString("hex");
	return type === PORTABLE.file || type === PORTABLE.directory ? hex : `k${type.toString(16).padStart(2, "0")}${hex}`;
}

/** Of what was made with portable ids. */
const PLAIN_KEY = /^[0-9a-f]{32}$/;

const scratch = new Stat();
const linkStat = new Stat();

/** Two copies of one inode look alike, and hardly two others: the time is in nanoseconds. */
export function lookOf(fd: number, stat: Stat): string {
	const target =
		stat.type === SYMLINK
			? must(readLinkAt(fd, ""), "Cannot read a symlink of upper").toString("hex")
			: `${stat.rdevMajor}:${stat.rdevMinor}`;
	return `${stat.mode}:${stat.mtimeSec}.${stat.mtimeNsec}:${target}`;
}

function listFolder(folder: number, name: string): Buffer[] {
	const names = namesOf(folder);
	if (typeof names === "number") throw new LayerError(`Cannot read the folder ${name} of work/holdfast: ${whyNot(names)}.`);
	return names;
}

function openFolder(own: number, name: string): number {
	const status = makeDirectory(own, name, 0o700);
	const fd = status < 0 && status !== -ERRNO.EEXIST ? status : openAt(own, name, O.rdonly | O.directory | O.nofollow);
	if (fd < 0) throw new LayerError(`Cannot use work/holdfast/${name}: ${whyNot(fd)}.`);
	return fd;
}
