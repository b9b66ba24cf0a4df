// The bounded cache of objects in memory.

import { ROOT_HOME } from "../../handle/wire-handle.ts";
import type { DescriptorCache } from "../../layer/real.ts";
import { FileType } from "../../vfs/operations.ts";
import type { Node } from "./node.ts";

/** The name leads to nothing known any more. */
export function forgetChild(directory: Node, name: Uint8Array): void {
	directory.children?.delete(childKey(name));
}

/** File names are bytes: latin1 keeps them apart. */
export function childKey(name: Uint8Array): string {
	const { length } = name;
	for (let i = 0; i < length; i++) keyBytes[i] = name[i];
	return keyBytes.toString("latin1", 0, length);
}

/** No name that is asked for is longer: see checkName. */
const keyBytes = Buffer.alloc(4096);

/**
 * The objects in memory, at most `limit` of them between two operations. NFS has no FORGET, so the bound is the only thing
 * that ends an entry; an object that comes back is loaded again by its handle.
 */
export class NodeCache {
	readonly limit: number;
	readonly #nodes = new Map<string, Node>();
	/** Directories by each of their real directories, and copied up files by their upper inode. */
	readonly #byReal = new Map<string, Node>();
	readonly #descriptors: DescriptorCache;
	#root: Node | null = null;
	/** Told of each object that is gone for ever. */
	onBury: ((node: Node) => void) | null = null;

	constructor(limit: number, descriptors: DescriptorCache) {
		this.limit = limit;
		this.#descriptors = descriptors;
	}

	get size(): number {
		return this.#nodes.size;
	}

	get(key: string): Node | undefined {
		const node = this.#nodes.get(key);
		if (node !== undefined) node.isRecent = true;
		return node;
	}

	/** The root is always in memory. */
	get root(): Node {
		return this.#root as Node;
	}

	/** The object in memory that this real object belongs to, of those that `noteReals` covers. */
	byReal(realKey: string): Node | undefined {
		return this.#byReal.get(realKey);
	}

	add(node: Node): void {
		if (node.home === ROOT_HOME) this.#root = node;
		this.#nodes.set(node.key, node);
		this.noteReals(node);
	}

	/** To be called whenever the stack of a directory has grown, or a file got its upper inode. */
	noteReals(node: Node): void {
		if (node.type === FileType.dir || node.isIndexed) for (const real of node.reals) this.#byReal.set(real.key, node);
	}

	/** The object is gone for ever. */
	bury(node: Node): void {
		node.isDead = true;
		this.onBury?.(node);
		this.#forget(node);
	}

	#forget(node: Node): void {
		node.isEvicted = true;
		node.children = null;
		if (node.listedIn !== null) node.listedIn[node.listedAt] = undefined;
		node.listedIn = null;
		if (node.parent !== null && node.name !== null) forgetChild(node.parent, node.name);
		if (this.#nodes.get(node.key) === node) this.#nodes.delete(node.key);
		for (const real of node.reals) {
			if (this.#byReal.get(real.key) === node) this.#byReal.delete(real.key);
			this.#descriptors.drop(real);
		}
		if (node.data !== null) this.#descriptors.drop(node.data);
	}

	/** Evicts all but the root. */
	forgetAll(): void {
		for (const node of this.#nodes.values()) if (node.home !== ROOT_HOME) this.#forget(node);
	}

	/** Evicts down to the limit, those first that were not used since they were looked at last; never `kept`. */
	trim(kept: Node | null): void {
		if (this.#nodes.size <= this.limit) return;
		// a node that stays is put back at the young end and met again: twice each is enough to find every victim
		let looks = this.#nodes.size * 2;
		for (const [key, node] of this.#nodes) {
			if (this.#nodes.size <= this.limit || looks-- === 0) return;
			if (node.isRecent || node.uses > 0 || node.copyUp !== null || node.home === ROOT_HOME || node === kept) {
				node.isRecent = false;
				this.#nodes.delete(key);
				this.#nodes.set(key, node);
			} else this.#forget(node);
		}
	}
}
