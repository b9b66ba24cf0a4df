import { hexOfPath, MiniOverlay, pathBelow, statOf, withInode } from "./mini-overlay.mjs";

/**
 * The path regenerated: the handle is the lower's own. Decoding opens it, asks the kernel for its path, and looks that up in the overlay.
 * What was made in upper has the handle there. With `compares`, what is found must have been copied up from the lower object.
 */
export class ByPath extends MiniOverlay {
	constructor(layers, { compares = false } = {}) {
		super(layers);
		this.compares = compares;
	}

	handleOf(entry) {
		const origin = this.originOf(entry);
		return origin === null ? `u${hexOfPath(entry.upper)}` : `l${origin}`;
	}

	decode(handle) {
		const hex = handle.slice(1);
		if (handle[0] === "l") {
			const entry = this.resolve(withInode(this.lowerRoot, hex, (fd) => pathBelow(this.lower, fd)));
			if (this.compares && this.originOf(entry) !== hex) throw new Error("stale: another object has the path");
			return entry;
		}
		return withInode(this.upperRoot, hex, (fd) => {
			if (statOf(fd).nlink === 0) throw new Error("stale: removed");
			return this.resolve(pathBelow(this.upper, fd));
		});
	}
}
