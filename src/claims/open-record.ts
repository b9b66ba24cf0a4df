// An open in memory, as small as it can be: there may be hundreds of thousands.

import type { FileRecord, LockState, OpenState, Owner } from "./records.ts";

const MODE_BITS = 12;
const MODES = (1 << MODE_BITS) - 1;

/** Modes, access and deny as one number. */
export function packShare(modes: number, access: number, deny: number): number {
	return modes | (access << MODE_BITS) | (deny << (MODE_BITS + 2));
}

export class OpenRecord implements OpenState {
	index: number;
	generation: number;
	seqid: number;
	readonly owner: Owner<OpenState>;
	readonly file: FileRecord;
	share = 0;
	firstLock: LockState | null = null;
	nextInFile: OpenState | null = null;
	previousInFile: OpenState | null = null;
	nextOfOwner: OpenState | null = null;
	previousOfOwner: OpenState | null = null;

	constructor(owner: Owner<OpenState>, file: FileRecord, index: number, generation: number, seqid: number) {
		this.index = index;
		this.generation = generation;
		this.seqid = seqid;
		this.owner = owner;
		this.file = file;
	}

	get kind(): "open" {
		return "open";
	}

	get modes(): number {
		return this.share & MODES;
	}

	get access(): number {
		return (this.share >> MODE_BITS) & 3;
	}

	get deny(): number {
		return (this.share >> (MODE_BITS + 2)) & 3;
	}
}
