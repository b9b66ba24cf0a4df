import {
	chmodSync,
	copyFileSync,
	linkSync,
	lstatSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	unlinkSync,
	writeFileSync,
} from "node:fs";
import { basename, dirname } from "node:path";
import {
	close,
	fstat,
	getXattr,
	handleAt,
	handleOf,
	makeNode,
	O,
	openByHandle,
	openPath,
	readLink,
	Stat,
	setXattr,
	statAt,
} from "./program.mjs";

/** Of the current directory; all paths here are absolute. */
const ANYWHERE = -100;
const DIRECTORY = 4;
const CHARACTER_DEVICE = 2;
/** On a directory of upper that was copied up: where in lower it came from. */
const ORIGIN_PATH = "trusted.bench.path";
/** On a file of upper that was copied up: the handle of the lower one. */
const ORIGIN = "trusted.bench.origin";
const WHITEOUT = 0o020000;
const OPEN = O.path | O.nofollow;

/**
 * An overlay of one upper over one lower with the plain semantics of 2017, for prototypes of handles: copy up on change, whiteouts as
 * devices, renamed directories with a redirect, and no index. It remembers nothing between calls. Paths begin with "/"; "" is the root.
 *
 * An entry is `{ path, above, upper, lower, isDirectory, names }`: where it is in the layers, null where it is not, and its directory.
 */
export class MiniOverlay {
	constructor({ lower, upper }) {
		this.lower = lower;
		this.upper = upper;
		this.lowerRoot = openPath(lower, O.rdonly | O.directory);
		this.upperRoot = openPath(upper, O.rdonly | O.directory);
	}

	get root() {
		return { path: "", upper: this.upper, lower: this.lower, isDirectory: true, names: 1 };
	}

	/** The entry of a name, null where there is none. */
	child(directory, name) {
		const path = `${directory.path}/${name}`;
		if (directory.upper !== null) {
			const upper = `${directory.upper}/${name}`;
			if (statAt(ANYWHERE, upper, stat) === 0) {
				if (stat.type === CHARACTER_DEVICE) return null;
				const entry = { path, above: directory, upper, lower: null, isDirectory: stat.type === DIRECTORY, names: stat.nlink };
				const below = entry.isDirectory ? attribute(upper, ORIGIN_PATH) : null;
				return below === null ? entry : { ...entry, lower: this.lower + below };
			}
		}
		if (directory.lower === null) return null;
		const lower = `${directory.lower}/${name}`;
		if (statAt(ANYWHERE, lower, stat) < 0) return null;
		return this.ofLower({ path, above: directory, upper: null, lower, isDirectory: stat.type === DIRECTORY, names: stat.nlink });
	}

	/** For schemes with a map: a lower file may be in upper under another name. */
	ofLower(entry) {
		return entry;
	}

	resolve(path) {
		let entry = this.root;
		for (const name of path.split("/").slice(1)) {
			entry = entry.isDirectory ? this.child(entry, name) : null;
			if (entry === null) throw new Error(`stale: no ${path}`);
		}
		return entry;
	}

	list(directory) {
		const names = new Set(directory.upper === null ? [] : readdirSync(directory.upper));
		for (const name of directory.lower === null ? [] : readdirSync(directory.lower)) names.add(name);
		return names;
	}

	read(entry) {
		const file = entry.isDirectory ? this.child(entry, ".tag") : entry;
		if (file === null) return "";
		return readFileSync(file.upper ?? file.lower, "latin1");
	}

	write(path, text) {
		writeFileSync(this.copyUp(this.resolve(path)).upper, text);
	}

	chmod(path, mode) {
		chmodSync(this.copyUp(this.resolve(path)).upper, mode);
	}

	create(path, text) {
		writeFileSync(this.#newName(path), text);
	}

	mkdir(path) {
		mkdirSync(this.#newName(path));
	}

	link(from, to) {
		const { upper } = this.copyUp(this.resolve(from));
		linkSync(upper, this.#newName(to));
	}

	rename(from, to) {
		const { upper } = this.copyUp(this.resolve(from));
		const name = this.#upperPath(from);
		if (upper === name) renameSync(upper, this.#newName(to));
		else linkSync(upper, this.#newName(to));
		this.#whiteOut(from);
		this.moved(this.resolve(to));
	}

	unlink(path) {
		const entry = this.resolve(path);
		this.removing(entry);
		this.copyUp(this.resolve(dirname(path) === "/" ? "" : dirname(path)));
		if (entry.upper !== null && exists(this.#upperPath(path))) unlinkSync(this.#upperPath(path));
		this.#whiteOut(path);
	}

	/** A file of which only the inode is known; its path lasts until the next one is decoded. */
	bare(layer, hex) {
		if (this.kept !== undefined) close(this.kept);
		const root = layer === "upper" ? this.upperRoot : this.lowerRoot;
		this.kept = withInode(root, hex, (fd) => openPath(`/proc/self/fd/${fd}`, O.path));
		return { path: null, upper: null, lower: null, isDirectory: false, [layer]: `/proc/self/fd/${this.kept}` };
	}

	/** Told of an entry that has a new path, and of one that is about to lose a name. */
	moved() {}
	removing() {}

	/** Returns the entry with its upper. */
	copyUp(entry) {
		if (entry.upper !== null) return entry;
		const folder = this.#parentOf(entry.path);
		const upper = `${folder.upper}/${basename(entry.path)}`;
		if (entry.isDirectory) {
			this.makeUpperDirectory(entry, upper);
			setAttribute(upper, ORIGIN_PATH, entry.lower.slice(this.lower.length));
		} else this.makeUpperFile(entry, upper);
		return { ...entry, upper };
	}

	makeUpperDirectory(_entry, upper) {
		mkdirSync(upper);
	}

	makeUpperFile(entry, upper) {
		copyFileSync(entry.lower, upper);
		setAttribute(upper, ORIGIN, hexOfPath(entry.lower));
	}

	/** The handle of the lower object that an entry is, or was copied up from; null for one that was made in upper. */
	originOf(entry) {
		if (entry.lower !== null) return hexOfPath(entry.lower);
		return entry.isDirectory ? null : attribute(entry.upper, ORIGIN);
	}

	#parentOf(path) {
		const folder = dirname(path);
		return this.copyUp(folder === "/" ? this.root : this.resolve(folder));
	}

	#upperPath(path) {
		return `${this.#parentOf(path).upper}/${basename(path)}`;
	}

	#newName(path) {
		const upper = this.#upperPath(path);
		if (exists(upper) && lstatSync(upper).isCharacterDevice()) unlinkSync(upper);
		return upper;
	}

	/** What is under the name in lower is to be seen no more. */
	#whiteOut(path) {
		const folder = this.#parentOf(path);
		if (folder.lower !== null && exists(`${folder.lower}/${basename(path)}`)) {
			makeNode(ANYWHERE, `${folder.upper}/${basename(path)}`, WHITEOUT, 0, 0);
		}
	}
}

const stat = new Stat();

export function exists(path) {
	return statAt(ANYWHERE, path, stat) === 0;
}

/** Kernel handles as text: type, then bytes. */
export function hexOfPath(path) {
	return hexOf(handleAt(ANYWHERE, path), path);
}

export function hexOfOpen(fd) {
	return hexOf(handleOf(fd), "descriptor");
}

function hexOf(handle, what) {
	if (typeof handle === "number") throw new Error(`stale: no handle of ${what}: ${handle}`);
	return `${handle.type.toString(16).padStart(2, "0")}${handle.bytes.toString("hex")}`;
}

/** Runs `use` with a descriptor of the inode of a handle, which must be there. */
export function withInode(root, hex, use) {
	const fd = openByHandle(root, { type: Number.parseInt(hex.slice(0, 2), 16), bytes: Buffer.from(hex.slice(2), "hex") }, OPEN);
	if (fd < 0) throw new Error("stale: the inode is gone");
	try {
		return use(fd);
	} finally {
		close(fd);
	}
}

export function statOf(fd) {
	const of = new Stat();
	fstat(fd, of);
	return of;
}

/** How many names a lower file has. */
export function namesOf(root, hex) {
	return withInode(root, hex, (fd) => statOf(fd).nlink);
}

/** The path of an open inode below a folder, as the kernel knows it. */
export function pathBelow(folder, fd) {
	const path = readLink(ANYWHERE, `/proc/self/fd/${fd}`)?.toString() ?? "";
	if (path === folder) return "";
	if (!path.startsWith(`${folder}/`) || path.endsWith(" (deleted)")) throw new Error(`stale: the kernel knows no path (${path})`);
	return path.slice(folder.length);
}

/** The text of an attribute, null where there is none. */
export function attribute(path, name) {
	const fd = openPath(path, OPEN);
	const value = attributeOfOpen(fd, name);
	close(fd);
	return value;
}

export function attributeOfOpen(fd, name) {
	const value = getXattr(fd, name);
	return typeof value === "number" ? null : value.toString();
}

export function setAttribute(path, name, text) {
	const fd = openPath(path, OPEN);
	const status = setXattr(fd, name, Buffer.from(text));
	close(fd);
	if (status < 0) throw new Error(`no attribute on ${path}: ${status}`);
}
