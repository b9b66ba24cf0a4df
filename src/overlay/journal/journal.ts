// Makes changes exactly once over a kill or a power failure: the intent, and the answers to requests.

import { createHash } from "node:crypto";
import { closeSync, lstatSync, mkdirSync, readdirSync, readSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { RecentMap } from "../../collections/recent-map.ts";
import { seekData, seekHole, syncFileData, writeFrom } from "../../linux/data.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { pathExists, readFileNamed } from "../../linux/read-file.ts";
import { OVERLAY_ERROR_CODES, OverlayError, type OverlayErrorCode } from "../../vfs/errors.ts";
import type { ChangeKey, RequestOrigin } from "../../vfs/operations.ts";
import { must, unlessFull } from "../../vfs/system-errors.ts";
import { crc32 } from "../format/crc32.ts";
import { asOverlayError } from "../nodes/reals.ts";
import { RecordMap } from "../work/record-map.ts";
import type { UpperState } from "../work/upper-state.ts";
import { type Intent, IntentStore, openJournalFile, openReservedFile, packIntent, readAside, readIntent, unpackIntent } from "./intent.ts";
import { PostponedChange, postponed } from "./postponed.ts";
import { completeSteps, type Descriptors, mayUndoWrite, RecoveryDescriptors, runStep, type Step } from "./steps.ts";

/** What a request was answered: an error, or success with the handle of what it made. */
export interface Answer {
	readonly error: OverlayErrorCode | null;
	readonly handle: Buffer | null;
	/** Of a CREATE: the file was there before. */
	readonly isFound: boolean;
}

/** Takes a step back. It could not be where this throws OverlayError, or gives a negated error number. */
export type Undo = () => unknown;

const REQUESTS_FOLDER = "requests";
/** Long changes, each named by its inode. */
const CUTS_FOLDER = "cuts";
/** Where its fsync is the shared flush: the newest answers of all clients once more. Elsewhere the answers that a ring had no room for. */
const LOG_FILE = "answers";
const LOG_RECORDS = 32768;
const SPARE_RECORDS = 4096;

/** Requests remembered for each client: many more than it can have in flight, since all who come from one address are one client. */
const RECORDS_PER_CLIENT = 8192;
const RECORD_BYTES = 128;
/** Clients remembered at a time. A further one takes the ring of who made a change longest ago, of those without a connection first. */
const CLIENTS_MAX = 128;
const RETENTION_MS = 15 * 60 * 1000;
/** What is noted later than now is old, as after a clock that was wrong; but a clock is also set back a little, as by NTP. */
const CLOCK_STEP_MS = 60 * 1000;
/** Sources of equal requests that one look-up asks whether they are open. The rest count as open. */
const SOURCES_ASKED_MAX = 8;

/**
 * Makes changes happen exactly once, over a kill and over a power failure. The engine makes one change at a time, so one intent is enough:
 * its steps are written down before the first of them (IntentStore), and a start completes what stands there.
 * The answer to each request is kept in a ring for its client, so that a request that comes again after a restart gets the answer it had.
 */
export class Journal {
	readonly #writable: () => UpperState;
	readonly #folder: string;
	readonly #clock: () => number;
	readonly #intents: IntentStore;
	/** The disk does not say yet that the present intent has ended. */
	#isOpen = false;
	/** Of the present intent. */
	#steps: readonly Step[] = [];
	#intentSequence = 0;
	/** The last change that is on disk, after a start: answers to later ones came there before what they tell of, and the power failed. */
	#committed = Number.POSITIVE_INFINITY;
	readonly #cuts: RecordMap;
	#log = -1;
	#logRecords = SPARE_RECORDS;
	#logNext = 0;
	/** All answers go to the log, and not only what has no room elsewhere. */
	#isLogFlushed = false;
	/** Changes that a kill interrupted, and that there is no room to complete. */
	#postponed: PostponedChange[] = [];
	/** Rings written to since the log was at its half or its beginning. */
	readonly #dirty = new Set<Ring>();
	/** Told to flush these files in the background, before the log comes round to what is only in there. */
	onFilling: ((files: readonly number[]) => void) | null = null;
	/** By client, in the order of their last changes. */
	readonly #rings = new RecentMap<string, Ring>();
	/** By name: rings of an earlier run whose client has not come again. */
	readonly #loaded = new Map<string, Ring>();
	#sequence = 1;

	constructor(folder: string, writable: () => UpperState, clock: () => number = Date.now) {
		this.#folder = folder;
		this.#intents = new IntentStore(folder);
		this.#cuts = new RecordMap(folder, CUTS_FOLDER);
		this.#writable = writable;
		this.#clock = clock;
	}

	/**
	 * Completes a change that a crash interrupted, and learns the answers given before. Looks at records and at nothing else. `isOurs` is
	 * false where somebody else may have changed upper since: then nothing is completed. Without `isSync` no answer has to outlive a power failure.
	 * `mayPostpone`: what there is no room to complete waits for it (`postponed`); else that is an OverlayError.
	 */
	recover(isOurs = true, isSync = true, mayPostpone = false): void {
		mkdirSync(join(this.#folder, REQUESTS_FOLDER), { recursive: true, mode: 0o700 });
		const { layer } = this.#writable();
		const intent = this.#intents.open(layer.fileSystem.name, !layer.xattr.prefix.startsWith("user."));
		this.#intentSequence = intent?.sequence ?? 0;
		if (this.#intents.isOrdered && isOurs) this.#committed = this.#intentSequence;
		const { last: lastInRings, silent } = this.#loadRings();
		const last = Math.max(lastInRings, this.#loadLog(layer.fileSystem.name, silent));
		// without `isSync` nobody waits for a flush, and what is in memory outlives a kill
		this.#isLogFlushed = isSync && this.#log >= 0 && isFlushedByJournal(layer.fileSystem.name);
		this.#sequence = Math.max(last, intent?.sequence ?? 0) + 1;
		const aside = readAside(this.#folder);
		if (aside !== null && (!isOurs || this.#complete(aside, true, mayPostpone))) unlessFull(() => this.#intents.dropAside());
		if (intent !== null && !intent.hasEnded) {
			const isComplete = !(isOurs && intent.sequence > last) || this.#complete(intent, false, mayPostpone);
			// a start that finds it again looks, and finds that it was made
			if (isComplete) unlessFull(() => this.#endIntent());
			else unlessFull(() => this.#setAside());
		}
		for (const record of this.#cuts.list()) {
			if (isOurs) this.#completeLong(record);
			else this.#cuts.delete(record);
		}
		// only now: that the intent was carried out may be known from one of these alone
		const inUse = new Set([...this.#rings.entries()].map(([, ring]) => this.#pathOf(ring.name)));
		for (const path of silent) if (!inUse.has(path)) unlinkSync(path);
	}

	/** Whether a change that was interrupted is over; if not, it is postponed. */
	#complete(intent: Intent, isAside: boolean, mayPostpone: boolean): boolean {
		const failure = this.#tryToComplete(intent);
		if (failure === null) return true;
		if (!mayPostpone) {
			throw new OverlayError(failure.code, `A change that was interrupted cannot be completed before there is room: ${failure.message}`);
		}
		this.#postponed.push(new PostponedChange(intent, isAside));
		return false;
	}

	/** Null: it is over, completed, or taken back because nobody has seen anything of it. Else there is no room for it. */
	#tryToComplete(intent: Intent): OverlayError | null {
		const { made, failure, isTakenBack } = completeSteps(this.#writable(), intent.steps);
		if (failure !== null) return isTakenBack ? null : failure;
		if (intent.key !== null) this.#answerCompleted(intent, intent.key, made);
		return null;
	}

	#answerCompleted(intent: Intent, key: ChangeKey, made: Buffer | null): void {
		// what was found has its attributes changed, and what is made is made with them
		const isFound = intent.steps.some(({ op }) => op === "attributes");
		let file = -1;
		try {
			file = this.#remember(key, intent.sequence, { error: null, handle: intent.handle ?? made, isFound });
		} catch (error) {
			// no room for the answer keeps nobody from starting, and from making room
			if (!(error instanceof OverlayError)) throw error;
		}
		// the end of the intent is metadata and comes to the disk with that of anybody else: the answer must be there before
		if (this.#intents.isOrdered && file >= 0) must(syncFileData(file), "Cannot flush the journal");
	}

	/** Changes whose objects nobody may touch, since a part of their steps is made. */
	get postponed(): readonly PostponedChange[] {
		return this.#postponed;
	}

	/** Completes what was postponed, if there is room now: the changes that were. */
	finishPostponed(): readonly PostponedChange[] {
		const done: PostponedChange[] = [];
		for (const change of this.#postponed) {
			try {
				if (this.#tryToComplete(change.intent) !== null) continue;
				if (change.isAside) this.#intents.dropAside();
				else this.#intents.end(change.intent.sequence);
				// what was exchanged for something of work, or is of no use
				for (const name of change.temporaries) this.#writable().work.discard(name);
				done.push(change);
			} catch (error) {
				// it stays as it is
				if (!(error instanceof OverlayError)) throw error;
			}
		}
		this.#postponed = this.#postponed.filter((change) => !done.includes(change));
		return done;
	}

	/** The intent of the postponed change would be lost to the next one. OverlayError: there is no room, and no other change can be made. */
	#setAside(): void {
		for (const change of this.#postponed) {
			if (change.isAside) continue;
			if (this.#postponed.some(({ isAside }) => isAside)) {
				throw new OverlayError("nospc", "Two changes that were interrupted wait for room on the disk");
			}
			this.#intents.setAside(change.intent);
			change.isAside = true;
			this.#endIntent();
		}
	}

	/** The file whose fsync makes answers stable with all that was changed before; negative where there is none. */
	get log(): number {
		return this.#isLogFlushed ? this.#log : -1;
	}

	/** No start looks at the steps of the present intent again, whatever rings are there then. */
	#endIntent(): void {
		// that of a change that is still to be made
		if (this.#postponed.some(({ isAside }) => !isAside)) return;
		this.#intents.end(this.#intentSequence);
		this.#isOpen = false;
	}

	/** No start makes the steps of the last change again. */
	endLastChange(): void {
		if (this.#isOpen) this.#endIntent();
	}

	/**
	 * To be called before content of an inode is written: from here on the last change must not be repeated, if it was one of this inode, for
	 * it may have been a truncation. The end needs no flush of its own. It could only undo what the write has changed of the inode (its size,
	 * its times, its mode), so the inode was changed behind the end, and the fsync that makes the content stable commits both in this order.
	 */
	endLastChangeOf(inode: FileHandle): void {
		if (this.#isOpen && this.#steps.some((step) => mayUndoWrite(step, inode))) this.#endIntent();
	}

	/**
	 * The answer that the change of this key got, if the request is one that comes again: after a restart, or because its front end has
	 * forgotten it. It is given once for each source that is open, and belongs to that then. Throws Error for a second change of one and the same request: its front end has given one key to two changes.
	 */
	answered(key: ChangeKey): Answer | null {
		const { owner } = key.request;
		for (const { intent } of this.#postponed) {
			if (intent.key?.request.owner === owner && isSameKey(intent.key, key)) throw postponed();
		}
		if (!(key.change >= 0 && key.change < CHANGES_MAX)) throw new RangeError(`Change ${key.change} of a request`);
		const known = this.#known(key);
		if (known === undefined) return null;
		if (known.request === key.request) throw new Error(`Two changes under one key, number ${key.change} of a request of ${owner}`);
		// a client may come to the same number again; nobody repeats a request that long
		if (!this.#isRecent(known.time)) return null;
		known.origin = key.request.origin ?? null;
		return known.answer;
	}

	/** What `answered` gives, for who only looks; null for what the same request has just been answered. */
	answerBefore(key: ChangeKey): Answer | null {
		const known = this.#known(key);
		return known === undefined || known.request === key.request || !this.#isRecent(known.time) ? null : known.answer;
	}

	#known(key: ChangeKey): Known | undefined {
		const { owner } = key.request;
		const ring = this.#rings.get(owner) ?? this.#loaded.get(ringName(owner));
		return ring === undefined ? undefined : repeatedIn(ring, key);
	}

	/** Whether a request that was answered at that time may come again. */
	#isRecent(time: number): boolean {
		const now = this.#clock();
		return time >= now - RETENTION_MS && time <= now + CLOCK_STEP_MS;
	}

	/**
	 * Notes a change of an inode that a thread begins with and `perform` ends: others may be made meanwhile, and a start completes them all.
	 * There is at most one for an inode.
	 */
	beginLong(inode: FileHandle, change: Omit<Intent, "sequence">): void {
		this.endLastChangeOf(inode);
		this.#cuts.set(recordOf(inode), packIntent({ sequence: 0, ...change }));
	}

	/** It has its answer, or was not made. */
	endLong(inode: FileHandle): void {
		this.#cuts.delete(recordOf(inode));
	}

	#completeLong(record: Buffer): void {
		const bytes = this.#cuts.get(record);
		const intent = bytes === null ? null : unpackIntent(bytes);
		const descriptors = new RecoveryDescriptors(this.#writable());
		try {
			if (intent !== null && !this.#wasAnswered(intent.key) && descriptors.inode(inodeOf(record), false) >= 0) {
				const { steps, key, handle } = intent;
				this.perform(steps, descriptors, key, handle);
				if (key !== null) this.answer(key, { error: null, handle, isFound: true });
			}
			this.#cuts.delete(record);
		} catch (error) {
			// the next start tries again; it keeps nobody from what else is here
			if (!(error instanceof OverlayError)) throw error;
		} finally {
			descriptors.close();
		}
	}

	#wasAnswered(key: ChangeKey | null): boolean {
		return key !== null && this.#known(key) !== undefined;
	}

	/**
	 * Makes a change of one or more steps. `key` is that of the change, null for what only prepares one;
	 * `handle` is that of the object it makes. When a step fails, the ones before it are taken back by `undos`, which has an entry for each, and
	 * the ones behind it are not made, now or later. Where one of those cannot be taken back, the change counts as made, and the rest is postponed.
	 */
	perform(
		steps: readonly Step[],
		descriptors: Descriptors,
		key: ChangeKey | null,
		handle: Buffer | null,
		undos: readonly (Undo | null)[] = [],
	): void {
		if (this.#postponed.length > 0) {
			this.#setAside();
			if (this.#postponed.some((change) => change.isTouchedBy(steps))) throw postponed();
		}
		// now, while the intent of the change before may still be ended
		if (key !== null) this.#ring(key.request.owner, true);
		this.#isOpen = true;
		this.#steps = steps;
		this.#intentSequence = this.#sequence;
		const intent = { sequence: this.#sequence, key, handle, steps };
		this.#intents.write(intent);
		let made = 0;
		try {
			const writable = this.#writable();
			for (const step of steps) {
				runStep(writable, step, descriptors);
				made++;
			}
		} catch (thrown) {
			descriptors.noteMade?.(made);
			// what a step works on could not be opened again
			const error = asOverlayError(thrown);
			if (error instanceof OverlayError && !isTakenBack(undos.slice(0, made)) && this.#postpone(intent)) return;
			try {
				this.#tryToEnd();
			} finally {
				// what ends in a fault of ours is not ended later either
				if (!(error instanceof OverlayError)) this.#isOpen = false;
			}
			throw error;
		} finally {
			if (key === null) this.#sequence++;
		}
	}

	/** Has a change that is made in part, and cannot be taken back, completed later. False: that cannot be noted. */
	#postpone(intent: Intent): boolean {
		const change = new PostponedChange(intent, false);
		this.#postponed.push(change);
		try {
			// at once: its answer says to a start that it was made
			this.#setAside();
			return true;
		} catch (error) {
			this.#postponed = this.#postponed.filter((other) => other !== change);
			if (!(error instanceof OverlayError)) throw error;
			return false;
		}
	}

	/**
	 * Notes the answer of a change. Where there is no room for it the change stands all the same: it is only not known any more after a
	 * restart. An error is noted for a client that has a ring: who has changed nothing takes no room.
	 */
	answer(key: ChangeKey, answer: Answer): void {
		const sequence = this.#sequence++;
		try {
			this.#remember(key, sequence, answer);
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
			this.#tryToEnd();
		}
	}

	/** What was made is made, and what has failed has failed, whether that can be noted or not: if not now, then before the next content is written. */
	#tryToEnd(): void {
		try {
			this.#endIntent();
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
		}
	}

	close(): void {
		this.#cuts.close();
		this.#intents.close();
		if (this.#log >= 0) closeSync(this.#log);
		for (const [client, ring] of this.#rings.entries()) {
			closeRing(ring);
			this.#rings.delete(client);
		}
		for (const ring of this.#loaded.values()) closeRing(ring);
		this.#loaded.clear();
	}

	/** The file that has the answer; negative where it is not to be noted. OverlayError: there is no room for it anywhere. */
	#remember(key: ChangeKey, sequence: number, answer: Answer): number {
		const ring = this.#ring(key.request.owner, answer.error === null);
		if (ring === null) return -1;
		const time = this.#clock();
		const isChange = answer.error === null && sequence === this.#intentSequence;
		const record = encodeRecord(ring.bytes, key, sequence, time, portOf(key), answer, isChange);
		const failure = noteIn(ring, this.#pathOf(ring.name), record, key, answer, time);
		if (failure === null && !this.#isLogFlushed) return ring.file;
		if (this.#log < 0) throw failure;
		if (failure === null) this.#dirty.add(ring);
		// it has its room already, whatever became of the ring
		writeAt(this.#log, record, this.#logNext * RECORD_BYTES);
		this.#logNext = (this.#logNext + 1) % this.#logRecords;
		if (this.#isLogFlushed && this.#logNext % (LOG_RECORDS / 2) === 0) {
			this.onFilling?.([...this.#dirty].map(({ file }) => file));
			this.#dirty.clear();
		}
		return this.#log;
	}

	#pathOf(name: string): string {
		return join(this.#folder, REQUESTS_FOLDER, name);
	}

	/** The ring of a client; null where there is none. Where `isMade`, it is made then, in memory alone if need be, and counts as used. */
	#ring(client: string, isMade: boolean): Ring | null {
		const known = isMade ? this.#rings.use(client) : this.#rings.get(client);
		if (known !== undefined) return known;
		const name = ringName(client);
		let ring = this.#loaded.get(name);
		if (ring === undefined) {
			if (!isMade) return null;
			if (this.#rings.size + this.#loaded.size >= CLIENTS_MAX) this.#dropOne();
			ring = newRing(name, this.#newRingFile(name), this.#clock());
		}
		this.#loaded.delete(name);
		this.#rings.set(client, ring);
		return ring;
	}

	/** On ext4 that of the first client has an inode beside the intents: each change writes to both. */
	#newRingFile(name: string): number {
		const path = this.#pathOf(name);
		try {
			this.#intents.giveSpare(path);
		} catch {
			// then it gets another inode
		}
		return openRing(path);
	}

	/** Makes room for a new client: of who has not come since the start, then of who has no connection, then of all, who was silent for the longest. */
	#dropOne(): void {
		let oldest: Ring | undefined;
		for (const ring of this.#loaded.values()) if (oldest === undefined || ring.used < oldest.used) oldest = ring;
		if (oldest !== undefined) {
			this.#loaded.delete(oldest.name);
			this.#drop(oldest);
			return;
		}
		let victim: string | undefined;
		for (const [client, ring] of this.#rings.entries()) {
			victim ??= client;
			if (ring.origin?.source?.isOwnerConnected) continue;
			victim = client;
			break;
		}
		const ring = victim === undefined ? undefined : this.#rings.get(victim);
		if (victim === undefined || ring === undefined) return;
		this.#rings.delete(victim);
		this.#drop(ring);
	}

	#drop(ring: Ring): void {
		// that the last change was made may be known from this ring alone
		this.#endIntent();
		this.#dirty.delete(ring);
		closeRing(ring);
		try {
			unlinkSync(this.#pathOf(ring.name));
		} catch {
			// then a start finds one ring more than it keeps, and drops the oldest
		}
	}

	/** Whether an answer tells of a change that a power failure has taken back. It is wiped out, since a later change gets its number. */
	#isUntrue(record: AnswerRecord, file: number, position: number): boolean {
		if (!record.isChange || record.sequence <= this.#committed) return false;
		writeAt(file, Buffer.alloc(RECORD_BYTES), position);
		must(syncFileData(file), "Cannot flush the journal");
		return true;
	}

	/** Puts the answers of the log that the rings have lost in a power failure back into them. The highest sequence number in it. */
	#loadLog(fileSystem: string, silent: string[]): number {
		this.#logRecords = isFlushedByJournal(fileSystem) ? LOG_RECORDS : SPARE_RECORDS;
		unlessFull(() => {
			this.#log = openReservedFile(join(this.#folder, LOG_FILE), fileSystem, 0, this.#logRecords * RECORD_BYTES);
		});
		if (this.#log < 0) return 0;
		let last = 0;
		const lost: AnswerRecord[] = [];
		for (const { position, bytes } of writtenParts(this.#log)) {
			for (let at = (RECORD_BYTES - (position % RECORD_BYTES)) % RECORD_BYTES; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
				if (!RECORD_MAGICS.has(bytes[at])) continue;
				const record = decodeRecord(bytes.subarray(at, at + RECORD_BYTES));
				if (record === null || this.#isUntrue(record, this.#log, position + at)) continue;
				if (record.sequence > last) {
					last = record.sequence;
					this.#logNext = ((position + at) / RECORD_BYTES + 1) % this.#logRecords;
				}
				const ring = this.#loaded.get(record.ring);
				const known = ring === undefined ? undefined : knownIn(ring, record.key, null, record.port);
				if (this.#isRecent(record.time) && (known === undefined || known.time < record.time)) lost.push(record);
			}
		}
		const kept = this.#keepNewest(lost, silent);
		for (const record of lost.sort((a, b) => a.sequence - b.sequence)) if (kept.has(record.ring)) this.#restore(record);
		return last;
	}

	/** Names of the rings that there is room for, with what is to be put back; the others are closed and go to `silent`. */
	#keepNewest(lost: readonly AnswerRecord[], silent: string[]): ReadonlySet<string> {
		const used = new Map([...this.#loaded].map(([name, ring]) => [name, ring.used]));
		for (const { ring, time } of lost) used.set(ring, Math.max(used.get(ring) ?? 0, time));
		const newest = [...used].sort(([, a], [, b]) => b - a).slice(0, CLIENTS_MAX);
		const kept = new Set(newest.map(([name]) => name));
		for (const ring of [...this.#loaded.values()]) if (!kept.has(ring.name)) this.#unload(ring, silent);
		return kept;
	}

	#unload(ring: Ring, silent: string[]): void {
		this.#loaded.delete(ring.name);
		closeRing(ring);
		silent.push(this.#pathOf(ring.name));
	}

	/** An answer of the log that its ring has not. Where there is no room for it there, the log alone has it, at the next start too. */
	#restore(record: AnswerRecord): void {
		const { ring: name, key, sequence, time, port, answer, isChange } = record;
		const ring = this.#loaded.get(name) ?? newRing(name, -1, time);
		this.#loaded.set(name, ring);
		unlessFull(() => {
			if (ring.file < 0) ring.file = openJournalFile(this.#pathOf(name));
		});
		const slot = ring.next % RECORDS_PER_CLIENT;
		const bytes = encodeRecord(ring.bytes, key, sequence, time, port, answer, isChange);
		if (ring.file >= 0) unlessFull(() => writeAt(ring.file, bytes, slot * RECORD_BYTES));
		learn(ring, slot, key, answer, time, port);
		ring.next++;
		ring.used = Math.max(ring.used, time);
	}

	/** Reads all rings: the highest sequence number in them, and the files of clients that have been silent for long. */
	#loadRings(): { readonly last: number; readonly silent: string[] } {
		const folder = join(this.#folder, REQUESTS_FOLDER);
		const silent: string[] = [];
		let last = 0;
		for (const name of readdirSync(folder)) {
			const path = join(folder, name);
			const bytes = readPlainFile(path);
			const ring = newRing(name, openJournalFile(path), 0);
			let used = 0;
			let newest = -1;
			let newestSequence = 0;
			for (let at = 0; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
				const record = decodeRecord(bytes.subarray(at, at + RECORD_BYTES));
				if (record === null || this.#isUntrue(record, ring.file, at)) continue;
				last = Math.max(last, record.sequence);
				if (record.sequence > newestSequence) {
					newestSequence = record.sequence;
					newest = at / RECORD_BYTES;
				}
				if (!this.#isRecent(record.time)) continue;
				used = Math.max(used, record.time);
				learn(ring, at / RECORD_BYTES, record.key, record.answer, record.time, record.port);
			}
			ring.next = newest + 1;
			ring.used = used;
			this.#loaded.set(name, ring);
			if (used === 0) this.#unload(ring, silent);
			else if (this.#loaded.size > CLIENTS_MAX) this.#keepNewest([], silent);
		}
		return { last, silent };
	}
}

/** Takes the steps of a change back, the last one first, up to one that cannot be. */
function isTakenBack(undos: readonly (Undo | null)[]): boolean {
	return [...undos].reverse().every((undo) => {
		try {
			const status = undo?.();
			return !(typeof status === "number" && status < 0);
		} catch (error) {
			if (!(asOverlayError(error) instanceof OverlayError)) throw error;
			return false;
		}
	});
}

/** Whether an fsync of one file commits everything that was changed before. */
export function isFlushedByJournal(fileSystem: string): boolean {
	return fileSystem === "ext4" || fileSystem === "xfs";
}

function recordOf({ type, bytes }: FileHandle): Buffer {
	return Buffer.concat([Buffer.of(type), bytes]);
}

function inodeOf(record: Buffer): FileHandle {
	return { type: record[0], bytes: record.subarray(1) };
}

/** Whether a change was begun that the next start will complete. Looks at the records and writes nothing. */
export function isInterrupted(folder: string): boolean {
	if (readAside(folder) !== null) return true;
	const cuts = join(folder, CUTS_FOLDER);
	if (pathExists(cuts) && readdirSync(cuts).some((name) => !name.endsWith(".new"))) return true;
	const intent = readIntent(folder);
	if (intent === null || intent.hasEnded) return false;
	const rings = join(folder, REQUESTS_FOLDER);
	const files = pathExists(rings) ? readdirSync(rings).map((name) => join(rings, name)) : [];
	for (const file of [...files, join(folder, LOG_FILE)]) {
		if (!pathExists(file)) continue;
		const bytes = readPlainFile(file);
		for (let at = 0; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
			const record = decodeRecord(bytes.subarray(at, at + RECORD_BYTES));
			if (record !== null && record.sequence >= intent.sequence) return false;
		}
	}
	return true;
}

/** Far more than a ring ever has. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;

interface Ring {
	/** Of its file. */
	readonly name: string;
	/** The same in bytes. */
	readonly bytes: Buffer;
	/** Negative while there is no room for it, or no descriptor. */
	file: number;
	/** Of the requests in its slots. */
	readonly slots: (Known | undefined)[];
	/** By `keyOf`: the first of a list. */
	readonly answers: Map<number, Known>;
	/** The slot of the next record, counted on and on. */
	next: number;
	/** Milliseconds since the epoch. */
	used: number;
	/** Of the last change. */
	origin: RequestOrigin | null;
}

function newRing(name: string, file: number, used: number): Ring {
	return { name, bytes: Buffer.from(name, "hex"), file, next: 0, used, origin: null, slots: [], answers: new Map() };
}

function closeRing({ file }: Ring): void {
	if (file >= 0) closeSync(file);
}

/** -1 where there is no room for the file, or no descriptor: what a client removes is not to wait for that. */
function openRing(path: string): number {
	try {
		return openJournalFile(path);
	} catch {
		return -1;
	}
}

/** Empty for what was planted there: a fifo would never be read to its end, and a link leads elsewhere. */
function readPlainFile(path: string): Buffer {
	const stat = lstatSync(path);
	return stat.isFile() && stat.size <= FILE_BYTES_MAX ? readFileNamed(path) : Buffer.alloc(0);
}

/** The parts of a file that were ever written. Allocated space counts as a hole until then, so a start reads no more than it has to. */
function* writtenParts(file: number): Generator<{ readonly position: number; readonly bytes: Buffer }> {
	for (let at = 0; ; ) {
		const position = seekData(file, at);
		if (position < 0) return;
		at = seekHole(file, position);
		const bytes = Buffer.alloc(Math.max(0, at - position));
		yield { position, bytes: bytes.subarray(0, readSync(file, bytes, 0, bytes.length, position)) };
	}
}

function writeAt(file: number, bytes: Uint8Array, position: number): void {
	for (let done = 0; done < bytes.length; ) {
		done += must(writeFrom(file, done === 0 ? bytes : bytes.subarray(done), position + done), "Cannot write to the journal");
	}
}

/** 96 bits of a hash, which a record of 128 bytes has room for. */
const RING_NAME_CHARS = 24;

function ringName(client: string): string {
	return createHash("sha256").update(client).digest("hex").slice(0, RING_NAME_CHARS);
}

/** A change whose answer a ring has in this slot. */
interface Known extends ChangeKey {
	readonly answer: Answer;
	readonly time: number;
	readonly slot: number;
	/** By what it came; null: before the start. Whoever has got the answer again is the next. */
	origin: RequestOrigin | null;
	/** By what it came first; 0 where that is not known. */
	readonly port: number;
	/** Another one with its hash. */
	next: Known | undefined;
}

/** A small integer, which a Map finds at once; keys that agree in it by accident stand in one list. */
function hashOf({ request: { numbers }, change }: ChangeKey): number {
	let hash = change;
	for (let i = 0; i < NUMBERS; i++) hash ^= numbers[i];
	return hash;
}

/** Of one owner, whose ring it is. */
function isSameKey(a: ChangeKey, b: ChangeKey): boolean {
	if (a.change !== b.change) return false;
	for (let i = 0; i < NUMBERS; i++) if (a.request.numbers[i] >>> 0 !== b.request.numbers[i] >>> 0) return false;
	return true;
}

function portOf({ request }: ChangeKey): number {
	return request.origin?.source?.port ?? 0;
}

/** The answer to this key that came by the same source, or before the start from the same port. */
function knownIn(ring: Ring, key: ChangeKey, origin: RequestOrigin | null, port: number): Known | undefined {
	const source = origin?.source ?? null;
	let known = ring.answers.get(hashOf(key));
	for (; known !== undefined; known = known.next) {
		const by = known.origin?.source ?? null;
		if (by === source && (source !== null || known.port === port) && isSameKey(known, key)) return known;
	}
	return undefined;
}

/**
 * The answer to the request that this one repeats: by the same source, or by one that is not open any more. Of several the
 * answer to who came from the same port, then the newest.
 */
function repeatedIn(ring: Ring, key: ChangeKey): Known | undefined {
	const { origin } = key.request;
	const source = origin?.source ?? null;
	const port = portOf(key);
	let found: Known | undefined;
	let asked = 0;
	for (let known = ring.answers.get(hashOf(key)); known !== undefined; known = known.next) {
		if (!isSameKey(known, key)) continue;
		const by = known.origin?.source ?? null;
		if (known.request === key.request || (by === source && source !== null)) return known;
		if (by !== null && (++asked > SOURCES_ASKED_MAX || by.isOpen)) continue;
		if (found === undefined || isBetter(known, found, port)) found = known;
	}
	return found;
}

function isBetter(a: Known, b: Known, port: number): boolean {
	if ((a.port === port) !== (b.port === port)) return a.port === port;
	return a.time > b.time;
}

function forget(ring: Ring, known: Known): void {
	ring.slots[known.slot] = undefined;
	const hash = hashOf(known);
	const first = ring.answers.get(hash);
	if (first !== known) {
		let before = first;
		while (before !== undefined && before.next !== known) before = before.next;
		if (before !== undefined) before.next = known.next;
	} else if (known.next === undefined) ring.answers.delete(hash);
	else ring.answers.set(hash, known.next);
}

function learn(ring: Ring, slot: number, key: ChangeKey, answer: Answer, time: number, port: number): void {
	const { origin = null } = key.request;
	const older = knownIn(ring, key, origin, port);
	// rings are read slot by slot, not in the order of time
	if (older !== undefined && older.time > time) return;
	if (older !== undefined) forget(ring, older);
	const former = ring.slots[slot];
	if (former !== undefined) forget(ring, former);
	const hash = hashOf(key);
	const known = { request: key.request, change: key.change, answer, time, slot, origin, port, next: ring.answers.get(hash) };
	ring.slots[slot] = known;
	ring.answers.set(hash, known);
}

const NO_RING = new OverlayError("nospc", "There is no room to remember this client");

/** Notes an answer in memory and in the file of the ring; why it is not in the file, or null. */
function noteIn(ring: Ring, path: string, record: Buffer, key: ChangeKey, answer: Answer, time: number): OverlayError | null {
	const slot = ring.next++ % RECORDS_PER_CLIENT;
	// first, since a second change under this key is to be found out whether there is room on the disk or not
	learn(ring, slot, key, answer, time, portOf(key));
	ring.used = time;
	ring.origin = key.request.origin ?? null;
	if (ring.file < 0) ring.file = openRing(path);
	if (ring.file < 0) return NO_RING;
	try {
		writeAt(ring.file, record, slot * RECORD_BYTES);
		return null;
	} catch (error) {
		if (error instanceof OverlayError) return error;
		throw error;
	}
}

/**
 * A record of 128 bytes, little-endian: magic, status (0, or 1 + place in OVERLAY_ERROR_CODES), length of the handle and a bit for isFound, number of the change
 * within its request, then at 4 the seven numbers of the request, at 32 the sequence, at 40 the time in ms (6 bytes), at 46 the port of the client, at 48 the handle, at 112 the name of the ring (12 bytes), at 124 a CRC of all before it.
 */
const RECORD_MAGIC = 0xa9;
/** In its place where the answer is to a change whose intent has the same sequence number. */
const CHANGE_MAGIC = 0xaa;
/** Of records of earlier versions, which have the time as a double and no port. */
const [RECORD_MAGIC_BEFORE, CHANGE_MAGIC_BEFORE] = [0xa7, 0xa8];
const RECORD_MAGICS: ReadonlySet<number> = new Set([RECORD_MAGIC, CHANGE_MAGIC, RECORD_MAGIC_BEFORE, CHANGE_MAGIC_BEFORE]);
const RECORD_TIME_BYTES = 6;
const RECORD_TIME_MAX = 2 ** (8 * RECORD_TIME_BYTES) - 1;
const RECORD_PORT_AT = 46;
const RECORD_CRC_AT = RECORD_BYTES - 4;
const RECORD_HANDLE_AT = 48;
const RECORD_RING_AT = 112;
/** A handle has at most 64 bytes. */
const RECORD_FOUND = 0x80;
/** How many of 32 bits a request has, and how many changes it may make. */
const NUMBERS = 7;
const CHANGES_MAX = 256;

interface AnswerRecord {
	readonly ring: string;
	/** The owner is known by the ring alone. */
	readonly key: ChangeKey;
	readonly sequence: number;
	readonly time: number;
	readonly port: number;
	readonly answer: Answer;
	/** Nothing of what it tells of is on a disk that has no intent of this sequence number, or a later one. */
	readonly isChange: boolean;
}

const recordBytes = Buffer.alloc(RECORD_BYTES);

/** A view of memory that the next one uses again. `ring`: the bytes of its name. */
function encodeRecord(
	ring: Buffer,
	{ request, change }: ChangeKey,
	sequence: number,
	time: number,
	port: number,
	answer: Answer,
	isChange: boolean,
): Buffer {
	const bytes = recordBytes.fill(0);
	bytes[0] = isChange ? CHANGE_MAGIC : RECORD_MAGIC;
	bytes[1] = answer.error === null ? 0 : OVERLAY_ERROR_CODES.indexOf(answer.error) + 1;
	bytes[2] = (answer.handle?.length ?? 0) | (answer.isFound ? RECORD_FOUND : 0);
	bytes[3] = change;
	for (let i = 0; i < NUMBERS; i++) bytes.writeUInt32LE(request.numbers[i] >>> 0, 4 + 4 * i);
	bytes.writeDoubleLE(sequence, 32);
	bytes.writeUIntLE(Math.min(Math.max(0, Math.floor(time)), RECORD_TIME_MAX), 40, RECORD_TIME_BYTES);
	bytes.writeUInt16LE(port & 0xffff, RECORD_PORT_AT);
	answer.handle?.copy(bytes, RECORD_HANDLE_AT);
	bytes.set(ring, RECORD_RING_AT);
	bytes.writeUInt32LE(crc32(bytes, 0, RECORD_CRC_AT), RECORD_CRC_AT);
	return bytes;
}

function decodeRecord(bytes: Buffer): AnswerRecord | null {
	const [magic] = bytes;
	if (!RECORD_MAGICS.has(magic) || crc32(bytes, 0, RECORD_CRC_AT) !== bytes.readUInt32LE(RECORD_CRC_AT)) return null;
	const hasPort = magic === RECORD_MAGIC || magic === CHANGE_MAGIC;
	const length = bytes[2] & ~RECORD_FOUND;
	const numbers = Array.from({ length: NUMBERS }, (_, i) => bytes.readUInt32LE(4 + 4 * i));
	return {
		ring: bytes.toString("hex", RECORD_RING_AT, RECORD_CRC_AT),
		key: { request: { owner: "", numbers }, change: bytes[3] },
		isChange: magic === CHANGE_MAGIC || magic === CHANGE_MAGIC_BEFORE,
		sequence: bytes.readDoubleLE(32),
		time: hasPort ? bytes.readUIntLE(40, RECORD_TIME_BYTES) : bytes.readDoubleLE(40),
		port: hasPort ? bytes.readUInt16LE(RECORD_PORT_AT) : 0,
		answer: {
			error: bytes[1] === 0 ? null : (OVERLAY_ERROR_CODES[bytes[1] - 1] ?? "io"),
			handle: length === 0 ? null : Buffer.from(bytes.subarray(RECORD_HANDLE_AT, RECORD_HANDLE_AT + length)),
			isFound: (bytes[2] & RECORD_FOUND) !== 0,
		},
	};
}
