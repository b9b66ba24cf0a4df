// What tells a repeated compound from another one under the same numbers.

import { checksum } from "../rpc/duplicate-requests.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";

export interface RequestDigest {
	readonly length: number;
	readonly hi: number;
	readonly lo: number;
}

/** Of a longer request only so many bytes from its beginning and its end are looked at: a megabyte of data would cost more than writing it. */
const HEAD_BYTES = 2048;
const TAIL_BYTES = 256;

/** 64 bits over the arguments from the reader's place on, whatever credential and xid they came with. */
export function requestDigest({ view, position, end }: XdrReader): RequestDigest {
	const sum = { checksumHi: 0, checksumLo: 0 };
	if (end - position <= HEAD_BYTES + TAIL_BYTES) {
		checksum(view, position, end, sum);
	} else {
		checksum(view, position, position + HEAD_BYTES, sum);
		checksum(view, end - TAIL_BYTES, end, sum);
	}
	return { length: end - position, hi: sum.checksumHi, lo: sum.checksumLo };
}
