// One partial file in memory: which of its granules are present in upper, and which are on their way.

import type { Real } from "../../layer/real.ts";
import type { OverlayError } from "../../vfs/errors.ts";
import type { Timespec } from "../../vfs/operations.ts";
import type { Node } from "../nodes/node.ts";
import { bitmapBytes, type PartialBits, type PartialHeader } from "../work/partial-record.ts";

/** Granules on their way from the lower, in a worker thread. */
export interface Flight {
	/** Pairs of a first granule and the one behind the last. */
	readonly runs: readonly (readonly [first: number, end: number])[];
	readonly ready: Promise<void>;
}

export interface ShownTimes {
	readonly mtime: Timespec;
	readonly ctime: Timespec;
}

/**
 * A file of upper that holds only a part of its data so far. Below `lowerEnd`, a granule that is not present is read from `data`; all else
 * is read from the upper file.
 */
export class PartialFile {
	readonly upper: Real;
	/** Of its record. */
	readonly name: string;
	/** Null: it is lost, and what is not present cannot be read. */
	readonly data: Real | null;
	readonly granuleBytes: number;
	readonly granules: number;
	readonly dataSize: number;
	readonly present: Uint8Array;
	readonly stable: Uint8Array;
	lowerEnd: number;
	/** The `lowerEnd` that is on the disk, with the size of the upper file at that time; -1: none is known to be. */
	stableEnd: number;
	/** Granules below `lowerEnd` that are not present. */
	missing = 0;
	/** Where a client read or wrote last, or the fill has come to: the fill goes on there. */
	position = 0;
	readonly flights: Flight[] = [];
	/** What clients see instead of the times of the upper file, once a fill has begun to change these; null: these. */
	shown: ShownTimes | null = null;
	/** The ctime that the last flight has left: another one is that of a change by a client. */
	settledCtime: Timespec | null = null;
	/** The object in memory that was met last. */
	node: Node | null = null;
	/** Why a copy that a request waits for could not be made: for that request. */
	failure: OverlayError | null = null;
	/** Bytes of the bits that have changed since they were last made stable. */
	dirtyFrom = Number.POSITIVE_INFINITY;
	dirtyTo = 0;
	/** Bytes of the bits that the record does not have yet. */
	unwrittenFrom = Number.POSITIVE_INFINITY;
	unwrittenTo = 0;
	/** A flush of the bits that is under way, and what came of the last one. */
	flushing: Promise<number> | null = null;
	/** Of the flush behind its end. */
	endStatus = 0;
	completing: Promise<boolean> | null = null;
	/** No fill before this time, after one that failed. */
	retryAt = 0;
	/** Its last name is gone, or it is complete: nothing must be written for it any more. */
	isEnded = false;

	constructor(upper: Real, name: string, data: Real | null, header: PartialHeader, bits: PartialBits) {
		this.upper = upper;
		this.name = name;
		this.data = data;
		this.granuleBytes = header.granuleBytes;
		this.granules = header.granules;
		this.dataSize = header.dataSize;
		this.lowerEnd = header.lowerEnd;
		this.stableEnd = -1;
		this.present = bits.present;
		this.stable = bits.stable;
		this.countMissing();
	}

	get header(): PartialHeader {
		const { granuleBytes, granules, dataSize, lowerEnd } = this;
		return { granuleBytes, granules, dataSize, lowerEnd };
	}

	/** Granules that have bytes of the lower in them. */
	get end(): number {
		return Math.ceil(this.lowerEnd / this.granuleBytes);
	}

	/** Whether nothing is lost when the file grows: what was cut off before must not come back after a power failure. */
	get mayGrow(): boolean {
		return this.lowerEnd === this.dataSize || this.stableEnd === this.lowerEnd;
	}

	isPresent(granule: number): boolean {
		return (this.present[granule >> 3] & (1 << (granule & 7))) !== 0;
	}

	/** Up to which granule, at most `last`, all from `first` on are present, or none is. */
	endOfRun(first: number, last: number): number {
		const isPresent = this.isPresent(first);
		const whole = isPresent ? 0xff : 0;
		let behind = first + 1;
		while (behind < last && ((behind & 7) === 0 && this.present[behind >> 3] === whole ? true : this.isPresent(behind) === isPresent)) {
			behind += (behind & 7) === 0 && this.present[behind >> 3] === whole ? 8 : 1;
		}
		return Math.min(behind, Math.max(last, first + 1));
	}

	/** The bits are in memory only: `unwritten` bytes of them have to be written to the record. */
	markPresent(first: number, end: number): void {
		for (let granule = first; granule < end; granule++) {
			if (this.isPresent(granule)) continue;
			this.present[granule >> 3] |= 1 << (granule & 7);
			if (granule < this.end) this.missing--;
			const byte = granule >> 3;
			this.dirtyFrom = Math.min(this.dirtyFrom, byte);
			this.dirtyTo = Math.max(this.dirtyTo, byte + 1);
			this.unwrittenFrom = Math.min(this.unwrittenFrom, byte);
			this.unwrittenTo = Math.max(this.unwrittenTo, byte + 1);
		}
	}

	countMissing(): void {
		this.missing = 0;
		for (let granule = 0; granule < this.end; granule++) {
			if ((granule & 7) === 0 && granule + 8 <= this.end && this.present[granule >> 3] === 0xff) granule += 7;
			else if (!this.isPresent(granule)) this.missing++;
		}
	}

	isInFlight(first: number, end: number): Flight | null {
		return this.flights.find(({ runs }) => runs.some(([from, to]) => from < end && first < to)) ?? null;
	}

	/** The next granules that are missing and on no way, at most `most` of them, from where they are needed on; null: none. */
	nextMissing(most: number): readonly [first: number, end: number] | null {
		const start = this.position < this.end ? this.position : 0;
		return this.#missingFrom(start, this.end, most) ?? this.#missingFrom(0, start, most);
	}

	#missingFrom(from: number, end: number, most: number): readonly [number, number] | null {
		for (let first = from; first < end; first++) {
			if ((first & 7) === 0 && this.present[first >> 3] === 0xff) {
				first += 7;
				continue;
			}
			if (this.isPresent(first) || this.isInFlight(first, first + 1) !== null) continue;
			let behind = first + 1;
			while (behind < end && behind - first < most && !this.isPresent(behind) && this.isInFlight(behind, behind + 1) === null) behind++;
			return [first, behind];
		}
		return null;
	}
}

export function emptyBits(granules: number): PartialBits {
	const length = bitmapBytes(granules);
	return { stable: new Uint8Array(length), present: new Uint8Array(length) };
}
