import { allocateMemory } from "./libc.ts";

/** Memory that system calls can fill and that never moves: `address` is that of `bytes[0]`. */
export interface AddressedBytes {
	readonly bytes: Buffer;
	readonly address: number;
}

/** Memory with a known address, for buffers that system calls fill and sockets send. It lives as long as `bytes` does. */
export function allocate(size: number): AddressedBytes {
	return allocateMemory(size);
}
