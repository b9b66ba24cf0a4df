// Inodes of layers, and the cache of their descriptors.

import { ERRNO, whyNot } from "../linux/errno.ts";
import type { FileHandle } from "../linux/file-handle.ts";
import { close, O } from "../linux/open.ts";
import type { Layer } from "./layer.ts";

/** A real object could not be opened by its handle: it is gone, or its file system refuses. */
export class RealObjectError extends Error {
	readonly errno: number;

	constructor(real: Real, error: number) {
		super(`Cannot open an object of ${real.layer.path} by its handle: ${whyNot(error)}`);
		this.name = "RealObjectError";
		this.errno = Math.abs(error);
	}

	get gone(): boolean {
		return this.errno === ERRNO.ESTALE;
	}
}

/**
 * An inode of a layer. It is known by its kernel handle, so its descriptors are a cache: they can be closed at any
 * moment between two operations and cost one open_by_handle_at(2) to have again.
 */
export class Real {
	readonly layer: Layer;
	readonly handle: FileHandle;
	readonly inoHi: number;
	readonly inoLo: number;
	/** A directory of another st_dev than its layer (a btrfs subvolume): shown as empty, never entered. */
	readonly foreign: boolean;
	/** Empty files of this directory with the xattr of this name are whiteouts (opaque "x"); null: it has no such. */
	whiteoutXattr: string | null = null;
	/** The redirect of a directory of upper; undefined: not read yet. Nobody but us sets one. */
	redirect: Buffer | null | undefined = undefined;
	/** A directory of upper that is known to say that it holds objects that were born elsewhere. */
	isImpure = false;
	/** Owned by the descriptor cache. */
	pathFd = -1;
	dataFd = -1;
	dataFdWritable = false;
	newer: Real | null = null;
	older: Real | null = null;
	#key: string | null = null;

	constructor(layer: Layer, handle: FileHandle, inoHi: number, inoLo: number, foreign: boolean) {
		this.layer = layer;
		this.handle = handle;
		this.inoHi = inoHi;
		this.inoLo = inoLo;
		this.foreign = foreign;
	}

	/** Equal for two Reals exactly if they are the same inode. Most files are never asked for it. */
	get key(): string {
		this.#key ??= realKey(this.layer, this.handle);
		return this.#key;
	}
}

export function realKey(layer: Layer, handle: FileHandle): string {
	return String.fromCharCode(layer.fileSystem.number, handle.type) + handle.bytes.toString("latin1");
}

/**
 * Keeps descriptors of real objects open, at most `limit` of them, over all exports of a process. Nothing is closed while an operation runs:
 * `trim` is called between two.
 */
export class DescriptorCache {
	/** May be lowered: the next `trim` sees to it. */
	limit: number;
	#count = 0;
	#newest: Real | null = null;
	#oldest: Real | null = null;

	constructor(limit: number) {
		this.limit = limit;
	}

	/** Descriptors open at this moment. */
	get count(): number {
		return this.#count;
	}

	/** Hands over a descriptor (O_PATH, or readable for a directory) that was opened elsewhere. */
	adopt(real: Real, fd: number): void {
		if (real.pathFd >= 0) {
			close(fd);
			this.#touch(real);
			return;
		}
		real.pathFd = fd;
		this.#count++;
		this.#touch(real);
	}

	/** A descriptor for calls that take O_PATH; for a directory also as a starting point. */
	path(real: Real): number {
		if (real.pathFd < 0) {
			if (real.dataFd >= 0) {
				this.#touch(real);
				return real.dataFd;
			}
			real.layer.beforeOpen?.(real.handle);
			const fd = real.layer.handles.open(real.handle, O.path | O.nofollow);
			if (fd < 0) throw new RealObjectError(real, fd);
			real.pathFd = fd;
			this.#count++;
		}
		this.#touch(real);
		return real.pathFd;
	}

	/** A descriptor to read (and write) the data of a regular file, or the entries of a directory. */
	data(real: Real, writable: boolean): number {
		if (real.dataFd >= 0 && (real.dataFdWritable || !writable)) {
			this.#touch(real);
			return real.dataFd;
		}
		if (real.pathFd < 0) real.layer.beforeOpen?.(real.handle);
		const fd = real.layer.handles.open(real.handle, (writable ? O.rdwr : O.rdonly) | O.noatime | O.nofollow | O.nonblock);
		if (fd < 0) throw new RealObjectError(real, fd);
		if (real.dataFd >= 0) close(real.dataFd);
		else this.#count++;
		real.dataFd = fd;
		real.dataFdWritable = writable;
		this.#touch(real);
		return fd;
	}

	/** Hands over a descriptor that was opened for reading and writing. */
	adoptData(real: Real, fd: number): void {
		if (real.dataFd >= 0) close(real.dataFd);
		else this.#count++;
		real.dataFd = fd;
		real.dataFdWritable = true;
		this.#touch(real);
	}

	/** Closes what this object has open. */
	drop(real: Real): void {
		if (real.pathFd >= 0) {
			close(real.pathFd);
			real.pathFd = -1;
			this.#count--;
		}
		if (real.dataFd >= 0) {
			close(real.dataFd);
			real.dataFd = -1;
			real.dataFdWritable = false;
			this.#count--;
		}
		this.#unlink(real);
	}

	/** Closes the least recently used down to the limit. */
	trim(): void {
		while (this.#count > this.limit && this.#oldest !== null) this.drop(this.#oldest);
	}

	dropAll(): void {
		while (this.#oldest !== null) this.drop(this.#oldest);
	}

	/** Closes what is open of these layers. */
	dropLayers(layers: ReadonlySet<Layer>): void {
		for (let real = this.#oldest; real !== null; ) {
			const { newer } = real;
			if (layers.has(real.layer)) this.drop(real);
			real = newer;
		}
	}

	#touch(real: Real): void {
		if (this.#newest === real) return;
		this.#unlink(real);
		real.older = this.#newest;
		if (this.#newest !== null) this.#newest.newer = real;
		this.#newest = real;
		if (this.#oldest === null) this.#oldest = real;
	}

	#unlink(real: Real): void {
		if (real.newer !== null) real.newer.older = real.older;
		else if (this.#newest === real) this.#newest = real.older;
		if (real.older !== null) real.older.newer = real.newer;
		else if (this.#oldest === real) this.#oldest = real.newer;
		real.newer = null;
		real.older = null;
	}
}
