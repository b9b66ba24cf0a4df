// How far a compound had come before a change, as it is kept for a retry after a restart.

import { XdrReader } from "../xdr/xdr-reader.ts";
import { XdrWriter } from "../xdr/xdr-writer.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import type { WireStateid } from "./stateid.ts";

/** Results before a change that are kept, as much as of a whole reply; in a compound whose reply is kept they are never more. */
export const PROGRESS_BYTES_MAX = 8192;

export interface KeptPlace {
	readonly handle: Uint8Array;
	readonly stateid: WireStateid | null;
}

export interface Progress {
	/** The operation that comes next, and the bytes of arguments from it on. */
	readonly index: number;
	readonly bytesLeft: number;
	readonly current: KeptPlace | null;
	readonly saved: KeptPlace | null;
	/** Results of the operations behind SEQUENCE. */
	readonly results: Uint8Array;
}

const Kept = { none: 0, anonymous: 1, bypass: 2, ordinary: 3 } as const;

/** Used again for each. */
const to = XdrWriter.growing();

export function writeProgress({ index, bytesLeft, current, saved, results }: Progress): Uint8Array {
	to.rewind(0);
	to.u64(index, bytesLeft);
	writePlace(current);
	writePlace(saved);
	to.opaque(results);
	return to.copyFrom(0);
}

function writePlace(place: KeptPlace | null): void {
	to.bool(place !== null);
	if (place === null) return;
	to.opaque(place.handle);
	const { stateid } = place;
	if (stateid === null || typeof stateid === "string") {
		to.u32(Kept[stateid ?? "none"]);
		return;
	}
	to.u32(Kept.ordinary);
	to.u64(stateid.seqid, stateid.boot);
	to.u64(stateid.index, stateid.generation);
}

export function readProgress(bytes: Uint8Array): Progress {
	const from = XdrReader.over(bytes);
	const [index, bytesLeft] = [from.u32(), from.u32()];
	return { index, bytesLeft, current: readPlace(from), saved: readPlace(from), results: from.opaque(PROGRESS_BYTES_MAX) };
}

function readPlace(from: XdrReader): KeptPlace | null {
	if (!from.bool()) return null;
	const handle = new Uint8Array(from.opaque(HANDLE_BYTES_MAX));
	switch (from.u32()) {
		case Kept.anonymous:
			return { handle, stateid: "anonymous" };
		case Kept.bypass:
			return { handle, stateid: "bypass" };
		case Kept.ordinary:
			return { handle, stateid: { seqid: from.u32(), boot: from.u32(), index: from.u32(), generation: from.u32() } };
		default:
			return { handle, stateid: null };
	}
}
