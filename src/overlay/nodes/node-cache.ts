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
	/** Only finds them: a Map from which the first entry goes again and again takes ever longer to find its first entry. */
	readonly #nodes = new Map<string, Node>();
	/** All but the root, in the order in which eviction looks at them: a list through Node.younger and Node.older. */
	#youngest: Node | null = null;
	#oldest: Node | null = null;
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
		this.#nodes.set(node.key, node);
		if (node.home === ROOT_HOME) this.#root = node;
		else this.#link(node);
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
		this.#unlink(node);
		if (this.#nodes.get(node.key) === node) this.#nodes.delete(node.key);
		for (const real of node.reals) {
			if (this.#byReal.get(real.key) === node) this.#byReal.delete(real.key);
			this.#descriptors.drop(real);
		}
		if (node.data !== null) this.#descriptors.drop(node.data);
	}

	/** Evicts all but the root. */
	forgetAll(): void {
		while (this.#oldest !== null) this.#forget(this.#oldest);
	}

	/** Evicts down to the limit, those first that were not used since they were looked at last; never `kept`. */
	trim(kept: Node | null): void {
		// a node that stays is put at the young end and met again: twice each is enough to find every victim
		let looks = this.#nodes.size * 2;
		while (this.#nodes.size > this.limit && looks-- > 0) {
			const node = this.#oldest;
			if (node === null) return;
			if (node.isRecent || node.uses > 0 || node.copyUp !== null || node === kept) {
				node.isRecent = false;
				this.#unlink(node);
				this.#link(node);
			} else this.#forget(node);
		}
	}

	#link(node: Node): void {
		node.older = this.#youngest;
		if (this.#youngest === null) this.#oldest = node;
		else this.#youngest.younger = node;
		this.#youngest = node;
	}

	#unlink(node: Node): void {
		if (node.younger !== null) node.younger.older = node.older;
		else if (this.#youngest === node) this.#youngest = node.older;
		if (node.older !== null) node.older.younger = node.younger;
		else if (this.#oldest === node) this.#oldest = node.younger;
		node.younger = null;
		node.older = null;
	}
}
