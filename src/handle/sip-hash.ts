/**
 * SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed 64-bit hash for short inputs. 64-bit words are two 32-bit halves,
 * because BigInt is many times slower; the result is left in `sipHashed`, because an object per call is too.
 */
/** The last result, unsigned: the high word, and the low word. */
export const sipHashed = new Uint32Array(2);

/** Sixteen key bytes as four little-endian words. */
export type SipKey = Uint32Array;

export function sipKey(bytes: Uint8Array): SipKey {
	if (bytes.length !== 16) throw new RangeError("A SipHash key has 16 bytes");
	const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
	return Uint32Array.of(view.getUint32(0, true), view.getUint32(4, true), view.getUint32(8, true), view.getUint32(12, true));
}

/** Up to four bytes before the end, the first one lowest. */
function partAt(bytes: Uint8Array, at: number, end: number): number {
	let part = 0;
	for (let i = 0; i < 4 && at + i < end; i++) part |= bytes[at + i] << (8 * i);
	return part;
}

/** Hashes bytes[start, end) and leaves the result, unsigned, in sipHashed. In one loop, so that the state never leaves the registers. */
export function sipHash(key: SipKey, bytes: Uint8Array, start: number, end: number): void {
	let al = key[0] ^ 0x70736575;
	let ah = key[1] ^ 0x736f6d65;
	let bl = key[2] ^ 0x6e646f6d;
	let bh = key[3] ^ 0x646f7261;
	let cl = key[0] ^ 0x6e657261;
	let ch = key[1] ^ 0x6c796765;
	let dl = key[2] ^ 0x79746573;
	let dh = key[3] ^ 0x74656462;
	const length = end - start;
	const last = end - (length & 7);
	let count = 2;
	for (let at = start; ; at += 8) {
		let low = 0;
		let high = 0;
		if (at < last) {
			low = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
			high = bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24);
		} else if (at === last) {
			low = partAt(bytes, at, end);
			high = partAt(bytes, at + 4, end) | ((length & 0xff) << 24);
		} else {
			cl ^= 0xff;
			count = 4;
		}
		dl ^= low;
		dh ^= high;
		for (let i = 0; i < count; i++) {
			// v0 += v1; v1 = rotl(v1, 13) ^ v0; v0 = rotl(v0, 32)
			al = (al + bl) | 0;
			ah = (ah + bh + (al >>> 0 < bl >>> 0 ? 1 : 0)) | 0;
			let t = (bh << 13) | (bl >>> 19);
			bl = ((bl << 13) | (bh >>> 19)) ^ al;
			bh = t ^ ah;
			t = ah;
			ah = al;
			al = t;
			// v2 += v3; v3 = rotl(v3, 16) ^ v2
			cl = (cl + dl) | 0;
			ch = (ch + dh + (cl >>> 0 < dl >>> 0 ? 1 : 0)) | 0;
			t = (dh << 16) | (dl >>> 16);
			dl = ((dl << 16) | (dh >>> 16)) ^ cl;
			dh = t ^ ch;
			// v0 += v3; v3 = rotl(v3, 21) ^ v0
			al = (al + dl) | 0;
			ah = (ah + dh + (al >>> 0 < dl >>> 0 ? 1 : 0)) | 0;
			t = (dh << 21) | (dl >>> 11);
			dl = ((dl << 21) | (dh >>> 11)) ^ al;
			dh = t ^ ah;
			// v2 += v1; v1 = rotl(v1, 17) ^ v2; v2 = rotl(v2, 32)
			cl = (cl + bl) | 0;
			ch = (ch + bh + (cl >>> 0 < bl >>> 0 ? 1 : 0)) | 0;
			t = (bh << 17) | (bl >>> 15);
			bl = ((bl << 17) | (bh >>> 15)) ^ cl;
			bh = t ^ ch;
			t = ch;
			ch = cl;
			cl = t;
		}
		al ^= low;
		ah ^= high;
		if (count === 4) break;
	}
	sipHashed[1] = (al ^ bl ^ cl ^ dl) >>> 0;
	sipHashed[0] = (ah ^ bh ^ ch ^ dh) >>> 0;
}
