// Memory that several processes share by a descriptor, and that outlives each of them: memfd_create(2) and mmap(2).

import { truncateFile } from "./data.ts";
import { koffi } from "./koffi.ts";
import { declare, PLACE, putPath, result } from "./libc.ts";
import type { AddressedBytes } from "./memory.ts";
import { close } from "./open.ts";

const memfdCreateCall = declare("memfd_create", "int", ["pointer", "uint"]);
const mmapCall = declare("mmap", "int64_t", ["int64_t", "size_t", "int", "int", "int", "int64_t"]);
const munmapCall = declare("munmap", "int", ["int64_t", "size_t"]);

const MFD_CLOEXEC = 1;
const [PROT_READ, PROT_WRITE, MAP_SHARED] = [1, 2, 1];

/** A descriptor of so many bytes of memory, all zero. A page takes room once it was written. Or the negated error number. */
export function makeSharedMemory(name: string, size: number): number {
	const fd = result(memfdCreateCall(putPath(PLACE.path, name), MFD_CLOEXEC));
	if (fd < 0) return fd;
	const status = truncateFile(fd, size);
	if (status === 0) return fd;
	close(fd);
	return status;
}

/** The first `size` bytes behind a descriptor, at an address: what is written there others see who have it too. Or the negated error number. */
export function mapShared(fd: number, size: number): AddressedBytes | number {
	const address = result(mmapCall(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	if (address < 0) return address;
	return { bytes: Buffer.from(koffi.view(address as never, size) as ArrayBuffer), address };
}

/** Ends a mapping. Its bytes must not be touched any more. */
export function unmapShared({ bytes, address }: AddressedBytes): number {
	return result(munmapCall(address, bytes.length));
}
