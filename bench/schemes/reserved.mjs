import { copyFileSync, linkSync, mkdirSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { attribute, attributeOfOpen, exists, hexOfPath, MiniOverlay, namesOf, setAttribute, statOf, withInode } from "./mini-overlay.mjs";

/** S_IFDIR >> 12. */
const DIRECTORY = 4;
/** Handle of the directory above, "/", name. */
const PARENT = "trusted.bench.parent";
/** On an inode that was copied up: the handle of the lower object. */
const FILLED = "trusted.bench.filled";

/**
 * An inode of upper is reserved for each object that is looked up: copy up will fill it, and its handle is the object's from then on. Until
 * then it is empty, named by the lower handle, and a record on it leads to its path: the handle of the directory above, and the name there.
 */
export class Reserved extends MiniOverlay {
	constructor(layers) {
		super(layers);
		this.reserved = `${layers.work}/reserved`;
		// on its own: who opens a directory by its handle may have to find its name in the one above
		this.reservedDirectories = `${layers.work}/reserved-directories`;
		for (const folder of [this.reserved, this.reservedDirectories]) mkdirSync(folder, { recursive: true });
		this.rootHandle = hexOfPath(this.upper);
	}

	handleOf(entry) {
		if (entry.path === "") return this.rootHandle;
		entry.handle ??= this.#handleOf(entry);
		return entry.handle;
	}

	#handleOf(entry) {
		if (entry.upper !== null) {
			// what was made in upper is noted when it is seen first
			if (entry.isDirectory && attribute(entry.upper, PARENT) === null) this.#note(entry, entry.upper);
			return hexOfPath(entry.upper);
		}
		const place = this.#placeOf(entry);
		if (!exists(place)) {
			if (entry.isDirectory) mkdirSync(place);
			else writeFileSync(place, "");
			this.#note(entry, place);
		}
		return hexOfPath(place);
	}

	#note(entry, at) {
		setAttribute(at, PARENT, `${this.handleOf(entry.above)}/${basename(entry.path)}`);
	}

	#placeOf(entry) {
		return `${entry.isDirectory ? this.reservedDirectories : this.reserved}/${hexOfPath(entry.lower)}`;
	}

	decode(handle) {
		if (handle === this.rootHandle) return this.root;
		const isReal = withInode(this.upperRoot, handle, (fd) => {
			const { type, nlink } = statOf(fd);
			if (nlink === 0) throw new Error("stale: removed");
			return type !== DIRECTORY && (attributeOfOpen(fd, PARENT) === null || attributeOfOpen(fd, FILLED) !== null);
		});
		if (isReal) return this.bare("upper", handle);
		const entry = this.resolve(this.#pathOf(handle));
		const place = entry.upper ?? this.#placeOf(entry);
		if (!exists(place) || hexOfPath(place) !== handle) throw new Error("stale: another object has the path");
		return entry;
	}

	#pathOf(handle) {
		if (handle === this.rootHandle) return "";
		const parent = withInode(this.upperRoot, handle, (fd) => attributeOfOpen(fd, PARENT));
		if (parent === null) throw new Error("stale: no path was noted");
		const slash = parent.indexOf("/");
		return `${this.#pathOf(parent.slice(0, slash))}/${parent.slice(slash + 1)}`;
	}

	ofLower(entry) {
		if (entry.isDirectory || entry.names < 2) return entry;
		const place = this.#placeOf(entry);
		return exists(place) && attribute(place, FILLED) !== null ? { ...entry, upper: place } : entry;
	}

	makeUpperFile(entry, upper) {
		this.handleOf(entry);
		const place = this.#placeOf(entry);
		copyFileSync(entry.lower, place);
		setAttribute(place, FILLED, hexOfPath(entry.lower));
		linkSync(place, upper);
	}

	makeUpperDirectory(entry, upper) {
		this.handleOf(entry);
		renameSync(this.#placeOf(entry), upper);
	}

	moved(entry) {
		this.#note(entry, entry.upper);
	}

	removing(entry) {
		if (entry.isDirectory) return;
		const origin = entry.upper === null ? hexOfPath(entry.lower) : attribute(entry.upper, FILLED);
		const isLast = entry.upper === null ? entry.names === 1 : entry.names === 2;
		if (origin === null || !isLast || namesOf(this.lowerRoot, origin) > 1) return;
		if (exists(`${this.reserved}/${origin}`)) unlinkSync(`${this.reserved}/${origin}`);
	}
}
