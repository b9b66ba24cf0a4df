import { linkSync, mkdirSync, readlinkSync, symlinkSync, unlinkSync } from "node:fs";
import { basename, dirname } from "node:path";
import { exists, hexOfPath, MiniOverlay, namesOf, pathBelow, statOf, withInode } from "./mini-overlay.mjs";

/** S_IFDIR >> 12. */
const DIRECTORY = 4;

/**
 * Handles from both layers: that of the lower object, or of the upper one if it is there when asked. A map, made at copy up, leads from the
 * lower object to the upper one: hard links of files, named by the lower handle, and symlinks that name the handle of directories.
 */
export class ByMap extends MiniOverlay {
	constructor(layers) {
		super(layers);
		this.map = `${layers.work}/map`;
		mkdirSync(this.map, { recursive: true });
	}

	handleOf(entry) {
		return entry.upper === null ? `l${hexOfPath(entry.lower)}` : `u${hexOfPath(entry.upper)}`;
	}

	decode(handle) {
		return handle[0] === "l" ? this.#decodeLower(handle.slice(1)) : this.#decodeUpper(handle.slice(1));
	}

	#decodeLower(hex) {
		const mapped = `${this.map}/${hex}`;
		if (exists(mapped)) {
			const target = targetOf(mapped);
			return target === null ? { path: null, upper: mapped, lower: null, isDirectory: false } : this.#decodeUpper(target);
		}
		return withInode(this.lowerRoot, hex, (fd) => {
			// the path of a file need not be known, and here it is not asked for
			if (statOf(fd).type !== DIRECTORY) return this.bare("lower", hex);
			const below = pathBelow(this.lower, fd);
			if (below === "") return this.root;
			const above = this.#decodeLower(hexOfPath(dirname(this.lower + below)));
			const entry = this.child(above, basename(below));
			if (entry?.lower !== this.lower + below) throw new Error("stale: another directory has the path");
			return entry;
		});
	}

	#decodeUpper(hex) {
		return withInode(this.upperRoot, hex, (fd) => {
			const { nlink, type } = statOf(fd);
			if (nlink === 0) throw new Error("stale: removed");
			return type === DIRECTORY ? this.resolve(pathBelow(this.upper, fd)) : this.bare("upper", hex);
		});
	}

	ofLower(entry) {
		if (entry.isDirectory || entry.names < 2) return entry;
		const mapped = `${this.map}/${hexOfPath(entry.lower)}`;
		return exists(mapped) ? { ...entry, upper: mapped } : entry;
	}

	makeUpperFile(entry, upper) {
		super.makeUpperFile(entry, upper);
		linkSync(upper, `${this.map}/${hexOfPath(entry.lower)}`);
	}

	makeUpperDirectory(entry, upper) {
		super.makeUpperDirectory(entry, upper);
		symlinkSync(hexOfPath(upper), `${this.map}/${hexOfPath(entry.lower)}`);
	}

	/** The link of the map is no name: it goes with the last one. */
	removing(entry) {
		const origin = entry.upper === null ? null : this.originOf(entry);
		if (origin !== null && !entry.isDirectory && entry.names === 2 && namesOf(this.lowerRoot, origin) === 1) {
			unlinkSync(`${this.map}/${origin}`);
		}
	}
}

function targetOf(path) {
	try {
		return readlinkSync(path);
	} catch {
		return null;
	}
}
