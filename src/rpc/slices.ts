// Runs what has become ready in slices of time, so that others are answered between two of them.

/** Then the event loop goes round. */
const SLICE_MS = 5;
/** No small integer, as moments are none: see docs/decisions/029-warm-up.md. */
const NOT_BEGUN = Number.NEGATIVE_INFINITY;

/** `isFulfilled`: how that ended which it waited for. */
type Task = (isFulfilled: boolean) => void;

/** Many requests may wait for one thing, and be ready in one moment: they go on one after the other, in as many turns of the event loop as it takes. */
export class Slices {
	readonly #clock: () => number;
	/** When the slice of the present turn began; negative: it has none yet. */
	#begun = NOT_BEGUN;
	#next = 0;
	#waiting: Task[] = [];
	/** What goes on when a promise is settled: one reaction to it for all, since the event loop stands still while reactions run. */
	readonly #after = new Map<Promise<unknown>, Task[]>();

	constructor(clock: () => number = () => performance.now()) {
		this.#clock = clock;
	}

	/** Tasks whose turn has not come. */
	get size(): number {
		return this.#waiting.length - this.#next;
	}

	/** Whether the slice of the present turn is over: who may leave more for a later one is to do so. */
	get isSpent(): boolean {
		const now = this.#clock();
		this.#enter(now);
		return now - this.#begun >= SLICE_MS;
	}

	/** Runs a task at once, or in a later turn, behind all that came before it. */
	run(task: Task): void {
		const now = this.#clock();
		this.#enter(now);
		if (this.size === 0 && now - this.#begun < SLICE_MS) task(true);
		else this.#waiting.push(task);
	}

	/** Runs a task when a promise is settled, as `run` does. */
	after(ready: Promise<unknown>, task: Task): void {
		const known = this.#after.get(ready);
		if (known !== undefined) {
			known.push(task);
			return;
		}
		const tasks = [task];
		this.#after.set(ready, tasks);
		ready.then(
			() => this.#settled(ready, tasks),
			() =>
				this.#settled(
					ready,
					tasks.map((one) => () => one(false)),
				),
		);
	}

	#settled(ready: Promise<unknown>, tasks: Task[]): void {
		this.#after.delete(ready);
		if (tasks.length === 1) {
			this.run(tasks[0]);
			return;
		}
		this.#enter(this.#clock());
		if (this.size > 0) for (const task of tasks) this.#waiting.push(task);
		else {
			this.#waiting = tasks;
			this.#next = 0;
		}
	}

	#enter(now: number): void {
		if (this.#begun >= 0) return;
		this.#begun = now;
		setImmediate(() => this.#turn());
	}

	#turn(): void {
		if (this.size === 0) {
			this.#begun = NOT_BEGUN;
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
			task(true);
		} while (this.size > 0 && this.#clock() - this.#begun < SLICE_MS);
	}
}
