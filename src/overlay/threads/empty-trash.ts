// The job that removes what lies in the trash, in slices of time.

import { truncateFile } from "../../linux/data.ts";
import { visitEntries } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import { removeDirectory, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";

export interface TrashRequest {
	/** Descriptor of the trash. */
	readonly folder: number;
	readonly names: readonly string[];
}

/** After so long others have their turn in this thread. */
const SLICE_MS = 100;
/** What is cut off a file at first. It doubles as long as that is quick. */
const PIECE_BYTES = 1024 * 1024;
const PIECE_BYTES_MIN = 64 * 1024;
const QUICK_MS = 20;
/** Names of a directory that are read before they are removed. */
const NAMES_AT_ONCE = 4096;
/** Not done when the slice was over. */
const UNDONE = 1;

const stat = new Stat();

/** How many were removed, the first of them; or the negated error number, where the first one cannot be. */
export function emptyTrash({ folder, names }: TrashRequest): number {
	const until = performance.now() + SLICE_MS;
	let removed = 0;
	for (const name of names) {
		const status = remove(folder, name, until);
		if (status === UNDONE) return removed;
		if (status < 0 && status !== -ERRNO.ENOENT) return removed > 0 ? removed : status;
		removed++;
		if (performance.now() > until) break;
	}
	return removed;
}

function remove(folder: number, name: string | Buffer, until: number): number {
	const fd = openAt(folder, name, O.path | O.nofollow);
	if (fd < 0) return fd;
	const status = fstat(fd, stat);
	const { type, nlink, size } = stat;
	close(fd);
	if (status < 0) return status;
	if (type === FileType.dir) return removeTree(folder, name, until);
	// whatever else has it open: its blocks are freed here, and not in the thread that closes it last. With another name it is somebody's
	if (type === FileType.reg && nlink === 1 && size > 0 && !empty(folder, name, size, until)) return UNDONE;
	return unlinkName(folder, name);
}

/** False: not yet. What cannot be opened is freed with its name. */
function empty(folder: number, name: string | Buffer, from: number, until: number): boolean {
	const fd = openAt(folder, name, O.rdwr | O.nofollow | O.nonblock);
	if (fd < 0) return true;
	let piece = PIECE_BYTES;
	let size = from;
	while (size > 0) {
		const begun = performance.now();
		size = Math.max(0, size - piece);
		if (truncateFile(fd, size) < 0) break;
		const now = performance.now();
		piece = now - begun > QUICK_MS ? Math.max(PIECE_BYTES_MIN, piece / 2) : piece * 2;
		if (now > until && size > 0) {
			close(fd);
			return false;
		}
	}
	close(fd);
	return true;
}

function removeTree(folder: number, name: string | Buffer, until: number): number {
	const fd = openAt(folder, name, O.rdonly | O.directory | O.nofollow);
	if (fd < 0) return fd;
	try {
		for (;;) {
			const children: Buffer[] = [];
			const status = visitEntries(fd, (child) => {
				children.push(Buffer.from(child));
				return children.length < NAMES_AT_ONCE;
			});
			if (status < 0) return status;
			if (children.length === 0) return removeDirectory(folder, name);
			for (const child of children) {
				let removed = unlinkName(fd, child);
				if (removed === -ERRNO.EISDIR || removed === -ERRNO.EPERM) removed = remove(fd, child, until);
				if (removed !== 0) return removed;
				if (performance.now() > until) return UNDONE;
			}
		}
	} finally {
		close(fd);
	}
}
