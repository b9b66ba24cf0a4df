// Memory whose address is known, for buffers that system calls fill.

import { koffi } from "./koffi.ts";

/** Memory that system calls can fill and that never moves: `address` is that of `bytes[0]`. */
export interface AddressedBytes {
	readonly bytes: Buffer;
	readonly address: number;
}

/** Memory with a known address, for buffers that system calls fill and sockets send. It lives as long as `bytes` does. */
export function allocate(size: number): AddressedBytes {
	const bytes = Buffer.from(new ArrayBuffer(size));
	return { bytes, address: Number(koffi.address(bytes)) };
}

/** A copy of a few bytes that live long: on the heap of objects, where it costs half of what other memory does, and keeps nothing else alive. */
export function copyBytes(source: Uint8Array, start = 0, end: number = source.length): Buffer {
	const copy = Buffer.allocUnsafeSlow(end - start);
	for (let i = start; i < end; i++) copy[i - start] = source[i];
	return copy;
}
