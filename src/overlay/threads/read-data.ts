// Reads file content that the kernel has in memory, or waits for a thread that fetches it.

import type { DescriptorCache, Real } from "../../layer/real.ts";
import { RWF_NOWAIT, readInto, readVector } from "../../linux/data.ts";
import { ERRNO } from "../../linux/errno.ts";
import { must } from "../../vfs/system-errors.ts";
import type { Patience } from "./patience.ts";

interface ContentReader {
	readonly descriptors: DescriptorCache;
	readonly patience: Patience | null;
}

/** Reads content into memory at `address`: what the kernel has in memory, or Pending until another thread has read it. Bytes read, 0 at the end. */
export function readData({ patience, descriptors }: ContentReader, file: Real, address: number, length: number, offset: number): number {
	const fd = descriptors.data(file, false);
	if (patience !== null) {
		const got = readVector(fd, address, length, offset, RWF_NOWAIT);
		if (got !== -ERRNO.EAGAIN && got !== -ERRNO.EOPNOTSUPP) return must(got, "Cannot read a file");
		if (got === -ERRNO.EAGAIN) patience.data(file, fd, offset, length);
		else patience.guardData(file, fd, offset, length);
	}
	return must(readInto(fd, address, length, offset), "Cannot read a file");
}
