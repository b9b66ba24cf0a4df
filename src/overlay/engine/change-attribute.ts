// Values of the change attribute: from the ctime, made strictly growing where that stands still.

import type { DescriptorCache, Real } from "../../layer/real.ts";
import { RealObjectError } from "../../layer/real.ts";
import { moveChangeTime } from "../../linux/attributes.ts";
import { close, O } from "../../linux/open.ts";
import { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { unlessFull } from "../../vfs/system-errors.ts";
import type { Partials } from "../data/partials.ts";
import type { Ahead, Node } from "../nodes/node.ts";
import { type AheadInode, ChangeRecord } from "../work/change-record.ts";
import { runOf } from "../work/partial-record.ts";
import type { UpperState } from "../work/upper-state.ts";

/** Objects whose value is ahead of their ctime, remembered at a time. The oldest are touched when there are more. */
const AHEAD_MAX = 4096;
/** While a tick of the clock lasts none can be touched; so many are out of reach of any clock, and then all values are moved on. */
const AHEAD_LIMIT = 4 * AHEAD_MAX;
/** One write to the record allows for so many further values of an object. */
const CEILING_STEP = 256;
/** Values are microseconds in the lower 52 bits, which last until 2112, and an epoch above them. */
const MICROS_MAX = 2 ** 52 - 1;
const EPOCH_MAX = 0xfff;
const HALF = 0x100000000;
/** Clocks that are set back by less cannot be told from their own rounding. */
const CLOCK_JITTER_MS = 5;
/** Two clocks that took longer to read say nothing of each other. */
const CLOCK_READ_MS = 1;
/** A change so long after the ctime that was given out gets a later one, of the coarsest clock of a kernel (10 ms) too. */
const TICK_MICROS = 25_000;
/** Changes of one inode, each looked at, by which a start finds out how the clock of time stamps runs. */
const PROBES = 4;
/** The coarsest time stamps of a file system that can be an upper: ext4 with small inodes. */
const TICK_MS_MAX = 1100;
const TICK_RETRY_MS = 5;
const TOUCHED_AT_ONCE = 256;

/** Microseconds since 1970 of the ctime. */
export function microsOf(stat: Stat): number {
	const micros = stat.ctimeSec * 1_000_000 + Math.floor(stat.ctimeNsec / 1000);
	return micros < 0 ? 0 : micros > MICROS_MAX ? MICROS_MAX : micros;
}

/**
 * A value is an epoch and the microseconds of the ctime that clients see. Objects of lowers have the epoch of their layers, objects of upper a
 * higher one: so a copy up raises a value whatever the two clocks say. Where a change leaves the ctime as it was when it was last looked
 * at, as in one tick of a coarse clock, the value becomes one more than before, and the object is `Ahead` until its ctime has passed that.
 */
export class ChangeAttribute {
	/** Of objects of lowers. */
	readonly lowerEpoch: number;
	/** Of objects of upper. */
	epoch: number;
	/** Set before it begins: upper may be older than the last server has left it. */
	mayBeOlder = false;
	/** What is ahead, the oldest first. */
	readonly ahead = new Map<string, Ahead>();
	/** See OverlayOperations.onChange. */
	readonly told: ((node: Node, isByCommand: boolean) => void)[] = [];
	/** A step of a command is under way. */
	isByCommand = false;
	readonly #descriptors: DescriptorCache;
	/** Two changes of an inode can have the same ctime, although it was looked at in between. */
	#isCoarse = true;
	/** A value was given out by this process. */
	#isShown = false;
	#raises = 0;
	/** Of objects that have left their values are not known any more. */
	#hasLeft = false;
	#record: ChangeRecord | null = null;
	#run: Buffer = Buffer.alloc(0);
	#partials: Partials | null = null;
	/** Places of the record that are free below `#placesUsed`. */
	readonly #freePlaces: number[] = [];
	#placesUsed = 0;
	/** Not before this, in milliseconds of running time, is a tick awaited again. */
	#touchAt = 0;
	/** Wall clock less running time, in milliseconds. */
	#clockOffset = Number.NaN;

	/** `rebases`: how often a lower was exchanged under the export. */
	constructor(rebases: number, descriptors: DescriptorCache) {
		this.lowerEpoch = Math.min(rebases, EPOCH_MAX - 1);
		this.epoch = this.lowerEpoch + 1;
		this.#descriptors = descriptors;
	}

	/** Takes up where the last server has left it. */
	begin(writable: UpperState, folder: string, upper: string, partials: Partials | null): void {
		this.#partials = partials;
		this.#run = runOf(upper);
		// a new one, and no room for it: after a kill values begin anew then
		unlessFull(() => {
			this.#record = new ChangeRecord(folder);
		});
		const record = this.#record as ChangeRecord | null;
		if (record === null) return;
		const before = record.read();
		this.#raises = before?.raises ?? 0;
		let mustRaise = this.mayBeOlder;
		if (before !== null) {
			// what was given out and not flushed may be lost, and what is there now is older
			if (!before.isClean && !before.run.equals(this.#run)) mustRaise = true;
			else if (!before.isClean && !touchAll(writable, record.inodes())) mustRaise = true;
			if (Date.now() < before.time - CLOCK_JITTER_MS) mustRaise = true;
		}
		if (mustRaise) this.#raises++;
		this.epoch = Math.min(this.lowerEpoch + 1 + this.#raises, EPOCH_MAX);
		unlessFull(() => {
			this.#writeHead(false);
			record.forgetInodes();
			this.#isCoarse = record.hasCoarseTimes(PROBES);
		});
	}

	/** To be called before an object is changed. */
	expect(node: Node): void {
		for (const tell of this.told) tell(node, this.isByCommand);
		// a value of a lower says all that can change of it there
		if (!node.isUpper) return;
		node.isChanged = true;
		if (!this.#isCoarse || !this.#isShown) return;
		if (node.changeEpoch !== this.epoch && node.changeEpoch >= 0) return;
		this.#adopt(node);
		const now = Date.now() * 1000;
		if (node.change >= 0 && now - node.change > TICK_MICROS) return;
		// the change may be the last thing that this process does, or the Node be evicted
		const ahead = this.#aheadOf(node);
		ahead.isChanged = true;
		this.#allow(ahead, Math.max(node.change, node.change < 0 ? now : 0) + 1);
	}

	/**
	 * To be called before an object changes its name in exchange for another, which is no change of it where the ctime stays, as on xfs. A coarse
	 * clock hides whether it stays.
	 */
	expectExchange(node: Node): void {
		if (this.#isCoarse) this.expect(node);
	}

	/** Gives every object a ctime past its value, so that nothing is left to be remembered; says so on the disk when `flush` has made that stable. */
	async end(flush: () => Promise<void>): Promise<void> {
		const record = this.#record;
		if (record === null) {
			await flush();
			return;
		}
		const until = performance.now() + TICK_MS_MAX;
		while (this.ahead.size > 0) {
			this.#touchOldest(TOUCHED_AT_ONCE);
			const isLate = performance.now() > until;
			if (this.ahead.size > 0 && isLate) this.raise();
			else if (this.ahead.size > 0) await new Promise((resolve) => setTimeout(resolve, TICK_RETRY_MS));
		}
		await flush();
		unlessFailing(() => {
			record.forgetInodes();
			this.#writeHead(true);
		});
		this.close();
	}

	close(): void {
		this.#record?.close();
		this.#record = null;
	}

	/** The microseconds of the value of an object of upper, given out for good. `stat`: as clients see it. */
	give(node: Node, stat: Stat): number {
		this.#isShown = true;
		const shown = microsOf(stat);
		if (node.changeEpoch !== this.epoch) {
			if (node.changeEpoch >= 0) this.#beginAnew(node, shown);
			node.changeEpoch = this.epoch;
		}
		this.#adopt(node);
		// only a coarse clock can have shown the same before
		const isUnknown = node.change < 0 && this.#isCoarse;
		if (shown > node.change && !(isUnknown && node.isChanged)) {
			node.change = shown;
			if (node.ahead !== null) this.#forget(node);
		} else if (node.isChanged) {
			node.change = (isUnknown ? shown : node.change) + 1;
			const ahead = this.#aheadOf(node);
			ahead.value = node.change;
			ahead.isChanged = false;
			this.#allow(ahead, ahead.value);
		}
		node.isChanged = false;
		return node.change;
	}

	/** The upper half of a value with these microseconds. */
	hi(isUpper: boolean, micros: number): number {
		return (isUpper ? this.epoch : this.lowerEpoch) * 0x100000 + Math.floor(micros / HALF);
	}

	/** To be called now and then: a clock that was set back would give changes a lower ctime than earlier ones. */
	checkClock(): void {
		const before = performance.now();
		const offset = Date.now() - before;
		// in between another process may have run
		if (performance.now() - before > CLOCK_READ_MS) return;
		if (offset < this.#clockOffset - CLOCK_JITTER_MS) this.raise();
		if (!(Math.abs(offset - this.#clockOffset) <= CLOCK_JITTER_MS)) this.#clockOffset = offset;
	}

	/** Moves the values of all objects of upper on. */
	raise(): void {
		this.#raises++;
		this.epoch = Math.min(this.lowerEpoch + 1 + this.#raises, EPOCH_MAX);
		this.ahead.clear();
		this.#freePlaces.length = 0;
		this.#placesUsed = 0;
		unlessFailing(() => {
			this.#writeHead(false);
			this.#record?.forgetInodes();
		});
	}

	#writeHead(isClean: boolean): void {
		this.#record?.write({ raises: this.#raises, isClean, run: this.#run, time: Date.now() });
	}

	/** What was known of it is of an earlier epoch. */
	#beginAnew(node: Node, shown: number): void {
		node.change = shown;
		node.isChanged = false;
		node.ahead = null;
	}

	/** What is known of the object from another Node. */
	#adopt(node: Node): void {
		if (node.ahead !== undefined) return;
		node.ahead = this.ahead.size === 0 ? null : (this.ahead.get(node.key) ?? null);
		if (node.ahead === null) return;
		if (node.ahead.value > node.change) node.change = node.ahead.value;
		if (node.ahead.isChanged) node.isChanged = true;
	}

	#aheadOf(node: Node): Ahead {
		const known = node.ahead;
		if (known != null && this.ahead.get(node.key) === known) return known;
		const place = this.#freePlaces.pop() ?? this.#placesUsed++;
		const ahead = { real: node.top, value: node.change, ceiling: 0, isChanged: false, place };
		node.ahead = ahead;
		this.ahead.set(node.key, ahead);
		this.#bound();
		return ahead;
	}

	/** After a kill the next server lets the ctime pass the ceiling. */
	#allow(ahead: Ahead, value: number): void {
		if (value <= ahead.ceiling) return;
		ahead.ceiling = value + CEILING_STEP;
		unlessFailing(() => this.#record?.writeInode(ahead.place, { handle: ahead.real.handle, ceiling: ahead.ceiling }));
	}

	#bound(): void {
		if (this.ahead.size < AHEAD_MAX + TOUCHED_AT_ONCE) return;
		const now = performance.now();
		if (now >= this.#touchAt) {
			this.#touchAt = now + TICK_RETRY_MS;
			this.#touchOldest(TOUCHED_AT_ONCE);
		}
		if (this.ahead.size > AHEAD_LIMIT) this.raise();
	}

	/** The upper inode of an object is gone, while the object lives on in a lower. What it makes of a later one must be told from all that was given out. */
	leave(node: Node): void {
		this.#adopt(node);
		this.#forget(node);
		node.isChanged = false;
		if (this.#isCoarse) this.#hasLeft = true;
	}

	/** To be called when objects have left: a coarse clock could give a later upper inode a value that was given out of an earlier one. */
	endOfLeaving(): void {
		if (this.#hasLeft) this.raise();
		this.#hasLeft = false;
	}

	#forget(node: Node): void {
		const { ahead } = node;
		node.ahead = null;
		if (ahead != null && this.ahead.get(node.key) === ahead) this.#drop(node.key, ahead);
	}

	#drop(key: string, { place }: Ahead): void {
		this.ahead.delete(key);
		this.#freePlaces.push(place);
	}

	/** Lets the ctime of the oldest pass what was given out. Ends at the first for which its tick still lasts. */
	#touchOldest(most: number): void {
		let left = most;
		for (const [key, ahead] of this.ahead) {
			if (left-- === 0) return;
			const outcome = this.#touch(ahead.real, ahead.value);
			if (outcome === "too early") return;
			if (outcome === "failed") {
				this.raise();
				return;
			}
			this.#drop(key, ahead);
		}
	}

	#touch(real: Real, value: number): Touched {
		let fd: number;
		try {
			fd = this.#descriptors.path(real);
		} catch (error) {
			if (error instanceof RealObjectError) return error.gone ? "passed" : "failed";
			throw error;
		}
		const outcome = touch(real.layer, fd, value);
		const partial = this.#partials?.ofReal(real) ?? null;
		// clients see the ctime of the last change by one of them, and this stands for one
		if (partial !== null) this.#partials?.noteChanged(partial, false);
		return outcome;
	}
}

/** What the record on a full or failing disk lacks counts after a kill alone: no request fails for it. */
function unlessFailing(write: () => void): void {
	try {
		write();
	} catch (error) {
		if (!(error instanceof OverlayError)) throw error;
	}
}

type Touched = "passed" | "too early" | "failed";

const scratch = new Stat();

/** Moves the ctime of an inode to now, unless it is past the value already. */
function touch(layer: UpperState["layer"], fd: number, value: number): Touched {
	if (layer.stat(fd, scratch) < 0) return "failed";
	if (microsOf(scratch) > value) return "passed";
	if (moveChangeTime(fd) < 0) return "failed";
	if (layer.stat(fd, scratch) < 0) return "failed";
	return microsOf(scratch) > value ? "passed" : "too early";
}

/** After a kill: whether every inode has passed what was given out of it. */
function touchAll({ layer }: UpperState, inodes: readonly AheadInode[]): boolean {
	const until = performance.now() + TICK_MS_MAX;
	for (const { handle, ceiling } of inodes) {
		const fd = layer.handles.open(handle, O.path | O.nofollow);
		// it is gone, and its handle too
		if (fd < 0) continue;
		try {
			for (;;) {
				const outcome = touch(layer, fd, ceiling);
				if (outcome === "passed") break;
				if (outcome === "failed" || performance.now() > until) return false;
				Atomics.wait(sleeper, 0, 0, TICK_RETRY_MS);
			}
		} finally {
			close(fd);
		}
	}
	return true;
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));
