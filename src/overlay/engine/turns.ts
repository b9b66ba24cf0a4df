// Lets other requests in while one has much to do: what a pass may spend, and who goes on next.

import { Pending } from "../../vfs/errors.ts";
import type { Node } from "../nodes/node.ts";
import type { NodeCache } from "../nodes/node-cache.ts";

/** What an operation may spend in one pass, in steps of about 50 microseconds: so far below the 20 ms that no request may hold the main thread. */
export const STEPS_PER_PASS = 96;
/** Steps of copying up one directory. */
export const COPY_UP_STEPS = 16;

/** The budget of the operation under way. */
export class Turns {
	readonly #nodes: Pick<NodeCache, "keep">;
	#left = Number.POSITIVE_INFINITY;

	constructor(nodes: Pick<NodeCache, "keep">) {
		this.#nodes = nodes;
	}

	/** An operation begins, of a front end that runs it again when it is Pending. */
	begin(): void {
		this.#left = STEPS_PER_PASS;
	}

	/** What commands do between operations has no bound: nobody waits for them. */
	end(): void {
		this.#left = Number.POSITIVE_INFINITY;
	}

	/** Whether `spend` of so much would throw. A part that is larger than all of the budget is done at the beginning of a pass. */
	isSpent(steps: number): boolean {
		return steps > this.#left && this.#left < STEPS_PER_PASS;
	}

	/**
	 * To be called before each part of a long piece of work, with its steps. Throws Pending where the budget is used up. What was done must be where
	 * the next pass finds it; `reached` stays in memory until then, with all directories above it.
	 */
	spend(steps: number, reached: Node | null): void {
		if (!this.isSpent(steps)) {
			this.#left -= steps;
			return;
		}
		if (reached !== null) this.#nodes.keep(reached);
		throw new Pending(nextTurn());
	}
}

const waiting: (() => void)[] = [];

/** Resolves when the event loop has been round, for one waiting pass of this process each time: between two of them all others are answered. */
export function nextTurn(): Promise<void> {
	return new Promise((resolve) => {
		waiting.push(resolve);
		if (waiting.length === 1) setImmediate(turn);
	});
}

function turn(): void {
	waiting.shift()?.();
	if (waiting.length > 0) setImmediate(turn);
}

/** What a long walk may hold the main thread, with a step of it still to come: a part of the 20 ms. */
const WALK_MS = 5;

/** A walk through a whole export, in a server or outside of one: others are let in between its steps. */
export class Walk {
	#began = performance.now();

	/** To be called between steps of at most a few ms. */
	async pause(): Promise<void> {
		if (performance.now() - this.#began < WALK_MS) return;
		await nextTurn();
		this.#began = performance.now();
	}
}
