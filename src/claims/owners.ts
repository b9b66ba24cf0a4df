// What an owner of opens or of locks has, by file.

import type { ClientRecord, FileRecord, Owner } from "./records.ts";

interface OfOwner<S> {
	readonly owner: Owner<S>;
	readonly file: FileRecord;
	nextOfOwner: S | null;
	previousOfOwner: S | null;
}

/** Most owners have one file or a few: only beyond it is there a Map. */
const LISTED_MAX = 8;

export function ownerOf<S>(owners: Map<string, Owner<S>>, client: ClientRecord, key: string): Owner<S> {
	const known = owners.get(key);
	if (known !== undefined) return known;
	return { client, key, first: null, count: 0, byFile: null };
}

/** Also makes the owner known to its client. */
export function addToOwner<S extends OfOwner<S>>(owners: Map<string, Owner<S>>, state: S): void {
	const { owner } = state;
	if (owner.count === 0) owners.set(owner.key, owner);
	state.nextOfOwner = owner.first;
	if (owner.first !== null) owner.first.previousOfOwner = state;
	owner.first = state;
	owner.count++;
	if (owner.byFile !== null) owner.byFile.set(state.file, state);
	else if (owner.count > LISTED_MAX) {
		owner.byFile = new Map();
		for (let each: S | null = state; each !== null; each = each.nextOfOwner) owner.byFile.set(each.file, each);
	}
}

/** An owner that has nothing is forgotten. */
export function removeFromOwner<S extends OfOwner<S>>(owners: Map<string, Owner<S>>, state: S): void {
	const { owner } = state;
	if (state.previousOfOwner === null) owner.first = state.nextOfOwner;
	else state.previousOfOwner.nextOfOwner = state.nextOfOwner;
	if (state.nextOfOwner !== null) state.nextOfOwner.previousOfOwner = state.previousOfOwner;
	state.nextOfOwner = null;
	state.previousOfOwner = null;
	owner.byFile?.delete(state.file);
	if (--owner.count === 0) owners.delete(owner.key);
}

export function stateOf<S extends OfOwner<S>>(owner: Owner<S> | undefined, file: FileRecord): S | null {
	if (owner === undefined) return null;
	if (owner.byFile !== null) return owner.byFile.get(file) ?? null;
	for (let state = owner.first; state !== null; state = state.nextOfOwner) if (state.file === file) return state;
	return null;
}
