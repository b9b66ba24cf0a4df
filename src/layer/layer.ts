// Opens layers: their private mounts, their file systems, and the refusals of what cannot be served.

import { readFileSync } from "node:fs";
import { openNamedDirectory } from "../linux/covered-directories.ts";
import { ENODATA, ERRNO, errnoName, whyNot } from "../linux/errno.ts";
import { type FileHandle, handleOf, openByHandle } from "../linux/file-handle.ts";
import { FILE_SYSTEM_NAMES, fileSystemFigures, fileSystemUuid, openPrivateTree } from "../linux/file-system.ts";
import type { PathBytes } from "../linux/libc.ts";
import { mountOf, openWholeFileSystem } from "../linux/mount-table.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { fstat, mountId, STATX_ATTR, Stat, statAt } from "../linux/stat.ts";
import { listXattrs } from "../linux/xattr.ts";
import { CASEFOLD_REASON, isCasefolded, mayCasefold } from "./casefold.ts";
import { type HandleProvider, KernelHandles } from "./handle-provider.ts";
import { concealedKey, type Hiding, TRUSTED_HIDING, USER_HIDING } from "./hiding.ts";
import { LayerError, UnfitError } from "./layer-error.ts";
import { checkOverlayLower } from "./overlay-lower.ts";
import { LOWER_ROOT } from "./portable-id.ts";
import { PortableLower } from "./portable-lower.ts";
import { UPPER_ROOT } from "./portable-upper.ts";
import { REAL_RIGHTS, type Rights } from "./rights.ts";
import { isMadeUp, whyUnfit } from "./unfit-file-system.ts";

export { LayerError, UnfitError } from "./layer-error.ts";

/** Where the ids of an export come from: see `HandleProvider`. */
export type HandleKind = "kernel" | "portable";

/** S_IFDIR >> 12. */
const DIRECTORY = 4;

/** File systems whose handles carry a generation number, so that an inode number used again is no longer the same handle. */
const WITH_GENERATIONS = new Set(["ext4", "xfs", "btrfs", "tmpfs", "f2fs"]);

/** A file system that layers of the stack lie on. */
export interface FileSystem {
	/** Position among the file systems of this stack, of this run only. */
	readonly number: number;
	readonly name: string;
	/** 16 bytes; all zero where it has none. With portable ids every layer counts as one, with an id that the registry gives it. */
	uuid: Buffer;
	/** Equal for two layers exactly if they lie on the same file system. */
	readonly device: string;
	/** Its directories may ignore the case of names: see `isCasefolded`. */
	readonly mayCasefold: boolean;
}

/** Longest kernel handle that fits into a handle on the wire (`ID_BYTES_MAX` of `handle/wire-handle.ts`, which this room does not know). */
export const KERNEL_HANDLE_BYTES_MAX = 44;

/** One real tree of the stack. */
export class Layer {
	/** As the user gave it: for messages only. */
	readonly path: string;
	readonly isUpper: boolean;
	/** A readable descriptor of the root; a lower's belongs to a private read-only mount. Also the mount for open_by_handle_at(2). */
	readonly root: number;
	/**
	 * A descriptor of the root on the mount that the user named (of upper: on the one it shares with work): ".." can be followed from objects that were opened through it.
	 * Through the private mount of one layer the kernel refuses that (ENOENT) for what lies in another layer of the file system.
	 */
	readonly outside: number;
	readonly rootStat: Stat;
	readonly rootHandle: FileHandle;
	fileSystem: FileSystem;
	readonly xattr: OverlayXattrs;
	/** Names its objects, and finds them again. */
	handles: HandleProvider;
	/** How owners and modes of its objects are kept. */
	rights: Rights = REAL_RIGHTS;
	/** How it says what it hides of the layers below. */
	hiding: Hiding;
	/** Directories in it that are shown to nobody, by their inodes (`concealedKey`): what is kept for this very export. Null: it has none. */
	concealed: ReadonlySet<string> | null = null;
	/** It is the whole tree that this process sees, `/`. */
	readonly isWholeTree: boolean;
	/** Set once the registry is known: the home of what is born here, and the number of its inode space. */
	home = 0;
	space = 0;
	/** A lower that once was an upper, and whose redirects are known: they may be followed. */
	isAdopted = false;
	/** Told of each object that is about to be opened by its handle. May throw, to have it opened later. */
	beforeOpen: ((handle: FileHandle) => void) | null = null;
	/** Regular files of it may have their data in another layer. */
	mayHoldMetacopies = false;

	constructor(
		fields: Pick<Layer, "path" | "isUpper" | "root" | "outside" | "rootStat" | "rootHandle" | "fileSystem" | "xattr" | "handles">,
	) {
		const { path, isUpper, root, outside, rootStat, rootHandle, fileSystem, xattr, handles } = fields;
		this.path = path;
		this.isUpper = isUpper;
		this.root = root;
		this.outside = outside;
		this.rootStat = rootStat;
		this.rootHandle = rootHandle;
		this.fileSystem = fileSystem;
		this.xattr = xattr;
		this.hiding = xattr === USER_XATTRS ? USER_HIDING : TRUSTED_HIDING;
		this.isWholeTree = !isUpper && isTopOfAll(rootStat);
		this.handles = handles;
	}

	close(): void {
		if (!this.isUpper) this.handles.close();
		close(this.root);
		close(this.outside);
	}

	isRoot(stat: Stat): boolean {
		return stat.sameInode(this.rootStat);
	}

	isConcealed({ type, inoHi, inoLo }: Stat): boolean {
		return this.concealed !== null && type === DIRECTORY && this.concealed.has(concealedKey(inoHi, inoLo));
	}

	/** Every inode of erofs says that it is immutable, which is of the image and not of what a copy may be. */
	#forgiveImage(stat: Stat): void {
		if (this.fileSystem.name === "erofs") stat.attributes &= ~STATX_ATTR.immutable;
	}

	/** Attributes of a real object by a descriptor, in upper with the links that are names of it (of a lower `HandleProvider.countNames` says it). 0, or the negated error number. */
	stat(fd: number, out: Stat): number {
		const status = fstat(fd, out);
		if (this.handles.isPortable && status === 0) {
			this.#countNames(out);
			this.#forgiveImage(out);
			this.rights.show(fd, out);
		} else if (this.rights.isKept && status === 0) this.rights.show(fd, out);
		return status;
	}

	/** As `stat`, of what `handles.open` has just opened. */
	statOpened(fd: number): Stat | number {
		const opened = this.handles.takeOpened(fd);
		if (opened === null) {
			const stat = new Stat();
			const status = this.stat(fd, stat);
			return status < 0 ? status : stat;
		}
		this.#forgiveImage(opened);
		this.rights.show(fd, opened);
		return opened;
	}

	/** As `stat`, of a name in a directory. */
	statAt(directory: number, name: PathBytes, out: Stat): number {
		const status = statAt(directory, name, out);
		if (this.handles.isPortable && status === 0) {
			this.#countNames(out);
			this.#forgiveImage(out);
			this.rights.showAt(directory, name, out);
		} else if (this.rights.isKept && status === 0) this.rights.showAt(directory, name, out);
		return status;
	}

	/** By portable ids a file of upper has a link by which it is found, which is no name. */
	#countNames(stat: Stat): void {
		if (this.isUpper && stat.type !== DIRECTORY) stat.nlink--;
	}
}

function isTopOfAll(stat: Stat): boolean {
	const top = new Stat();
	const fd = openPath("/", O.path | O.directory);
	if (fd < 0) return false;
	const status = fstat(fd, top);
	close(fd);
	return status === 0 && top.sameInode(stat);
}

/** Opens layers one after another and knows the file systems among them. */
export class LayerOpener {
	readonly #xattr: OverlayXattrs;
	readonly #kind: HandleKind;
	readonly #fileSystems: { readonly fileSystem: FileSystem; readonly device: string; readonly path: string }[] = [];

	constructor(xattr: OverlayXattrs = TRUSTED_XATTRS, kind: HandleKind = "kernel") {
		this.#xattr = xattr;
		this.#kind = kind;
	}

	/** Opens a lower's root through a private read-only mount. LayerError when kernel handles cannot be trusted on its file system. */
	openLower(path: string): Layer {
		if (this.#kind === "portable") return this.#openPortable(path, "lower", openDirectory(path, "lower"));
		return this.#open(path, "lower", openDirectory(path, "lower"), (directory) => privateTree(directory, path, true));
	}

	/** Opens the upper, whose root is `directory`, on the private mount that it shares with its work folder. Takes the descriptor over. */
	openUpper(path: string, directory: number): Layer {
		if (this.#kind === "portable") return this.#openPortable(path, "upper", directory);
		return this.#open(path, "upper", directory, () => openAt(directory, ".", O.rdonly | O.directory));
	}

	#open(path: string, role: "lower" | "upper", directory: number, openRoot: (directory: number) => number): Layer {
		let isKept = false;
		try {
			const fileSystem = this.#recognise(directory, path, role);
			const root = openRoot(directory);
			if (root < 0) throw new LayerError(`Cannot open the ${role} ${path}: ${openFailure(root, path)}.`);
			const stat = new Stat();
			fstat(root, stat);
			const handle = handleOf(root);
			if (typeof handle === "number") {
				close(root);
				throw new UnfitError(
					`Cannot serve the ${role} ${path}: its file system (${fileSystem.name}) gives no file handles (${errnoName(handle)})`,
					"Portable handles (--handles portable) need none.",
				);
			}
			try {
				checkHandles(root, handle, path, role);
				if (fileSystem.mayCasefold && isCasefolded(root)) throw new LayerError(`Cannot serve the ${role} ${path}: ${CASEFOLD_REASON}.`);
			} catch (error) {
				close(root);
				throw error;
			}
			isKept = true;
			const xattr = this.#xattr;
			return new Layer({
				path,
				isUpper: role === "upper",
				root,
				outside: directory,
				rootStat: stat,
				rootHandle: handle,
				fileSystem,
				xattr,
				handles: new KernelHandles(root),
			});
		} finally {
			if (!isKept) close(directory);
		}
	}

	/** By portable ids: of any file system, and without a private mount where that takes a privilege that is not there. */
	#openPortable(path: string, role: "lower" | "upper", directory: number): Layer {
		let root = -1;
		try {
			const figures = fileSystemFigures(directory);
			if (typeof figures === "number") throw new LayerError(`Cannot ask for the file system of ${path}: ${whyNot(figures, path)}.`);
			const name = FILE_SYSTEM_NAMES.get(figures.magic) ?? `type 0x${figures.magic.toString(16)}`;
			if (isMadeUp(name)) throw unfit(path, role, name, name);
			root = role === "lower" ? openPrivateTree(directory, true) : -ERRNO.EPERM;
			if (root < 0) root = openAt(directory, ".", O.rdonly | O.directory);
			if (root < 0) throw new LayerError(`Cannot open the ${role} ${path}: ${openFailure(root, path)}.`);
			const stat = new Stat();
			fstat(root, stat);
			const device = name === "btrfs" ? btrfsDevice(directory) : `${stat.devMajor}:${stat.devMinor}`;
			const fileSystem = {
				number: this.#fileSystems.length,
				name,
				uuid: Buffer.alloc(16),
				mayCasefold: mayCasefold(directory, name),
				device,
			};
			if (fileSystem.mayCasefold && isCasefolded(root)) throw new LayerError(`Cannot serve the ${role} ${path}: ${CASEFOLD_REASON}.`);
			this.#fileSystems.push({ fileSystem, device, path });
			const isUpper = role === "upper";
			return new Layer({
				path,
				isUpper,
				root,
				outside: directory,
				rootStat: stat,
				rootHandle: isUpper ? UPPER_ROOT : LOWER_ROOT,
				fileSystem,
				xattr: this.#xattr,
				// an upper's follows when its work folder is open
				handles: new PortableLower(root),
			});
		} catch (error) {
			if (root >= 0) close(root);
			close(directory);
			throw error;
		}
	}

	#recognise(directory: number, path: string, role: "lower" | "upper"): FileSystem {
		const figures = fileSystemFigures(directory);
		if (typeof figures === "number") throw new LayerError(`Cannot ask for the file system of ${path}: ${whyNot(figures, path)}.`);
		const name = FILE_SYSTEM_NAMES.get(figures.magic) ?? `type 0x${figures.magic.toString(16)}`;
		if (name === "overlay" && role === "lower") checkOverlayLower(directory, path);
		else if (!WITH_GENERATIONS.has(name)) {
			throw unfit(path, role, name, mountOf(directory)?.type ?? name);
		}
		const stat = new Stat();
		fstat(directory, stat);
		const uuid = fileSystemUuid(directory, name);
		if (typeof uuid === "number") {
			throw new UnfitError(`Cannot read the uuid of the file system (${name}) of ${path}: ${whyNot(uuid)}`);
		}
		if (name === "overlay" && uuid.every((byte) => byte === 0)) {
			throw new UnfitError(
				`Cannot recognise the overlay of ${path} again: it has no uuid`,
				"Mount it once with uuid=on, which keeps one on its upper (Linux 6.9 or newer), or name its layers instead.",
			);
		}
		if (name === "btrfs" && hasTemporaryId(uuid)) {
			throw new UnfitError(
				`Cannot recognise the file system (btrfs) of ${path} again: it is mounted under a temporary id, because a clone of it is mounted too`,
				"Unmount the clone and mount it again, or give one of the two an id of its own (btrfstune -u).",
			);
		}
		// subvolumes of one btrfs have a device number each, but one uuid and one space of handles
		const device = name === "btrfs" ? btrfsDevice(directory) : `${stat.devMajor}:${stat.devMinor}`;
		const known = this.#fileSystems.find((other) => other.device === device);
		if (known !== undefined) return known.fileSystem;
		const twin = this.#fileSystems.find((other) => other.fileSystem.uuid.equals(uuid));
		if (twin !== undefined && uuid.every((byte) => byte === 0)) {
			throw new UnfitError(
				`Cannot tell the file systems of ${twin.path} and ${path} apart: neither has a uuid`,
				"Give them one each (tune2fs -U random).",
			);
		}
		if (twin !== undefined) {
			throw new UnfitError(
				`Cannot tell the file systems of ${twin.path} and ${path} apart: both have the uuid ${uuid.toString("hex")}, and clones ` +
					"give equal handles for different files",
				"Give one of them a new uuid (tune2fs -U random, xfs_admin -U generate, btrfstune -u).",
			);
		}
		const fileSystem = { number: this.#fileSystems.length, name, uuid, mayCasefold: mayCasefold(directory, name), device };
		this.#fileSystems.push({ fileSystem, device, path });
		return fileSystem;
	}
}

/** A readable descriptor of a directory that the user named. LayerError when there is none. */
export function openDirectory(path: string, role: string): number {
	const directory = openNamedDirectory(path);
	if (directory === -ERRNO.ENOENT) throw new LayerError(`Cannot open the ${role} ${path}: there is no such directory.`);
	if (directory === -ERRNO.ENOTDIR) throw new LayerError(`Cannot open the ${role} ${path}: it is not a directory.`);
	if (directory < 0) throw new LayerError(`Cannot open the ${role} ${path}: ${openFailure(directory, path)}.`);
	return directory;
}

function openFailure(error: number, path: string): string {
	if (error !== -ERRNO.EMFILE) return whyNot(error, path);
	return "EMFILE, too many open files. Each layer takes two descriptors, and up to three more while names are looked up; raise the limit (ulimit -Hn)";
}

/** `kind`: the file system's name by its magic number, `name`: what the mount table says. */
function unfit(path: string, role: "lower" | "upper", kind: string, name: string): LayerError {
	const { fact, remedy } = whyUnfit(kind, name, role);
	const problem = `Cannot serve the ${role} ${path}: ${fact}`;
	return isMadeUp(kind) ? new LayerError(`${problem}. ${remedy}`) : new UnfitError(problem, remedy);
}

/** Whether the kernel (6.7 and newer) has given a btrfs another id for this mount than it has on disk. */
function hasTemporaryId(uuid: Buffer): boolean {
	const text = uuid.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
	try {
		return readFileSync(`/sys/fs/btrfs/${text}/temp_fsid`, "latin1").trim() === "1";
	} catch {
		return false;
	}
}

/** Tells two mounted btrfs apart: mounts of subvolumes of one share its superblock, which FS_INFO's answer alone does not show. */
function btrfsDevice(directory: number): string {
	const uuid = fileSystemUuid(directory, "btrfs");
	const general = fileSystemUuid(directory, "any");
	// a clone that is mounted beside its original has another id in memory than on disk
	if (typeof uuid === "number" || typeof general === "number") return "btrfs";
	return `btrfs:${uuid.toString("hex")}:${general.toString("hex")}`;
}

/** Opens a private mount of a directory's tree (`path` is for messages). LayerError says what the kernel wants for it. */
export function privateTree(directory: number, path: string, readOnly: boolean): number {
	const root = openPrivateTree(directory, readOnly);
	if (root === -ERRNO.EPERM) {
		throw new UnfitError(
			`Cannot make a private mount of ${path}: the privilege CAP_SYS_ADMIN is missing`,
			"Run holdfast as root, or with --handles portable.",
		);
	}
	if (root === -ERRNO.ENOSYS) {
		throw new UnfitError(`Cannot make a private mount of ${path}: open_tree(2) and mount_setattr(2) need Linux 5.12 or newer`);
	}
	if (root === -ERRNO.EINVAL) {
		throw new UnfitError(
			`Cannot make a private mount of ${path}: its mount is unbindable or of another mount namespace`,
			"Name it by another mount.",
		);
	}
	return root;
}

function checkHandles(root: number, handle: FileHandle, path: string, role: string): void {
	if (handle.bytes.length > KERNEL_HANDLE_BYTES_MAX) {
		throw new UnfitError(
			`Cannot serve the ${role} ${path}: its file handles have ${handle.bytes.length} bytes, and an NFS handle has room for ` +
				`${KERNEL_HANDLE_BYTES_MAX}`,
			"Portable handles (--handles portable) are shorter.",
		);
	}
	const again = openByHandle(root, handle, O.path);
	if (again >= 0) {
		close(again);
		return;
	}
	if (again === -ERRNO.EPERM) {
		throw new UnfitError(
			`Cannot open objects of the ${role} ${path} by their handles: the privilege CAP_DAC_READ_SEARCH is missing`,
			"Run holdfast as root, or with --handles portable.",
		);
	}
	throw new UnfitError(`Cannot open objects of the ${role} ${path} by their handles: ${whyNot(again)}`);
}

/** Tells inodes of all mounted file systems apart. */
function inodeKey({ devMajor, devMinor, inoHi, inoLo }: Stat): string {
	return `${devMajor}:${devMinor}:${inoHi}:${inoLo}`;
}

/** The layer that a directory lies inside of, as seen on one mount. Undefined when there is none on that mount. */
function layerAbove(roots: ReadonlyMap<string, Layer>, mount: number, inner: Layer): Layer | undefined {
	const stat = new Stat();
	let fd = inner.handles.isPortable ? openAt(inner.outside, ".", O.path) : openByHandle(mount, inner.rootHandle, O.path);
	if (fd < 0) return undefined;
	const id = mountId(fd);
	try {
		fstat(fd, stat);
		for (let below = inodeKey(stat); ; ) {
			const parent = openAt(fd, "..", O.path);
			if (parent < 0) return undefined;
			close(fd);
			fd = parent;
			fstat(fd, stat);
			const key = inodeKey(stat);
			// above its root a mount goes on in another tree, and the top of all is its own parent
			if (mountId(fd) !== id || key === below) return undefined;
			const layer = roots.get(key);
			if (layer !== undefined) return layer;
			below = key;
		}
	} finally {
		close(fd);
	}
}

/** LayerError where one layer lies inside another, or is given twice. */
export function refuseOverlaps(layers: readonly Layer[]): void {
	const roots = new Map<string, Layer>();
	const onFileSystem = new Map<string, Layer[]>();
	for (const layer of layers) {
		const key = inodeKey(layer.rootStat);
		const twin = roots.get(key);
		if (twin !== undefined) throw new LayerError(`Cannot use ${twin.path} and ${layer.path} together: they are the same directory.`);
		roots.set(key, layer);
		const neighbours = onFileSystem.get(layer.fileSystem.device);
		if (neighbours === undefined) onFileSystem.set(layer.fileSystem.device, [layer]);
		else neighbours.push(layer);
	}
	for (const neighbours of onFileSystem.values()) if (neighbours.length > 1) refuseNested(neighbours, roots);
}

function refuseNested(neighbours: readonly Layer[], roots: ReadonlyMap<string, Layer>): void {
	const whole = openWholeFileSystem(neighbours[0].outside);
	try {
		// of bind mounts none need show all layers, so the way up is gone on each of them
		const named = new Map(neighbours.map((layer) => [mountId(layer.outside), layer.outside]));
		const mounts = whole >= 0 ? [whole] : [...named.values()];
		for (const inner of neighbours) {
			for (const mount of mounts) {
				const outer = layerAbove(roots, mount, inner);
				// what is kept for the export lies in the whole tree, and is concealed there
				if (outer === undefined || (inner.isUpper && outer.isWholeTree)) continue;
				throw new LayerError(
					`Cannot use ${inner.path} and ${outer.path} together: the first lies inside the second. Layers must not overlap.`,
				);
			}
		}
	} finally {
		if (whole >= 0) close(whole);
	}
}

/** The names of the overlay's own xattrs, behind the prefix that a stack uses: "trusted.overlay.", or the kernel's `userxattr`. */
export interface OverlayXattrs {
	readonly prefix: string;
	/** Behind it begins the name of an xattr that has the prefix itself, as an overlay on top of another keeps it. */
	readonly escape: string;
	readonly opaque: string;
	readonly whiteout: string;
	readonly redirect: string;
	readonly origin: string;
	readonly impure: string;
	readonly nlink: string;
	readonly upper: string;
	readonly metacopy: string;
	readonly protattr: string;
	/** Ours: see handles.md. */
	readonly identity: string;
}

function named(prefix: string): OverlayXattrs {
	return {
		prefix,
		escape: `${prefix}overlay.`,
		opaque: `${prefix}opaque`,
		whiteout: `${prefix}whiteout`,
		redirect: `${prefix}redirect`,
		origin: `${prefix}origin`,
		impure: `${prefix}impure`,
		nlink: `${prefix}nlink`,
		upper: `${prefix}upper`,
		metacopy: `${prefix}metacopy`,
		protattr: `${prefix}protattr`,
		identity: `${prefix}holdfast`,
	};
}

export const TRUSTED_XATTRS: OverlayXattrs = named("trusted.overlay.");
export const USER_XATTRS: OverlayXattrs = named("user.overlay.");

/** Names of the overlay's own xattrs on an inode, without their prefix. */
export function overlayXattrs(fd: number, xattr: OverlayXattrs): string[] {
	const names = listXattrs(fd);
	if (typeof names === "number") {
		if (names === -ERRNO.EOPNOTSUPP || names === -ENODATA) return [];
		throw new LayerError(`Cannot list extended attributes: ${whyNot(names)}.`);
	}
	const marks: string[] = [];
	for (const name of names) {
		const text = name.toString("latin1");
		if (text.startsWith(xattr.prefix)) marks.push(text.slice(xattr.prefix.length));
	}
	return marks;
}

/** Whether names can be moved between two directories: rename(2) does not leave a mount. */
export function onOneMount(a: number, b: number): boolean {
	return mountId(a) === mountId(b);
}
