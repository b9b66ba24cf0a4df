// All partial files of an export: made, written to, filled in the background, completed, and found again at a start.

import { clearRange, mayShareExtents } from "../../layer/copy-data.ts";
import { Real } from "../../layer/real.ts";
import { changeTimes } from "../../linux/attributes.ts";
import { cloneFile, countExtents, RWF_NOWAIT, readVector, seekData, writeFrom } from "../../linux/data.ts";
import { ERRNO } from "../../linux/errno.ts";
import { type AddressedBytes, allocate } from "../../linux/memory.ts";
import { close, O } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { removeXattr, setXattr } from "../../linux/xattr.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import type { Timespec } from "../../vfs/operations.ts";
import { errnoOf, failed, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { decodeRecord } from "../format/identity.ts";
import type { Node } from "../nodes/node.ts";
import type { NodeCache } from "../nodes/node-cache.ts";
import { recordOf } from "../nodes/reals.ts";
import { type Threads, threadsFor } from "../threads/patience.ts";
import { readData } from "../threads/read-data.ts";
import { granuleBytesFor, type PartialRecords } from "../work/partial-record.ts";
import type { UpperState } from "../work/upper-state.ts";
import { type DataContext, dataOfReal, isMetacopy, unmarkMetacopy } from "./data-files.ts";
import { dropKeptCapability, keepCapability, restoreCapability } from "./kept-capability.ts";
import { emptyBits, type Flight, PartialFile } from "./partial-file.ts";

/** How large files are copied up. */
export interface PartialLimits {
	/** Smaller files are copied whole before the first write is answered. */
	readonly bytesMin: number;
	/** The least that is copied of a file when a part of it is needed. */
	readonly granuleBytes: number;
	/** Copy the rest in the background. */
	readonly fills: boolean;
}

export const PARTIAL_LIMITS: PartialLimits = {
	bytesMin: 1024 * 1024,
	granuleBytes: 64 * 1024,
	fills: true,
};

/** Clients see the times of their own last change of a partial file, and not what its fill makes of them. */
export function showTimes(partials: Partials, node: Node, stat: Stat): void {
	const file = partials.of(node);
	if (file !== null) partials.showTimes(file, stat);
}

/** Of a file that is cloned on the main thread: a few milliseconds. */
const CLONED_EXTENTS_MAX = 512;
/** Copied at a time in the background: a request that needs a part of it waits for the rest too. */
const CHUNK_BYTES = 4 * 1024 * 1024;
/** Larger granules are never copied on the main thread. */
const EDGE_BYTES_MAX = 256 * 1024;
/** Fills at a time, so that most threads are left for what somebody waits for. */
const FILLS_MAX = 2;
/** The first answers go out before the disk is kept busy. */
const FILL_DELAY_MS = 100;
/** Before a fill that has failed, as for lack of space, is tried again. */
const RETRY_MS = 30_000;

/** Makes what was written through a descriptor stable; 0, or the negated error number. */
export type Flush = (fd: number) => Promise<number>;

/** The part of an engine that partial files work with. */
export interface PartialsContext extends DataContext, Threads {
	readonly writable: UpperState | null;
	readonly nodes: NodeCache;
}

/**
 * The files of upper that were written to before all of their data was copied up. Bytes go into the upper file itself, which stays marked
 * as metacopy, so that the kernel too would show the lower's; a record of our own says which of them count (`work/holdfast/partial`).
 * In memory are all of them, however many objects are: there is one for each large file that was written to lately.
 */
export class Partials {
	readonly limits: PartialLimits;
	readonly #engine: PartialsContext;
	readonly records: PartialRecords;
	readonly #flush: Flush;
	/** By the key of the upper file. */
	readonly #files = new Map<string, PartialFile>();
	/** Those to be filled, in turn. */
	readonly #queue = new Set<PartialFile>();
	#fills = 0;
	#timer: NodeJS.Timeout | null = null;
	#isClosed = false;
	#edge: AddressedBytes | undefined;
	/** What runs and must have ended before descriptors are closed. */
	readonly #running = new Set<Promise<unknown>>();

	constructor(engine: PartialsContext, records: PartialRecords, flush: Flush, limits: PartialLimits) {
		this.#engine = engine;
		this.records = records;
		this.#flush = flush;
		this.limits = limits;
	}

	get size(): number {
		return this.#files.size;
	}

	/** The partial file that an object is, or null. */
	of(node: Node): PartialFile | null {
		if (this.#files.size === 0) return null;
		const file = this.#files.get(node.top.key) ?? null;
		if (file !== null) file.node = node;
		return file;
	}

	ofReal(real: Real): PartialFile | null {
		return this.#files.get(real.key) ?? null;
	}

	get all(): readonly PartialFile[] {
		return [...this.#files.values()];
	}

	/** Learns of the files that an earlier run has left, and takes away the records of files that are complete or gone. */
	load(): void {
		const { writable } = this.#engine;
		if (writable === null) return;
		for (const name of this.records.names()) {
			const handle = decodeRecord(Buffer.from(name, "hex"), writable.layer.fileSystem.uuid);
			const fd = handle === null ? -1 : writable.layer.handles.open(handle, O.path | O.nofollow);
			if (handle === null || fd < 0) {
				if (handle !== null && fd === -ERRNO.ESTALE) this.#forget(name);
				continue;
			}
			try {
				const stat = new Stat();
				must(fstat(fd, stat), "Cannot read an upper file");
				const copy = { type: handle.type, bytes: Buffer.from(handle.bytes) };
				const real = new Real(writable.layer, copy, stat.inoHi, stat.inoLo, false);
				if (stat.nlink === 0) this.#forget(name);
				else this.#loadFile(name, real, fd, stat);
			} finally {
				close(fd);
			}
		}
		this.#schedule();
	}

	#loadFile(name: string, real: Real, fd: number, stat: Stat): void {
		this.#restore(fd, null);
		if (!isMetacopy(this.#engine, fd)) {
			this.#forget(name);
			return;
		}
		const found = this.records.read(name);
		if (found === null) {
			this.records.remove(name);
			return;
		}
		// it is smaller where it was cut off since, which the record learns only before it grows again
		const header = { ...found.header, lowerEnd: Math.min(found.header.lowerEnd, stat.size) };
		let data: Real | null = null;
		try {
			data = dataOfReal(this.#engine, real);
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
		}
		const file = new PartialFile(real, name, data, header, found.bits);
		for (const [i, byte] of file.present.entries()) {
			if (byte === file.stable[i]) continue;
			file.dirtyFrom = Math.min(file.dirtyFrom, i);
			file.dirtyTo = i + 1;
		}
		this.#files.set(real.key, file);
		this.#queue.add(file);
	}

	/** Makes a metacopy file whose data is `data` a partial one. Nothing that a client sees changes by it. */
	begin(upper: Real, data: Real, node: Node | null): PartialFile {
		const { descriptors } = this.#engine;
		const stat = new Stat();
		must(fstat(descriptors.path(data), stat), "Cannot read a lower file");
		const dataSize = stat.size;
		must(fstat(descriptors.path(upper), stat), "Cannot read an upper file");
		const lowerEnd = Math.min(stat.size, dataSize);
		this.#clearBehind(upper, lowerEnd, stat);
		const granuleBytes = granuleBytesFor(lowerEnd, this.limits.granuleBytes);
		const granules = Math.ceil(lowerEnd / granuleBytes);
		const header = { granuleBytes, granules, dataSize, lowerEnd };
		const name = recordOf(upper).toString("hex");
		this.records.create(name, header);
		const real = new Real(upper.layer, upper.handle, upper.inoHi, upper.inoLo, false);
		const file = new PartialFile(real, name, data, header, emptyBits(granules));
		file.node = node;
		this.#files.set(real.key, file);
		this.#queue.add(file);
		this.#schedule(FILL_DELAY_MS);
		const { fileSystem } = upper.layer;
		// a clone makes no file smaller, and one that was cut off larger
		if (stat.size >= dataSize && mayShareExtents(data.layer.fileSystem, fileSystem)) this.#clone(file);
		return file;
	}

	/**
	 * Behind the lower's data the bytes of upper count from now on, which were zeros to who read the file so far: a power failure may have taken the
	 * record of an earlier time, and left bytes that were written then.
	 */
	#clearBehind(upper: Real, lowerEnd: number, stat: Stat): void {
		if (stat.size <= lowerEnd) return;
		const fd = this.#engine.descriptors.data(upper, true);
		if (seekData(fd, lowerEnd) === -ERRNO.ENXIO) return;
		must(clearRange(fd, lowerEnd, stat.size), "Cannot clear the end of a file");
		changeTimes(fd, undefined, timesOf(stat).mtime);
	}

	/** Where the file system can share extents all of the data is there at once. */
	#clone(file: PartialFile): void {
		const { descriptors } = this.#engine;
		const to = descriptors.data(file.upper, true);
		const from = descriptors.data(file.data as Real, false);
		// a clone takes as long as there are extents: such a file is filled instead
		if (countExtents(from, CLONED_EXTENTS_MAX + 1) > CLONED_EXTENTS_MAX) return;
		this.#keep(file);
		try {
			if (cloneFile(from, to) === 0) this.#note(file, 0, file.end);
		} finally {
			this.#noteTimes(file);
		}
	}

	/** Reads within the file, as much as comes from one place; 0 where the data of the lower ends before it should. */
	read(file: PartialFile, top: Real, offset: number, length: number, address: number): number {
		const source = this.sourceAt(file, top, offset);
		const end = this.endOfPiece(file, offset, offset + length);
		if (source !== top) file.position = Math.ceil(end / file.granuleBytes);
		return readData(this.#engine, source, address, end - offset, offset);
	}

	/** The real file that holds the byte at this offset: `top`, or the lower's. */
	sourceAt(file: PartialFile, top: Real, offset: number): Real {
		if (offset >= file.lowerEnd || file.isPresent(Math.floor(offset / file.granuleBytes))) return top;
		if (file.data === null) throw new OverlayError("io", "The data of the file lies in a lower, and it is not there");
		return file.data;
	}

	/** Up to where, and at most to `end`, all bytes from this offset on are held by one real file. */
	endOfPiece(file: PartialFile, offset: number, end: number): number {
		const { granuleBytes, lowerEnd } = file;
		if (offset >= lowerEnd) return end;
		const first = Math.floor(offset / granuleBytes);
		const isHere = file.isPresent(first);
		const behind = file.endOfRun(first, Math.min(file.end, Math.ceil(end / granuleBytes)));
		return Math.min(end, behind * granuleBytes, isHere ? Number.POSITIVE_INFINITY : lowerEnd);
	}

	/** To be called before bytes are written: granules that are covered only in part get their other bytes. Pending until they are there. */
	prepareWrite(file: PartialFile, size: number, offset: number, length: number): void {
		this.#prepare(file);
		const end = offset + length;
		if (end > size && !file.mayGrow) throw new Pending(this.#makeGrowable(file));
		if (offset >= file.lowerEnd) return;
		const { granuleBytes } = file;
		const first = Math.floor(offset / granuleBytes);
		const behind = Math.min(Math.ceil(end / granuleBytes), file.end);
		const flight = file.isInFlight(first, behind);
		if (flight !== null) throw new Pending(flight.ready);
		const edges: [number, number][] = [];
		for (const granule of first === behind - 1 ? [first] : [first, behind - 1]) {
			if (file.isPresent(granule)) continue;
			const from = granule * granuleBytes;
			const isCovered = offset <= from && end >= Math.min(from + granuleBytes, file.lowerEnd);
			if (!isCovered && !this.#copyCached(file, granule)) edges.push([granule, granule + 1]);
		}
		file.position = behind;
		if (edges.length > 0) throw new Pending(this.#fly(file, edges).ready);
	}

	/**
	 * Of a write that has ended early: how many bytes count. A granule that it was to cover has not got its other bytes, so it does not count
	 * where the write has ended within it.
	 */
	countWritten(file: PartialFile, offset: number, length: number): number {
		const end = offset + length;
		const granule = Math.floor(end / file.granuleBytes);
		if (end >= file.lowerEnd || file.isPresent(granule)) return length;
		return Math.max(0, granule * file.granuleBytes - offset);
	}

	/** To be called when bytes have been written. */
	noteWritten(file: PartialFile, offset: number, length: number): void {
		const { granuleBytes } = file;
		if (offset < file.lowerEnd) {
			this.#note(file, Math.floor(offset / granuleBytes), Math.min(Math.ceil((offset + length) / granuleBytes), file.end));
		}
		this.noteChanged(file, true);
		if (file.missing === 0) this.#schedule();
	}

	/** To be called before the size is changed. Pending. */
	prepareSize(file: PartialFile, from: number, to: number): void {
		this.prepareTimes(file);
		if (to > from && !file.mayGrow) throw new Pending(this.#makeGrowable(file));
	}

	/** To be called before the times are changed, which a fill would change back. Pending. */
	prepareTimes(file: PartialFile): void {
		this.#prepare(file);
		if (file.flights.length > 0) throw new Pending(Promise.all(file.flights.map(({ ready }) => ready)).then(() => undefined));
	}

	/** While something else works on the upper file nothing is filled. Pending while it is being completed. */
	pause(file: PartialFile): void {
		if (file.completing !== null) throw new Pending(file.completing.then(ignore, ignore));
		file.retryAt = Number.POSITIVE_INFINITY;
	}

	resume(file: PartialFile): void {
		file.retryAt = 0;
		this.#schedule();
	}

	noteSize(file: PartialFile, size: number): void {
		if (size >= file.lowerEnd) return;
		file.lowerEnd = size;
		file.countMissing();
		if (file.missing === 0) this.#schedule();
	}

	/** A client has changed something of the file: what clients see of its times follows. */
	noteChanged(file: PartialFile, isMtime: boolean): void {
		if (file.shown === null) return;
		const stat = new Stat();
		const fd = this.#engine.descriptors.path(file.upper);
		if (fstat(fd, stat) < 0) return;
		const { mtime, ctime } = timesOf(stat);
		file.shown = { mtime: isMtime ? mtime : file.shown.mtime, ctime };
		if (file.flights.length === 0) file.settledCtime = ctime;
		else if (isMtime) {
			must(setXattr(fd, this.#keptTime, encodeTime(mtime)), "Cannot keep the times of a file");
			dropKeptCapability(this.#engine.xattr, fd);
		}
	}

	/** Puts what clients see in the place of the times that a fill has left. */
	showTimes(file: PartialFile, stat: Stat): void {
		const { shown } = file;
		if (shown === null) return;
		if (file.flights.length === 0 && file.settledCtime !== null && !isSameTime(file.settledCtime, timesOf(stat).ctime)) return;
		stat.mtimeSec = shown.mtime.sec;
		stat.mtimeNsec = shown.mtime.nsec;
		stat.ctimeSec = shown.ctime.sec;
		stat.ctimeNsec = shown.ctime.nsec;
	}

	/**
	 * To be called before the content of the file is flushed. What it returns is to be told how that ended (0, or the negated error number),
	 * and says in the same way when all of it is stable.
	 */
	stabilise(file: PartialFile): (flushed: number) => Promise<number> {
		const { dirtyFrom: from, dirtyTo: to, flushing: former } = file;
		if (from >= to) return async (flushed) => flushed || ((await former) ?? 0);
		const snapshot = Uint8Array.prototype.slice.call(file.present, from, to);
		file.dirtyFrom = Number.POSITIVE_INFINITY;
		file.dirtyTo = 0;
		let tell: (flushed: number) => void = () => {};
		const told = new Promise<number>((resolve) => {
			tell = resolve;
		});
		const finish = async () => {
			const status = (await told) || ((await former) ?? 0) || (await this.#writeStable(file, from, snapshot));
			if (status === 0) return 0;
			file.dirtyFrom = Math.min(file.dirtyFrom, from);
			file.dirtyTo = Math.max(file.dirtyTo, to);
			return status;
		};
		const flushing = this.#track(finish());
		file.flushing = flushing;
		const end = () => {
			if (file.flushing === flushing) file.flushing = null;
		};
		flushing.then(end, end);
		return (flushed) => {
			tell(flushed);
			return flushing;
		};
	}

	async #writeStable(file: PartialFile, from: number, snapshot: Uint8Array): Promise<number> {
		// a file that is complete by now has its bits no more, and is as stable as its end is
		if (file.isEnded) {
			await file.completing;
			return file.endStatus;
		}
		try {
			for (const [i, byte] of snapshot.entries()) file.stable[from + i] |= byte;
			this.records.writeStable(file.name, file.stable, from, from + snapshot.length);
			return await this.#syncRecord(file);
		} catch (error) {
			if (error instanceof OverlayError) return errnoOf(error);
			throw error;
		}
	}

	async #syncRecord(file: PartialFile): Promise<number> {
		const fd = this.records.descriptor(file.name);
		const status = (await this.#engine.offload.run({ kind: "sync", fd, scope: "file" })) as number;
		close(fd);
		return status;
	}

	/** The object is gone: what is known of it goes too. */
	drop(real: Real): void {
		const file = this.#files.get(real.key);
		if (file !== undefined) {
			file.isEnded = true;
			this.#files.delete(real.key);
			this.#queue.delete(file);
			this.#engine.descriptors.drop(file.upper);
		}
		this.#forget(recordOf(real).toString("hex"));
	}

	/** Copies all that is missing, and makes the file an ordinary one. OverlayError: it stays partial. */
	async complete(file: PartialFile, onBytes: (bytes: number) => void = () => {}): Promise<void> {
		while (!file.isEnded && file.missing > 0) {
			const run = file.nextMissing(this.#chunk(file));
			const flight = run === null ? file.flights[0] : this.#fly(file, [run]);
			await flight.ready;
			if (file.failure !== null) {
				const { failure } = file;
				file.failure = null;
				throw failure;
			}
			if (run !== null) onBytes(Math.min(run[1] * file.granuleBytes, file.lowerEnd) - run[0] * file.granuleBytes);
		}
		if (!file.isEnded && !(await this.#complete(file))) throw new OverlayError("io", "Cannot complete a file that is copied up in part");
	}

	/** One step of the fill, of at most so many granules: for tests, which decide when. */
	async fillStep(file: PartialFile, granules: number): Promise<void> {
		const run = file.nextMissing(granules);
		if (run !== null) await this.#fly(file, [run]).ready;
		else if (file.missing === 0) await this.#complete(file);
	}

	/** Makes what was written to all of them stable, and ends the fills. No operation may follow. */
	async close(): Promise<void> {
		const dirty = this.all.filter((file) => file.dirtyFrom < file.dirtyTo);
		if (this.#timer !== null) clearTimeout(this.#timer);
		this.#timer = null;
		this.#queue.clear();
		while (this.#running.size > 0) await Promise.allSettled([...this.#running]);
		for (const file of dirty) if (!file.isEnded) await this.#flushFile(file);
		this.#isClosed = true;
	}

	async #flushFile(file: PartialFile): Promise<number> {
		const fd = file.upper.layer.handles.open(file.upper.handle, O.rdonly | O.noatime | O.nofollow);
		if (fd < 0) return fd;
		const stabilised = this.stabilise(file);
		const status = await this.#flush(fd);
		close(fd);
		return stabilised(status);
	}

	#track<T>(promise: Promise<T>): Promise<T> {
		this.#running.add(promise);
		const end = () => this.#running.delete(promise);
		promise.then(end, end);
		return promise;
	}

	/** A copy that could not be made for a request is told to it; bits that could not be written are written before anything else. */
	#prepare(file: PartialFile): void {
		if (file.failure !== null) {
			const { failure } = file;
			file.failure = null;
			throw failure;
		}
		this.#writeBits(file);
	}

	#note(file: PartialFile, first: number, end: number): void {
		file.markPresent(first, end);
		this.#writeBits(file);
	}

	#writeBits(file: PartialFile): void {
		const { unwrittenFrom: from, unwrittenTo: to } = file;
		if (from >= to) return;
		this.records.writePresent(file.name, file.header, file.present, from, to);
		file.unwrittenFrom = Number.POSITIVE_INFINITY;
		file.unwrittenTo = 0;
	}

	/** What the kernel has of a granule in memory is copied at once. */
	#copyCached(file: PartialFile, granule: number): boolean {
		if (file.data === null) throw new OverlayError("io", "The data of the file lies in a lower, and it is not there");
		const { descriptors } = this.#engine;
		const { granuleBytes } = file;
		if (granuleBytes > EDGE_BYTES_MAX) return false;
		if (this.#edge === undefined || this.#edge.bytes.length < granuleBytes) this.#edge = allocate(granuleBytes);
		const { bytes, address } = this.#edge;
		const offset = granule * granuleBytes;
		const length = Math.min(granuleBytes, file.lowerEnd - offset);
		if (readVector(descriptors.data(file.data, false), address, length, offset, RWF_NOWAIT) !== length) return false;
		const fd = descriptors.data(file.upper, true);
		this.#keep(file);
		try {
			for (let done = 0; done < length; ) {
				done += must(writeFrom(fd, bytes.subarray(done, length), offset + done), "Cannot write a file");
			}
			this.#note(file, granule, granule + 1);
		} finally {
			this.#noteTimes(file);
		}
		return true;
	}

	/** Sends granules on their way; the promise is never rejected. */
	#fly(file: PartialFile, runs: Flight["runs"]): Flight {
		if (file.data === null) throw new OverlayError("io", "The data of the file lies in a lower, and it is not there");
		const { data, upper, granuleBytes, lowerEnd } = file;
		const from = must(data.layer.handles.open(data.handle, O.rdonly | O.noatime), "Cannot open a lower file");
		const to = upper.layer.handles.open(upper.handle, O.rdwr | O.nofollow | O.noatime);
		if (to < 0) close(from);
		must(to, "Cannot open an upper file");
		try {
			this.#keep(file);
		} catch (error) {
			close(from);
			close(to);
			throw error;
		}
		const ranges = runs.map(([first, end]) => [first * granuleBytes, Math.min(end * granuleBytes, lowerEnd)] as const);
		const flight: { -readonly [field in keyof Flight]: Flight[field] } = { runs, ready: Promise.resolve() };
		const end = (failure: OverlayError | null) => {
			close(from);
			close(to);
			file.flights.splice(file.flights.indexOf(flight), 1);
			if (file.isEnded || this.#isClosed) return;
			try {
				if (failure === null) for (const [first, behind] of runs) this.#note(file, first, behind);
				this.#noteTimes(file);
				file.failure ??= failure;
			} catch (error) {
				if (!(error instanceof OverlayError)) throw error;
				file.failure = error;
			}
			this.#schedule();
		};
		file.flights.push(flight);
		flight.ready = this.#track(
			threadsFor(this.#engine, data.layer)
				.run({ kind: "fill", from, to, ranges, flush: false })
				.then(
					(status) => end((status as number) < 0 ? failed("Cannot copy a file up", status as number) : null),
					(error) => end(new OverlayError("io", (error as Error).message)),
				),
		);
		return flight;
	}

	/** Before a file that was cut off grows: that it was smaller, and how small, must be on the disk. */
	#makeGrowable(file: PartialFile): Promise<void> {
		const { lowerEnd } = file;
		return this.#track(
			(async () => {
				const flushed = await this.#flushFile(file);
				let status = flushed;
				if (status === 0 && !file.isEnded && !this.#isClosed) {
					// the smallest size of all by now: it says nothing too much, for the file has had it
					this.records.writeHeader(file.name, { ...file.header, lowerEnd });
					status = await this.#syncRecord(file);
				}
				if (status === 0) file.stableEnd = lowerEnd;
				else file.failure = failed("Cannot flush a file", status);
			})().catch((error) => {
				file.failure = error instanceof OverlayError ? error : new OverlayError("io", (error as Error).message);
			}),
		);
	}

	get #keptTime(): string {
		return `${this.#engine.xattr.identity}.mtime`;
	}

	/** Before bytes are copied: what that changes and no client may see is kept on the file itself, for a later start too. */
	#keep(file: PartialFile): void {
		if (file.flights.length > 0) return;
		const fd = this.#engine.descriptors.path(file.upper);
		const stat = new Stat();
		must(fstat(fd, stat), "Cannot read an upper file");
		const now = timesOf(stat);
		if (file.shown === null || file.settledCtime === null || !isSameTime(file.settledCtime, now.ctime)) file.shown = now;
		must(setXattr(fd, this.#keptTime, encodeTime(file.shown.mtime)), "Cannot keep the times of a file");
		keepCapability(this.#engine.xattr, fd);
	}

	/** When nothing is copied any more. */
	#noteTimes(file: PartialFile): void {
		if (file.flights.length > 0) return;
		const fd = this.#engine.descriptors.path(file.upper);
		this.#restore(fd, file);
		const stat = new Stat();
		if (fstat(fd, stat) === 0) file.settledCtime = timesOf(stat).ctime;
	}

	#restore(fd: number, file: PartialFile | null): void {
		const kept = xattrOrNone(fd, this.#keptTime, "Cannot read the time of a file");
		const time = file?.shown?.mtime ?? (kept === null ? null : decodeTime(kept));
		if (time !== null) changeTimes(fd, undefined, time);
		restoreCapability(this.#engine.xattr, fd);
		if (kept !== null) must(removeXattr(fd, this.#keptTime), "Cannot set the times of a file");
	}

	#chunk(file: PartialFile): number {
		return Math.max(1, Math.floor(CHUNK_BYTES / file.granuleBytes));
	}

	#schedule(delay = 0): void {
		if (!this.limits.fills || this.#isClosed || this.#queue.size === 0) return;
		if (this.#timer !== null) {
			if (delay > 0) return;
			clearTimeout(this.#timer);
		}
		this.#timer = setTimeout(() => {
			this.#timer = null;
			this.#fillNext();
		}, delay);
		this.#timer.unref();
	}

	/** Requests that waited have had their turn: this runs from a timer. */
	#fillNext(): void {
		let next = Number.POSITIVE_INFINITY;
		const now = Date.now();
		for (const file of [...this.#queue]) {
			if (this.#fills >= FILLS_MAX) return;
			if (file.retryAt > now) {
				next = Math.min(next, file.retryAt - now);
				continue;
			}
			if (file.flights.length > 0 || file.completing !== null) continue;
			// its turn comes again when the others have had theirs
			this.#queue.delete(file);
			this.#queue.add(file);
			this.#fills++;
			void this.#fillOnce(file).then((isDone) => {
				this.#fills--;
				if (!isDone) file.retryAt = Date.now() + RETRY_MS;
				this.#schedule();
			});
		}
		if (Number.isFinite(next)) this.#schedule(next);
	}

	/** Copies one chunk, or completes the file. False: it could not be done. */
	async #fillOnce(file: PartialFile): Promise<boolean> {
		try {
			const run = file.nextMissing(this.#chunk(file));
			if (run === null) return file.missing > 0 ? true : await this.#complete(file);
			await this.#fly(file, [run]).ready;
			const { failure } = file;
			file.failure = null;
			if (failure === null) file.position = run[1];
			return failure === null;
		} catch (error) {
			if (error instanceof OverlayError) return false;
			throw error;
		}
	}

	/** All is there: makes it an ordinary file. False: not now. */
	#complete(file: PartialFile): Promise<boolean> {
		file.completing ??= this.#track(
			this.#makeOrdinary(file).finally(() => {
				file.completing = null;
			}),
		);
		return file.completing;
	}

	async #makeOrdinary(file: PartialFile): Promise<boolean> {
		const { upper } = file;
		const fd = upper.layer.handles.open(upper.handle, O.rdonly | O.noatime | O.nofollow);
		if (fd < 0) return false;
		try {
			const status = await this.#flush(fd);
			if (file.isEnded || this.#isClosed) return true;
			if (status < 0 || file.missing > 0 || file.flights.length > 0) return false;
			const stat = new Stat();
			must(fstat(fd, stat), "Cannot read an upper file");
			this.#restore(fd, null);
			unmarkMetacopy(this.#engine, fd);
			file.isEnded = true;
			this.#files.delete(upper.key);
			this.#queue.delete(file);
			for (const node of [file.node, this.#engine.nodes.byReal(upper.key)]) if (node?.top.key === upper.key) node.data = null;
			this.#engine.descriptors.drop(file.upper);
			if (file.data !== null) this.#engine.descriptors.drop(file.data);
			// the record must not be gone before the mark is, on any file system
			file.endStatus = await this.#flush(fd);
			if (file.endStatus === 0 && !this.#isClosed) this.#forget(file.name);
			return true;
		} finally {
			close(fd);
		}
	}

	/** Takes away what is known of an upper file that is gone, or has all its data. */
	#forget(name: string): void {
		this.#engine.dataFiles.delete(Buffer.from(name, "hex"));
		this.records.remove(name);
	}
}

function ignore(): void {}

function timesOf(stat: Stat): { readonly mtime: Timespec; readonly ctime: Timespec } {
	return { mtime: { sec: stat.mtimeSec, nsec: stat.mtimeNsec }, ctime: { sec: stat.ctimeSec, nsec: stat.ctimeNsec } };
}

function isSameTime(a: Timespec, b: Timespec): boolean {
	return a.sec === b.sec && a.nsec === b.nsec;
}

function encodeTime({ sec, nsec }: Timespec): Buffer {
	return Buffer.from(`${sec}.${nsec}`);
}

function decodeTime(value: Buffer): Timespec | null {
	const match = /^(-?\d+)\.(\d+)$/.exec(value.toString("latin1"));
	return match === null ? null : { sec: Number(match[1]), nsec: Number(match[2]) };
}
