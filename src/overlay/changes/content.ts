// Reads what a change has now and what the base had, piece by piece, also of files that are copied up in part.

import type { Real } from "../../layer/real.ts";
import { readInto } from "../../linux/data.ts";
import { type AddressedBytes, allocate } from "../../linux/memory.ts";
import { FileType, SUPERUSER } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { dataOf, dataOfReal } from "../data/data-files.ts";
import { PartialFile } from "../data/partial-file.ts";
import type { Node } from "../nodes/node.ts";
import { recordOf } from "../nodes/reals.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { PartialRecords, runOf } from "../work/partial-record.ts";
import { linkTarget } from "./compare.ts";

const CHUNK_BYTES = 1024 * 1024;

/** Content of regular files, and targets of symlinks, of an overlay and of its base. */
export class Contents {
	readonly #opened: OpenedOverlay;
	readonly #memory: AddressedBytes = allocate(CHUNK_BYTES);
	/** Of files that are copied up in part; null where this process has them in memory. */
	readonly #records: PartialRecords | null;
	readonly #partial: ReadonlySet<string>;

	constructor(opened: OpenedOverlay) {
		this.#opened = opened;
		const isElsewhere = opened.overlay.engine.partials === null && opened.upper !== null;
		this.#records = isElsewhere ? new PartialRecords(opened.folder, runOf(opened.upper as string)) : null;
		this.#partial = new Set(this.#records?.names());
	}

	close(): void {
		this.#records?.close();
	}

	/** Of the object of a handle. */
	async *now(handle: Buffer): AsyncGenerator<Buffer> {
		const { overlay } = this.#opened;
		let partial: PartialFile | null = null;
		for (let offset = 0; ; ) {
			const piece = await inPasses(overlay, () => {
				const node = overlay.decode(handle);
				if (node.type === FileType.lnk) return overlay.readlink(node);
				if (offset === 0) partial = this.#partialOf(node);
				return partial === null ? this.#read(node, offset) : this.#readPartial(node, partial, offset);
			});
			if (piece.length > 0) yield piece;
			offset += piece.length;
			if (piece.length < CHUNK_BYTES && (partial === null || piece.length === 0)) return;
		}
	}

	/** Of what the base has. */
	async *base(real: Real, type: number): AsyncGenerator<Buffer> {
		const { engine } = this.#opened.overlay;
		if (type === FileType.lnk) {
			yield linkTarget(engine, real);
			return;
		}
		for (let offset = 0; ; offset += CHUNK_BYTES) {
			const data = dataOfReal(engine, real);
			const count = must(readInto(engine.descriptors.data(data, false), this.#memory.address, CHUNK_BYTES, offset), "Cannot read a file");
			engine.descriptors.trim();
			if (count > 0) yield Buffer.from(this.#memory.bytes.subarray(0, count));
			if (count < CHUNK_BYTES) return;
		}
	}

	#read(node: Node, offset: number): Buffer {
		const { count } = this.#opened.overlay.read(node, SUPERUSER, offset, CHUNK_BYTES, this.#memory, 0, "open");
		return Buffer.from(this.#memory.bytes.subarray(0, count));
	}

	#partialOf(node: Node): PartialFile | null {
		const name = recordOf(node.top).toString("hex");
		if (this.#records === null || !node.isUpper || !this.#partial.has(name)) return null;
		const found = this.#records.peek(name);
		if (found === null) return null;
		const data = dataOf(this.#opened.overlay.engine, node);
		return new PartialFile(node.top, name, data === node.top ? null : data, found.header, found.bits);
	}

	/** As the server reads it: what is not in upper yet comes from the lower. */
	#readPartial(node: Node, file: PartialFile, offset: number): Buffer {
		const { engine } = this.#opened.overlay;
		const granule = Math.floor(offset / file.granuleBytes);
		const isHere = offset >= file.lowerEnd || file.isPresent(granule) || file.data === null;
		const source = isHere ? node.top : (file.data as Real);
		const end = Math.min(offset + CHUNK_BYTES, offset >= file.lowerEnd ? Number.POSITIVE_INFINITY : (granule + 1) * file.granuleBytes);
		const wanted = isHere ? end - offset : Math.min(end, file.lowerEnd) - offset;
		const count = must(readInto(engine.descriptors.data(source, false), this.#memory.address, wanted, offset), "Cannot read a file");
		return Buffer.from(this.#memory.bytes.subarray(0, count));
	}
}
