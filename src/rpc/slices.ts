// Runs what has become ready in slices of time, so that others are answered between two of them.

/** Then the event loop goes round. */
const SLICE_MS = 5;

/** Many requests may wait for one thing, and be ready in one moment: they go on one after the other, in as many turns of the event loop as it takes. */
export class Slices {
	readonly #clock: () => number;
	/** When the slice of the present turn began; negative: it has none yet. */
	#begun = -1;
	#next = 0;
	#waiting: (() => void)[] = [];

	constructor(clock: () => number = () => performance.now()) {
		this.#clock = clock;
	}

	/** Tasks whose turn has not come. */
	get size(): number {
		return this.#waiting.length - this.#next;
	}

	/** Runs a task at once, or in a later turn, behind all that came before it. */
	run(task: () => void): void {
		const now = this.#clock();
		if (this.#begun < 0) {
			this.#begun = now;
			setImmediate(() => this.#turn());
		}
		if (this.size === 0 && now - this.#begun < SLICE_MS) task();
		else this.#waiting.push(task);
	}

	#turn(): void {
		if (this.size === 0) {
			this.#begun = -1;
			return;
		}
		this.#begun = this.#clock();
		setImmediate(() => this.#turn());
		do {
			const task = this.#waiting[this.#next++];
			if (this.size === 0) {
				this.#waiting = [];
				this.#next = 0;
			}
			task();
		} while (this.size > 0 && this.#clock() - this.#begun < SLICE_MS);
	}
}
