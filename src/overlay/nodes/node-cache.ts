// The bounded cache of objects in memory.

import { ROOT_HOME } from "../../handle/wire-handle.ts";
import type { DescriptorCache, Real } from "../../layer/real.ts";
import { FileType } from "../../vfs/operations.ts";
import type { Node, NodeKeeper } from "./node.ts";
import type { NodeOrder } from "./node-order.ts";

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
 * The objects of one export in memory. NFS has no FORGET, so the bound of `NodeOrder` is the only thing that ends an entry; an object that
 * comes back is loaded again by its handle.
 */
export class NodeCache implements NodeKeeper {
	/** Only finds them: a Map from which the first entry goes again and again takes ever longer to find its first entry. */
	readonly #nodes = new Map<string, Node>();
	readonly #order: NodeOrder;
	/** Directories by each of their real directories, and copied up files by their upper inode. */
	readonly #byReal = new Map<string, Node>();
	readonly #descriptors: DescriptorCache;
	#root: Node | null = null;
	/** Told of each object that is gone for ever. */
	onBury: ((node: Node) => void) | null = null;

	constructor(order: NodeOrder, descriptors: DescriptorCache) {
		this.#order = order;
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

	/** The object in memory that this real object belongs to, if `noteReals` covers it. */
	byReal(realKey: string): Node | undefined {
		return this.#byReal.get(realKey);
	}

	add(node: Node): void {
		this.#nodes.set(node.key, node);
		node.keeper = this;
		this.#order.size++;
		if (node.home === ROOT_HOME) this.#root = node;
		else this.#order.link(node);
		this.noteReals(node);
	}

	/**
	 * Says where a directory is, and by what name anything else was seen last. Who has an object in memory has all directories above it: eviction
	 * takes a parent only after what is below it.
	 */
	place(node: Node, parent: Node | null, name: Buffer | null): void {
		node.name = name;
		if (node.parent === parent) return;
		if (node.keeper !== null) {
			if (parent !== null) parent.below++;
			this.#leave(node);
		}
		node.parent = parent;
	}

	/** It stays, with the directories above it, until many others are kept after it: a request will come back to it. */
	keep(node: Node): void {
		this.#order.keep(node);
	}

	/** One less is below its parent, which may be the next to go then. */
	#leave({ parent }: Node): void {
		if (parent === null) return;
		parent.below--;
		if (parent.below === 0 && !parent.isQueued && parent.keeper !== null && parent.home !== ROOT_HOME) this.#order.linkFirst(parent);
	}

	/** To be called whenever the stack of a directory has grown, or a file got its upper inode. */
	noteReals(node: Node): void {
		if (node.type === FileType.dir || node.isIndexed) for (const real of node.reals) this.#byReal.set(real.key, node);
	}

	/** A directory has another stack, and its former upper directory is gone. */
	replaceReals(node: Node, reals: Real[]): void {
		for (const real of node.reals) {
			if (this.#byReal.get(real.key) === node) this.#byReal.delete(real.key);
			this.#descriptors.drop(real);
		}
		node.reals = reals;
		node.stat = null;
		node.defaultAcl = undefined;
		node.protection = -1;
		if (node.keeper === this) this.noteReals(node);
	}

	/** The object is gone for ever. */
	bury(node: Node): void {
		node.isDead = true;
		this.onBury?.(node);
		this.forget(node);
	}

	/** Evicts an object; it may be gone already. */
	forget(node: Node): void {
		node.isEvicted = true;
		node.children = null;
		if (node.listedIn !== null) node.listedIn[node.listedAt] = undefined;
		node.listedIn = null;
		if (node.parent !== null && node.name !== null) forgetChild(node.parent, node.name);
		if (node.keeper === this) {
			node.keeper = null;
			this.#order.size--;
			this.#order.unlink(node);
			this.#leave(node);
		}
		if (this.#nodes.get(node.key) === node) this.#nodes.delete(node.key);
		for (const real of node.reals) {
			if (this.#byReal.get(real.key) === node) this.#byReal.delete(real.key);
			this.#descriptors.drop(real);
		}
		if (node.data !== null) this.#descriptors.drop(node.data);
	}

	/** All that are in memory now. */
	all(): Node[] {
		return [...this.#nodes.values()];
	}

	/** Evicts all but the root. */
	forgetAll(): void {
		for (const node of this.all()) if (node.home !== ROOT_HOME) this.forget(node);
	}

	/** Evicts all: the export is closed. */
	close(): void {
		for (const node of this.#nodes.values()) this.forget(node);
	}

	/** Evicts objects of any export down to the limit of all; never `kept`. */
	trim(kept: Node | null): void {
		this.#order.trim(kept);
	}
}
