// Runs what has become ready in slices of time and in turns of its owners, so that nobody waits behind all that another one has asked for.

/** Then the event loop goes round. */
const SLICE_MS = 5;
/** No small integer, as moments are none: see docs/decisions/029-warm-up.md. */
const NOT_BEGUN = Number.NEGATIVE_INFINITY;

/** `isFulfilled`: how that ended which it waited for. */
type Task = (isFulfilled: boolean) => void;

/** The tasks of one owner, a connection, that wait for their turn: one after the other, in their order. */
export class Line {
	#tasks: Task[] = [];
	#next = 0;

	get size(): number {
		return this.#tasks.length - this.#next;
	}

	add(task: Task): void {
		this.#tasks.push(task);
	}

	take(): Task {
		const task = this.#tasks[this.#next++];
		if (this.size === 0) {
			this.#tasks = [];
			this.#next = 0;
		}
		return task;
	}
}

/** What goes on when a promise is settled: tasks, each with the line that it belongs to. */
interface Waiting {
	readonly lines: Line[];
	readonly tasks: Task[];
}

/**
 * Many requests may wait for one thing, and be ready in one moment: they go on in as many turns of the event loop as it takes. Of each line one task
 * has its turn, then one of the next line: so a line with one task waits for as many as there are lines, and not for thousands of another's.
 */
export class Slices {
	readonly #clock: () => number;
	/** When the slice of the present turn began; negative: it has none yet. */
	#begun = NOT_BEGUN;
	/** Those with tasks, the next one first. */
	readonly #lines: Line[] = [];
	#size = 0;
	/** One reaction to a promise for all, since the event loop stands still while reactions run. */
	readonly #after = new Map<Promise<unknown>, Waiting>();

	constructor(clock: () => number = () => performance.now()) {
		this.#clock = clock;
	}

	/** Tasks whose turn has not come. */
	get size(): number {
		return this.#size;
	}

	/** Lines that take turns. */
	get lines(): number {
		return this.#lines.length;
	}

	/** Whether the slice of the present turn is over: who may leave more for a later one is to do so. */
	get isSpent(): boolean {
		const now = this.#clock();
		this.#enter(now);
		return now - this.#begun >= SLICE_MS;
	}

	/** Runs a task at once, or in a later turn, behind all that came before it in its line. */
	run(line: Line, task: Task): void {
		const now = this.#clock();
		this.#enter(now);
		if (this.#size === 0 && now - this.#begun < SLICE_MS) task(true);
		else this.#add(line, task);
	}

	/** Runs a task when a promise is settled, as `run` does. */
	after(ready: Promise<unknown>, line: Line, task: Task): void {
		const known = this.#after.get(ready);
		if (known !== undefined) {
			known.lines.push(line);
			known.tasks.push(task);
			return;
		}
		const waiting = { lines: [line], tasks: [task] };
		this.#after.set(ready, waiting);
		ready.then(
			() => this.#settled(ready, waiting),
			() => this.#settled(ready, { lines: waiting.lines, tasks: waiting.tasks.map((one) => () => one(false)) }),
		);
	}

	#settled(ready: Promise<unknown>, { lines, tasks }: Waiting): void {
		this.#after.delete(ready);
		if (tasks.length === 1) {
			this.run(lines[0], tasks[0]);
			return;
		}
		this.#enter(this.#clock());
		for (let i = 0; i < tasks.length; i++) this.#add(lines[i], tasks[i]);
	}

	#add(line: Line, task: Task): void {
		if (line.size === 0) this.#lines.push(line);
		line.add(task);
		this.#size++;
	}

	#enter(now: number): void {
		if (this.#begun >= 0) return;
		this.#begun = now;
		setImmediate(() => this.#turn());
	}

	#turn(): void {
		if (this.#size === 0) {
			this.#begun = NOT_BEGUN;
			return;
		}
		this.#begun = this.#clock();
		setImmediate(() => this.#turn());
		do {
			const line = this.#lines.shift() as Line;
			const task = line.take();
			if (line.size > 0) this.#lines.push(line);
			this.#size--;
			task(true);
		} while (this.#size > 0 && this.#clock() - this.#begun < SLICE_MS);
	}
}
