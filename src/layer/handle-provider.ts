// The contract between a layer and the source of its objects' ids, and the source that asks the kernel.

import { type FileHandle, handleAt, handleOf, openByHandle } from "../linux/file-handle.ts";
import type { PathBytes } from "../linux/libc.ts";
import { close, O, openAt } from "../linux/open.ts";
import type { Stat } from "../linux/stat.ts";

/** Where the ids of a layer's real objects come from, and how an object is found again by its id. Ids have the form of kernel handles. */
export interface HandleProvider {
	/** Ids that go where the layer is copied to, and need no privilege. */
	readonly isPortable: boolean;
	/** The id of the inode behind a descriptor, or the negated error number. */
	of(fd: number): FileHandle | number;
	/** The id of a name in a directory, a link not followed. */
	at(directory: number, name: PathBytes): FileHandle | number;
	/** As `at`, where the id of the directory and the attributes of the name are known. */
	child(parent: FileHandle, directory: number, name: Uint8Array, stat: Stat): FileHandle | number;
	/** Makes the link count in `stat`, of the object of this id, the number of its names. */
	countNames(handle: FileHandle, stat: Stat): void;
	/** What the file id of an object was made of when it got its id, where its inode number is another since; null: its inode number is as good. */
	birthOf(handle: FileHandle): Birth | null;
	/** Index of the object's layer within its home; null if the inode number tells it (kernel handles). */
	layerInHome(handle: FileHandle): number | null;
	/** How another thread finds an object where that is by its path; null: by its id, or it takes a search. */
	trail(handle: FileHandle): Trail | null;
	/** The directories from below the root of the layer down to this one and itself; null where that takes asking the kernel for each. */
	ancestry(handle: FileHandle): readonly Ancestor[] | null;
	/** Opens the inode of an id. -ESTALE: it is gone. */
	open(handle: FileHandle, flags: number): number;
	/** The attributes of what `open` has just opened, where it had to read them; they are the caller's then. Null: it had not. */
	takeOpened(fd: number): Stat | null;
	/** Lets go of what is open for the next object. */
	close(): void;
	/** As `open`, through another mount of the file system where ids know of mounts. */
	openOn(mount: number, handle: FileHandle, flags: number): number;
}

/** A directory on the way from the root of a layer down, with its name there. */
export interface Ancestor {
	readonly id: FileHandle;
	readonly name: Buffer;
}

/** The names that lead from a directory to an object; none: to itself. */
export interface Trail {
	readonly root: number;
	readonly names: readonly Buffer[];
}

/** `HandleProvider.at` where an id is asked for by a descriptor. */
export function idOfName(provider: HandleProvider, directory: number, name: PathBytes): FileHandle | number {
	const fd = openAt(directory, name, O.path | O.nofollow);
	if (fd < 0) return fd;
	const id = provider.of(fd);
	close(fd);
	return id;
}

/** The number of an inode space and an inode number in it. */
export interface Birth {
	readonly space: number;
	readonly inoHi: number;
	readonly inoLo: number;
}

/** Handles of the kernel: name_to_handle_at(2), open_by_handle_at(2). */
export class KernelHandles implements HandleProvider {
	readonly isPortable = false;
	readonly #root: number;

	/** `root` is any readable descriptor on the file system. */
	constructor(root: number) {
		this.#root = root;
	}

	of(fd: number): FileHandle | number {
		return handleOf(fd);
	}

	at(directory: number, name: PathBytes): FileHandle | number {
		return handleAt(directory, name);
	}

	child(_parent: FileHandle, directory: number, name: Uint8Array): FileHandle | number {
		return handleAt(directory, name);
	}

	countNames(): void {}

	birthOf(): null {
		return null;
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

	close(): void {}

	open(handle: FileHandle, flags: number): number {
		return openByHandle(this.#root, handle, flags);
	}

	openOn(mount: number, handle: FileHandle, flags: number): number {
		return openByHandle(mount, handle, flags);
	}
}
