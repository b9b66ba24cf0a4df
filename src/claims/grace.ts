// Grace: after a failure of the host, the time in which clients that had state reclaim it, and nobody else gets any (RFC 8881 section 8.4.2).

import { Pending } from "../vfs/errors.ts";
import { ClaimError } from "./errors.ts";
import type { ClientRecord } from "./records.ts";
import type { RecoveryList } from "./recovery-list.ts";

export interface GraceHooks {
	now(): number;
	/** All clients that have something open now (`listKey`), and whether they deny others a mode. */
	listed(): ReadonlyMap<string, boolean>;
	/** It is over: the new list is on disk. */
	ended(): void;
	warn(sentence: string): void;
}

/**
 * The list of the last boot stands on disk until the end: if the host fails again meanwhile, the same clients may reclaim the same again. At the end the new
 * one takes its place, and only then others are given anything.
 */
export class Grace {
	readonly #list: RecoveryList;
	readonly #hooks: GraceHooks;
	/** Who may still reclaim, and whether it denied others a mode. */
	readonly #listed: Map<string, boolean>;
	readonly #endsAt: number;
	/** How many of them did. */
	#denying = 0;
	#ending: Promise<void> | null = null;
	#hasWarned = false;
	#isOver: boolean;

	/** No clients: no grace. */
	constructor(list: RecoveryList, listed: ReadonlyMap<string, boolean>, seconds: number, hooks: GraceHooks) {
		this.#list = list;
		this.#hooks = hooks;
		this.#listed = new Map(listed);
		this.#endsAt = hooks.now() + seconds * 1000;
		this.#isOver = listed.size === 0;
		for (const denies of listed.values()) if (denies) this.#denying++;
	}

	get isOver(): boolean {
		return this.#isOver;
	}

	get isContentHeld(): boolean {
		return !this.#isOver && this.#denying > 0;
	}

	/** "no_grace", "reclaim_bad"; Pending while it ends. */
	demandReclaim(client: ClientRecord): void {
		if (this.#ending !== null && !this.#isOver) throw new Pending(this.#ending);
		if (this.#isOver || client.hasReclaimed) throw new ClaimError("no_grace", "There is nothing to reclaim any more");
		if (!this.#listed.has(client.listKey)) throw new ClaimError("reclaim_bad", "The client had nothing before the server failed");
	}

	/** "grace" for all who do not reclaim. */
	demandOver(): void {
		if (!this.#isOver) throw new ClaimError("grace", "Clients reclaim what they had before the server failed");
	}

	/** The client has reclaimed all, or has left: it may not reclaim anything more. */
	complete({ listKey }: ClientRecord): void {
		const denies = this.#listed.get(listKey);
		if (denies === undefined) return;
		this.#listed.delete(listKey);
		if (denies) this.#denying--;
		if (this.#listed.size === 0) this.#end();
	}

	tick(): void {
		if (!this.#isOver && this.#hooks.now() >= this.#endsAt) this.#end();
	}

	/** Where the new list cannot be written, grace goes on, and `tick` tries again: the old one would let clients reclaim what others were given. */
	#end(): void {
		if (this.#isOver || this.#ending !== null) return;
		this.#ending = this.#list
			.replace(this.#hooks.listed())
			.then(
				() => {
					this.#isOver = true;
					this.#hooks.ended();
				},
				(error: Error) => {
					this.#ending = null;
					if (!this.#hasWarned) this.#hooks.warn(`Grace goes on, since its end cannot be written down: ${error.message}`);
					this.#hasWarned = true;
				},
			)
			.catch((error: Error) => this.#hooks.warn(`What clients held before the server failed cannot be let go: ${error.message}`));
	}
}
