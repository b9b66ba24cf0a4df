// The tree that changes are applied to: every path in it is opened beneath its root, over no symlink and no mount.

import { LayerError } from "../../layer/layer-error.ts";
import { namesInPath, openInTree, openNames, splitPath } from "../../layer/path-search.ts";
import { ERRNO, whyNot } from "../../linux/errno.ts";
import { tryLock } from "../../linux/file-system.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { showName } from "../../vfs/names.ts";

/** A name in a directory that is open. */
export interface NameIn {
	readonly directory: number;
	readonly name: Buffer;
}

/** A directory, locked against others who apply something to it, and against servers that have it as a lower. */
export class Target {
	readonly path: string;
	/** Of its root, readable. */
	readonly root: number;
	/** The directory that was opened last, which the next path that is looked at often lies in too. */
	#parent: { readonly path: Buffer; readonly fd: number } | null = null;

	private constructor(path: string, root: number) {
		this.path = path;
		this.root = root;
	}

	/** `isLocked`: it is to be changed. LayerError: it is no directory, or in use. */
	static open(path: string, isLocked: boolean): Target {
		const root = openPath(path, O.rdonly | O.directory | O.noatime);
		if (root < 0) throw new LayerError(`Cannot open ${path}: ${whyNot(root, path)}.`);
		const target = new Target(path, root);
		try {
			if (isLocked) target.#lock();
			return target;
		} catch (error) {
			target.close();
			throw error;
		}
	}

	/** A server holds a shared lock of each of its lowers, and an apply the exclusive one of its target. */
	#lock(): void {
		const status = tryLock(this.root);
		if (status === -ERRNO.EWOULDBLOCK) throw this.#inUse(this.path);
		// file systems without such locks are known to nobody
		for (let above = openAt(this.root, "..", O.rdonly | O.directory), i = 0; above >= 0; i++) {
			const isUsed = tryLock(above) === -ERRNO.EWOULDBLOCK;
			const stat = new Stat();
			fstat(above, stat);
			const next = openAt(above, "..", O.rdonly | O.directory);
			close(above);
			if (isUsed) {
				if (next >= 0) close(next);
				throw this.#inUse(`${this.path}${"/..".repeat(i + 1)}`);
			}
			const nextStat = new Stat();
			if (next >= 0) fstat(next, nextStat);
			if (next >= 0 && stat.sameInode(nextStat)) {
				close(next);
				return;
			}
			above = next;
		}
	}

	#inUse(path: string): LayerError {
		return new LayerError(
			`Cannot apply anything to ${this.path}: ${path === this.path ? "it" : path} is in use, as a lower of a server or by another apply. Stop that first.`,
		);
	}

	close(): void {
		this.leave();
		close(this.root);
	}

	/** Forgets the directory that was opened last: it may have been moved. */
	leave(): void {
		if (this.#parent !== null) close(this.#parent.fd);
		this.#parent = null;
	}

	/** The directory that a path lies in, open, and its name there; a negated error number where there is no such directory. */
	at(path: Buffer): NameIn | number {
		const { directory: above, name } = splitPath(path);
		if (above.length === 0) return { directory: this.root, name };
		if (this.#parent?.path.equals(above)) return { directory: this.#parent.fd, name };
		const fd = openNames(this.root, namesInPath(above), O.path | O.directory);
		if (fd < 0) return fd;
		this.leave();
		this.#parent = { path: Buffer.from(above), fd };
		return { directory: fd, name };
	}

	/** 0, or the negated error number: -ENOENT also where a directory above it is none. */
	stat(path: Buffer, stat: Stat): number {
		if (path.length === 0) return fstat(this.root, stat);
		const at = this.at(path);
		const status = typeof at === "number" ? at : statAt(at.directory, at.name, stat);
		return status === -ERRNO.ENOTDIR || status === -ERRNO.ELOOP ? -ERRNO.ENOENT : status;
	}

	/** An open descriptor of what stands at a path, never of what a symlink there leads to; or the negated error number. */
	open(path: Buffer, flags: number): number {
		if (path.length === 0) return openAt(this.root, ".", flags & ~O.nofollow);
		const at = this.at(path);
		return typeof at === "number" ? at : openInTree(at.directory, at.name, flags | O.nofollow);
	}

	/** For messages. */
	shown(path: Buffer): string {
		return path.length === 0 ? this.path : `${this.path}/${showName(path)}`;
	}
}
