// Which objects front ends hold open, and which of these have lost their last name.

import { namesOf } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import { makeSymlink, unlinkName } from "../../linux/names.ts";
import { O, openAt } from "../../linux/open.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { must } from "../../vfs/system-errors.ts";

/** Objects held at a time by all clients of an export: four times as many as one server of opens is to have. */
export const HELD_MAX = 1 << 20;

/** Name among the orphans of an upper inode without another one, by the key of its object. */
export function orphanName(key: string): string {
	return Buffer.from(key, "latin1").toString("hex");
}

const MARK = ".lower";

/** Name of what says that a lower object without a name is still held, and was not copied up since. */
export function orphanMark(key: string): string {
	return orphanName(key) + MARK;
}

/** Marks a lower object, in the folder of orphans. */
export function markOrphan(folder: number, name: string, record: Uint8Array): void {
	const status = makeSymlink(Buffer.from(record).toString("hex"), folder, name);
	// a recovery meets what the interrupted change has made
	if (status !== -ERRNO.EEXIST) must(status, "Cannot mark an object that is held open");
}

/** It is an upper inode now. */
export function unmarkOrphan(folder: number, name: string): void {
	const status = unlinkName(folder, name);
	if (status !== -ERRNO.ENOENT) must(status, "Cannot remove the mark of an object that is held open");
}

/** Home (2 bytes), type and length of an id stand before it. */
const KEY_HEAD_BYTES = 4;

/** The key that such a name is made of, and whether it is that of a mark; null for what no server of ours has made. */
export function parseOrphanName(name: Buffer): { readonly key: string; readonly isMark: boolean } | null {
	const match = /^((?:[0-9a-f]{2})+)(\.lower)?$/.exec(name.toString("latin1"));
	if (match === null) return null;
	const bytes = Buffer.from(match[1], "hex");
	if (bytes.length <= KEY_HEAD_BYTES || bytes[KEY_HEAD_BYTES - 1] !== bytes.length - KEY_HEAD_BYTES) return null;
	return { key: bytes.toString("latin1"), isMark: match[2] !== undefined };
}

/**
 * Objects that front ends hold, by identity key, with how often: none of them has to be in memory. An object whose last name goes while it
 * is held becomes an orphan. In `work/holdfast/orphans` an upper inode has a link then, and a lower one a mark, a symlink to its record;
 * nothing is copied. What a start finds there stays until it is said that nobody holds it.
 */
export class HeldObjects {
	/** Descriptor of `work/holdfast/orphans`; negative where nothing can be removed. */
	readonly #folder: number;
	readonly #holds = new Map<string, number>();
	/** Orphans by key: false for one that nobody holds any more, on its way out. */
	readonly #orphans = new Map<string, boolean>();
	readonly #takers: ((handle: Uint8Array) => boolean)[] = [];

	constructor(folder: number) {
		this.#folder = folder;
	}

	get size(): number {
		return this.#holds.size;
	}

	/** Asked before an object loses a name: who says only then that they hold it does so now. */
	isHeld({ key, handle }: { readonly key: string; readonly handle: Uint8Array }): boolean {
		for (const takes of this.#takers) if (takes(handle)) this.#count(key);
		return this.#holds.size > 0 && this.#holds.has(key);
	}

	/** See OverlayOperations.holdOnLoss. */
	askOnLoss(takes: (handle: Uint8Array) => boolean): void {
		this.#takers.push(takes);
	}

	/** OverlayError "tryagain": there are HELD_MAX. */
	hold(key: string): void {
		if (this.#holds.size >= HELD_MAX && !this.#holds.has(key)) throw new OverlayError("tryagain", "Too many objects are held open");
		this.#count(key);
	}

	#count(key: string): void {
		this.#holds.set(key, (this.#holds.get(key) ?? 0) + 1);
	}

	/** Whether that was the last hold. Throws Error for one that there is not. */
	letGo(key: string): boolean {
		const count = this.#holds.get(key);
		if (count === undefined) throw new Error("An object is let go that nobody holds");
		if (count > 1) this.#holds.set(key, count - 1);
		else this.#holds.delete(key);
		return count === 1;
	}

	/** It has no name any more, and is still there. */
	isOrphan(key: string): boolean {
		return this.#orphans.size > 0 && this.#orphans.get(key) === true;
	}

	/** It has no name and nobody holds it, but its inode may still be there. */
	isDoomed(key: string): boolean {
		return this.#orphans.size > 0 && this.#orphans.get(key) === false;
	}

	noteOrphan(key: string): void {
		this.#orphans.set(key, true);
	}

	/** It has a name again. */
	revive(key: string): void {
		this.#orphans.delete(key);
	}

	/** Learns what an earlier run has left. */
	load(): void {
		for (const name of this.#names()) {
			const parsed = parseOrphanName(name);
			if (parsed !== null) this.#orphans.set(parsed.key, true);
		}
	}

	/** The upper inode of an orphan, O_PATH; negative for one that still lies in a lower. */
	open(key: string): number {
		return openAt(this.#folder, orphanName(key), O.path | O.nofollow);
	}

	/** Forgets an orphan that is a mark alone, and takes that away; false for an upper inode, where nothing is done. */
	removeMark(key: string): boolean {
		if (unlinkName(this.#folder, orphanMark(key)) !== 0) return false;
		this.#orphans.delete(key);
		return true;
	}

	/** Forgets an orphan, and takes its link and its mark away. */
	remove(key: string): void {
		unlinkName(this.#folder, orphanName(key));
		unlinkName(this.#folder, orphanMark(key));
		this.#orphans.delete(key);
	}

	/** Gives up all orphans that nobody holds: their keys, each to be removed. */
	doom(): string[] {
		const doomed: string[] = [];
		for (const key of this.#orphans.keys()) if (!this.#holds.has(key)) doomed.push(key);
		for (const key of doomed) this.#orphans.set(key, false);
		return doomed;
	}

	/** What else lies among the orphans. */
	strangers(): Buffer[] {
		return this.#names().filter((name) => parseOrphanName(name) === null);
	}

	#names(): Buffer[] {
		return this.#folder < 0 ? [] : must(namesOf(this.#folder), "Cannot read the folder of orphans");
	}
}
