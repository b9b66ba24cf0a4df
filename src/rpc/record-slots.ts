// Memory for the records of requests that wait: a few large pieces, since each small one of its own costs the garbage collector much.

/** A record: a region of a buffer. */
export interface RecordRegion {
	readonly recordBytes: Uint8Array;
	readonly recordView: DataView;
	readonly recordStart: number;
	readonly recordEnd: number;
}

/** The record that is being executed, wherever it lies: of one hidden class, see docs/decisions/029-warm-up.md. */
export class CurrentRecord implements RecordRegion {
	recordBytes: Uint8Array = NO_BYTES;
	recordView: DataView = NO_VIEW;
	recordStart = 0;
	recordEnd = 0;

	of({ recordBytes, recordView, recordStart, recordEnd }: RecordRegion): this {
		this.recordBytes = recordBytes;
		this.recordView = recordView;
		this.recordStart = recordStart;
		this.recordEnd = recordEnd;
		return this;
	}
}

/** A record that is longer gets memory of its own. */
const SLOT_BYTES = 512;
const NO_BYTES: Uint8Array = Buffer.alloc(0);
const NO_VIEW = new DataView(new ArrayBuffer(0));
const CHUNK_SLOTS = 128;
/** With room in them: others go when nothing is in them any more. */
const CHUNKS_KEPT = 4;

interface Chunk {
	readonly bytes: Buffer;
	readonly view: DataView;
	/** Numbers of free slots. */
	readonly free: number[];
	/** Where it stands among the chunks that have free slots; negative where it has none. */
	place: number;
}

export interface KeptRecord extends RecordRegion {
	/** Memory that it takes. */
	readonly heldBytes: number;
	/** Gives the memory back: the record is not to be read any more. To be called once. */
	release(): void;
}

/** Copies records into memory of the server's own, for as long as their requests wait. */
export class RecordSlots {
	readonly #open: Chunk[] = [];

	/** Chunks that have free slots. */
	get open(): number {
		return this.#open.length;
	}

	keep({ recordBytes, recordStart, recordEnd }: RecordRegion): KeptRecord {
		const length = recordEnd - recordStart;
		if (length > SLOT_BYTES) return new OwnRecord(recordBytes.subarray(recordStart, recordEnd));
		const chunk = this.#open.at(-1) ?? this.#add();
		const slot = chunk.free.pop() as number;
		if (chunk.free.length === 0) this.#close(chunk);
		const at = slot * SLOT_BYTES;
		chunk.bytes.set(recordBytes.subarray(recordStart, recordEnd), at);
		return new SlotRecord(this, chunk, at, at + length);
	}

	release(chunk: Chunk, at: number): void {
		chunk.free.push(at / SLOT_BYTES);
		if (chunk.place < 0) {
			chunk.place = this.#open.length;
			this.#open.push(chunk);
		}
		if (chunk.free.length === CHUNK_SLOTS && this.#open.length > CHUNKS_KEPT) this.#close(chunk);
	}

	#add(): Chunk {
		const bytes = Buffer.allocUnsafeSlow(CHUNK_SLOTS * SLOT_BYTES);
		const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
		const chunk = { bytes, view, free: Array.from({ length: CHUNK_SLOTS }, (_, slot) => slot), place: this.#open.length };
		this.#open.push(chunk);
		return chunk;
	}

	/** Nothing more is taken of it, or ever again. */
	#close(chunk: Chunk): void {
		const last = this.#open.pop() as Chunk;
		if (last !== chunk) {
			this.#open[chunk.place] = last;
			last.place = chunk.place;
		}
		chunk.place = -1;
	}
}

class SlotRecord implements KeptRecord {
	readonly #slots: RecordSlots;
	readonly #chunk: Chunk;
	readonly recordStart: number;
	readonly recordEnd: number;

	constructor(slots: RecordSlots, chunk: Chunk, recordStart: number, recordEnd: number) {
		this.#slots = slots;
		this.#chunk = chunk;
		this.recordStart = recordStart;
		this.recordEnd = recordEnd;
	}

	get recordBytes(): Buffer {
		return this.#chunk.bytes;
	}

	get recordView(): DataView {
		return this.#chunk.view;
	}

	get heldBytes(): number {
		return SLOT_BYTES;
	}

	release(): void {
		this.#slots.release(this.#chunk, this.recordStart);
	}
}

class OwnRecord implements KeptRecord {
	readonly recordBytes: Buffer;
	readonly recordView: DataView;
	readonly recordStart = 0;
	readonly recordEnd: number;

	constructor(bytes: Uint8Array) {
		this.recordBytes = Buffer.allocUnsafeSlow(bytes.length);
		this.recordBytes.set(bytes);
		this.recordView = new DataView(this.recordBytes.buffer, this.recordBytes.byteOffset, bytes.length);
		this.recordEnd = bytes.length;
	}

	get heldBytes(): number {
		return this.recordEnd;
	}

	release(): void {}
}
