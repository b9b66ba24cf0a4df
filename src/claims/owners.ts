// Owners of opens and of locks: what each has, and how the state of an owner on a file is found.

import { count } from "./opens.ts";
import type { ClientRecord, Crowd, FileRecord, LockState, OpenState, Owner } from "./records.ts";

interface OfOwner<S> {
	readonly owner: Owner<S>;
	nextOfOwner: S | null;
	previousOfOwner: S | null;
}

/** So many are looked through one by one; beyond it there is a Map. */
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
}

/** An owner that has nothing is forgotten. */
export function removeFromOwner<S extends OfOwner<S>>(owners: Map<string, Owner<S>>, state: S): void {
	const { owner } = state;
	if (state.previousOfOwner === null) owner.first = state.nextOfOwner;
	else state.previousOfOwner.nextOfOwner = state.nextOfOwner;
	if (state.nextOfOwner !== null) state.nextOfOwner.previousOfOwner = state.previousOfOwner;
	state.nextOfOwner = null;
	state.previousOfOwner = null;
	if (--owner.count === 0) owners.delete(owner.key);
}

/** Opens are found by their object: an owner may have thousands, and an object rarely has more than a few. */
export function addToFile(open: OpenState): void {
	const { file } = open;
	open.nextInFile = file.firstOpen;
	if (file.firstOpen !== null) file.firstOpen.previousInFile = open;
	file.firstOpen = open;
	file.opens++;
	if (file.crowd !== null) file.crowd.byOwner.set(open.owner, open);
	else if (file.opens > LISTED_MAX) {
		const crowd: Crowd = { byOwner: new Map(), readers: 0, writers: 0, denyReaders: 0, denyWriters: 0 };
		for (let each: OpenState | null = open; each !== null; each = each.nextInFile) {
			crowd.byOwner.set(each.owner, each);
			count(crowd, each, 1);
		}
		file.crowd = crowd;
	}
}

export function removeFromFile(open: OpenState): void {
	const { file } = open;
	if (open.previousInFile === null) file.firstOpen = open.nextInFile;
	else open.previousInFile.nextInFile = open.nextInFile;
	if (open.nextInFile !== null) open.nextInFile.previousInFile = open.previousInFile;
	file.opens--;
	file.crowd?.byOwner.delete(open.owner);
}

export function openOf(owner: Owner<OpenState> | undefined, file: FileRecord): OpenState | null {
	if (owner === undefined) return null;
	if (file.crowd !== null) return file.crowd.byOwner.get(owner) ?? null;
	for (let open = file.firstOpen; open !== null; open = open.nextInFile) if (open.owner === owner) return open;
	return null;
}

/** Locks are found by their owner: it has few files locked, and a file may be locked by thousands. */
export function indexLocks(state: LockState): void {
	const { owner } = state;
	if (owner.byFile !== null) owner.byFile.set(state.file, state);
	else if (owner.count > LISTED_MAX) {
		owner.byFile = new Map();
		for (let each = owner.first; each !== null; each = each.nextOfOwner) owner.byFile.set(each.file, each);
	}
}

export function locksOf(owner: Owner<LockState> | undefined, file: FileRecord): LockState | null {
	if (owner === undefined) return null;
	if (owner.byFile !== null) return owner.byFile.get(file) ?? null;
	for (let state = owner.first; state !== null; state = state.nextOfOwner) if (state.file === file) return state;
	return null;
}
