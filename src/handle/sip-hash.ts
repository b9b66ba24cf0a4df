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

// The state of the hash under way: v0 .. v3 as halves. Module variables, since a call is never interrupted.
let v0h = 0;
let v0l = 0;
let v1h = 0;
let v1l = 0;
let v2h = 0;
let v2l = 0;
let v3h = 0;
let v3l = 0;

function rounds(count: number): void {
	let ah = v0h;
	let al = v0l;
	let bh = v1h;
	let bl = v1l;
	let ch = v2h;
	let cl = v2l;
	let dh = v3h;
	let dl = v3l;
	let t = 0;
	for (let i = 0; i < count; i++) {
		// v0 += v1; v1 = rotl(v1, 13) ^ v0; v0 = rotl(v0, 32)
		t = (al >>> 0) + (bl >>> 0);
		ah = (ah + bh + (t > 0xffffffff ? 1 : 0)) | 0;
		al = t | 0;
		t = (bh << 13) | (bl >>> 19);
		bl = ((bl << 13) | (bh >>> 19)) ^ al;
		bh = t ^ ah;
		t = ah;
		ah = al;
		al = t;
		// v2 += v3; v3 = rotl(v3, 16) ^ v2
		t = (cl >>> 0) + (dl >>> 0);
		ch = (ch + dh + (t > 0xffffffff ? 1 : 0)) | 0;
		cl = t | 0;
		t = (dh << 16) | (dl >>> 16);
		dl = ((dl << 16) | (dh >>> 16)) ^ cl;
		dh = t ^ ch;
		// v0 += v3; v3 = rotl(v3, 21) ^ v0
		t = (al >>> 0) + (dl >>> 0);
		ah = (ah + dh + (t > 0xffffffff ? 1 : 0)) | 0;
		al = t | 0;
		t = (dh << 21) | (dl >>> 11);
		dl = ((dl << 21) | (dh >>> 11)) ^ al;
		dh = t ^ ah;
		// v2 += v1; v1 = rotl(v1, 17) ^ v2; v2 = rotl(v2, 32)
		t = (cl >>> 0) + (bl >>> 0);
		ch = (ch + bh + (t > 0xffffffff ? 1 : 0)) | 0;
		cl = t | 0;
		t = (bh << 17) | (bl >>> 15);
		bl = ((bl << 17) | (bh >>> 15)) ^ cl;
		bh = t ^ ch;
		t = ch;
		ch = cl;
		cl = t;
	}
	v0h = ah;
	v0l = al;
	v1h = bh;
	v1l = bl;
	v2h = ch;
	v2l = cl;
	v3h = dh;
	v3l = dl;
}

/** Hashes bytes[start, end) and leaves the result, unsigned, in sipHashed. */
export function sipHash(key: SipKey, bytes: Uint8Array, start: number, end: number): void {
	v0l = key[0] ^ 0x70736575;
	v0h = key[1] ^ 0x736f6d65;
	v1l = key[2] ^ 0x6e646f6d;
	v1h = key[3] ^ 0x646f7261;
	v2l = key[0] ^ 0x6e657261;
	v2h = key[1] ^ 0x6c796765;
	v3l = key[2] ^ 0x79746573;
	v3h = key[3] ^ 0x74656462;
	const length = end - start;
	let at = start;
	for (const last = end - (length & 7); at < last; at += 8) {
		const low = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
		const high = bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24);
		v3l ^= low;
		v3h ^= high;
		rounds(2);
		v0l ^= low;
		v0h ^= high;
	}
	let low = 0;
	let high = (length & 0xff) << 24;
	for (let i = 0; at < end; at++, i++) {
		if (i < 4) low |= bytes[at] << (8 * i);
		else high |= bytes[at] << (8 * (i - 4));
	}
	v3l ^= low;
	v3h ^= high;
	rounds(2);
	v0l ^= low;
	v0h ^= high;
	v2l ^= 0xff;
	rounds(4);
	sipHashed[1] = (v0l ^ v1l ^ v2l ^ v3l) >>> 0;
	sipHashed[0] = (v0h ^ v1h ^ v2h ^ v3h) >>> 0;
}
