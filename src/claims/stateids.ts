// The table of stateids: finds what one stands for, and tells one that was from one that is.

import { ClaimError } from "./errors.ts";
import type { Stateid } from "./operations.ts";
import type { StateRecord } from "./records.ts";

/**
 * Stateids are three numbers: the boot counter of the server, a place in this table, and a generation that is given once. So a stateid of another start, or
 * of what has been closed, is never taken for one that is good. STALE_STATEID is never told: no error of NFSv4.1's, and clients loop on it.
 */
export class Stateids<State extends StateRecord> {
	readonly boot: number;
	readonly #states: (State | null)[] = [];
	readonly #free: number[] = [];
	#nextGeneration = 1;
	#size = 0;

	/** `boot`: from 1 on, so that no stateid is one of the special ones (all zeros, all ones). */
	constructor(boot: number) {
		this.boot = boot;
	}

	get size(): number {
		return this.#size;
	}

	/** Places in use and free: `at` gives null for those. */
	get places(): number {
		return this.#states.length;
	}

	get nextGeneration(): number {
		return this.#nextGeneration;
	}

	at(index: number): State | null {
		return this.#states[index] ?? null;
	}

	/** Gives the state a place and a generation. */
	add(state: State): void {
		state.index = this.#free.pop() ?? this.#states.length;
		state.generation = this.#nextGeneration;
		this.#nextGeneration = (this.#nextGeneration + 1) >>> 0;
		this.#states[state.index] = state;
		this.#size++;
	}

	/** Puts it where it was before a restart. `restored` must follow the last of them. */
	restore(state: State): void {
		while (this.#states.length <= state.index) this.#states.push(null);
		if (this.#states[state.index] === null) this.#size++;
		this.#states[state.index] = state;
		this.noteGeneration(state.generation);
	}

	/** This generation, and all before it, were given. */
	noteGeneration(generation: number): void {
		const next = (generation + 1) >>> 0;
		if ((next - this.#nextGeneration) >>> 0 < 0x80000000) this.#nextGeneration = next;
	}

	restored(): void {
		this.#free.length = 0;
		for (let index = this.#states.length - 1; index >= 0; index--) if (this.#states[index] === null) this.#free.push(index);
	}

	/** Another state takes the place, and the stateid, of this one. */
	replace(state: State, by: State): void {
		by.index = state.index;
		by.generation = state.generation;
		by.seqid = state.seqid;
		this.#states[state.index] = by;
	}

	remove(state: State): void {
		this.#states[state.index] = null;
		this.#free.push(state.index);
		this.#size--;
	}

	/** What the stateid stands for. "bad_stateid"; "old_stateid" where it has changed since; a seqid of 0 is the newest. */
	find(stateid: Stateid): State {
		const state = stateid.boot === this.boot ? this.at(stateid.index) : null;
		if (state === null || state.generation !== stateid.generation) throw new ClaimError("bad_stateid", "The stateid stands for nothing");
		const { seqid } = stateid;
		if (seqid === 0 || seqid === state.seqid) return state;
		const isOld = (state.seqid - seqid) >>> 0 < 0x80000000;
		throw isOld
			? new ClaimError("old_stateid", "The stateid has changed since")
			: new ClaimError("bad_stateid", "The stateid has a seqid that was not given yet");
	}

	/** The stateid as it is now. */
	of({ seqid, index, generation }: StateRecord): Stateid {
		return { seqid, boot: this.boot, index, generation };
	}
}

/** The first stateid of all has the largest boot counter: see the first client (clients.ts). */
new Stateids(0xffffffff).of({ seqid: 1, index: 0, generation: 1 });

/** The seqid after this one; 0 is none (RFC 8881 section 8.2.2). */
export function nextSeqid(seqid: number): number {
	return seqid === 0xffffffff ? 1 : seqid + 1;
}
