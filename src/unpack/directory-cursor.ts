// Goes down and up in a tree with one descriptor, however deep it is.

import { ERRNO } from "../linux/errno.ts";
import { close, O, openAt, openBeneath, RESOLVE } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";

const FLAGS = O.path | O.directory | O.nofollow;

export class DirectoryCursor {
	#fd: number;
	/** The directories that it came through, from the top down: ".." must lead to the very same. */
	readonly #above: Stat[] = [];

	/** `parent` remains the caller's; a failure to open it shows in `fd`. */
	constructor(parent: number, name: Uint8Array | string = ".") {
		this.#fd = name === "." ? openAt(parent, ".", FLAGS) : openChild(parent, name);
	}

	/** O_PATH, good until the next step; or the negated error number where it could not be opened. */
	get fd(): number {
		return this.#fd;
	}

	/** To a directory of that name, through no link and not to another file system. 0, or the negated error number, and then it stays. */
	down(name: Uint8Array): number {
		const stat = new Stat();
		const status = fstat(this.#fd, stat);
		const child = status < 0 ? status : openChild(this.#fd, name);
		if (child < 0) return child;
		close(this.#fd);
		this.#fd = child;
		this.#above.push(stat);
		return 0;
	}

	/** Back to where it came from. ESTALE: somebody has moved the directory meanwhile. */
	up(): number {
		const expected = this.#above.pop();
		if (expected === undefined) return -ERRNO.EINVAL;
		const parent = openAt(this.#fd, "..", FLAGS);
		if (parent < 0) return parent;
		const stat = new Stat();
		const status = fstat(parent, stat);
		if (status < 0 || !stat.sameInode(expected)) {
			close(parent);
			return status < 0 ? status : -ERRNO.ESTALE;
		}
		close(this.#fd);
		this.#fd = parent;
		return 0;
	}

	close(): void {
		if (this.#fd >= 0) close(this.#fd);
	}
}

function openChild(parent: number, name: Uint8Array | string): number {
	return openBeneath(parent, name, FLAGS, RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev);
}
