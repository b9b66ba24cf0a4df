import { visitEntries } from "../linux/directory.ts";
import { RENAME, removeDirectory, renameName, unlinkName } from "../linux/names.ts";
import { close, O, openAt } from "../linux/open.ts";
import { fstat, Stat, statAt } from "../linux/stat.ts";
import { demand, isSuperuser, MAY } from "./access.ts";
import { lowerLinks, statOf } from "./attributes.ts";
import { abandonCopy, ensureUpper, entryOf, setLinkDelta, writableOf } from "./copy-up.ts";
import { type Engine, must } from "./engine.ts";
import { OverlayError } from "./errors.ts";
import type { Listings } from "./listing.ts";
import { isInLowers, lookupChild, upperEntry } from "./lookup.ts";
import { checkOldName } from "./names.ts";
import type { Node } from "./node.ts";
import { type Credentials, FileType } from "./types.ts";
import { isWhiteoutStat, isXattrWhiteout } from "./whiteout.ts";

const S_ISVTX = 0o1000;

/** Write and search permission on the directory, and in a sticky one ownership of it or of the object. */
export function demandDelete(engine: Engine, directory: Node, node: Node, who: Credentials): void {
	const stat = statOf(engine, directory);
	demand(engine, directory, stat, who, MAY.write | MAY.execute);
	if ((stat.mode & S_ISVTX) === 0 || isSuperuser(who) || who.uid === stat.uid) return;
	if (who.uid !== statOf(engine, node).uid) throw new OverlayError("perm", "The directory is sticky and the object is somebody else's");
}

function childOf(engine: Engine, directory: Node, name: Uint8Array, who: Credentials): Node {
	writableOf(engine);
	if (directory.type !== FileType.dir) throw new OverlayError("notdir", "This is not a directory");
	checkOldName(name);
	demand(engine, directory, statOf(engine, directory), who, MAY.execute);
	const node = lookupChild(engine, directory, name);
	if (node === null) throw new OverlayError("noent", "There is no such name");
	return node;
}

/** Removes a name of anything but a directory. An untouched lower file is not copied for that. */
export function removeName(engine: Engine, listings: Listings, directory: Node, name: Uint8Array, who: Credentials): void {
	const node = childOf(engine, directory, name, who);
	if (node.type === FileType.dir) throw new OverlayError("isdir", "This is a directory");
	demandDelete(engine, directory, node, who);
	const { work } = writableOf(engine);
	ensureUpper(engine, directory);
	const fd = engine.descriptors.path(directory.top);
	const hadUpper = upperEntry(engine, directory, name) === "object";
	// open before its last name goes, to see what is left of it
	engine.descriptors.path(node.top);
	if (!hadUpper) {
		if (!work.placeWhiteout(fd, name)) throw new OverlayError("io", "A name of upper changed behind the server's back");
	} else if (isInLowers(engine, directory, name)) {
		const temporary = work.makeWhiteout();
		const status = renameName(work.temporaries, temporary, fd, name);
		if (status < 0) work.discard(temporary);
		must(status, "Cannot put a whiteout in the place of a file");
	} else {
		must(unlinkName(fd, name), "Cannot remove a name");
	}
	listings.noteRemoved(directory, name);
	dropName(engine, node, directory, name, hadUpper);
}

/** The object has one name less. `hadUpper`: the name was one of the upper inode's own. When it was the last, the object is gone. */
export function dropName(engine: Engine, node: Node, directory: Node, name: Uint8Array, hadUpper: boolean): void {
	const { index, linkCounts } = writableOf(engine);
	if (node.parent === directory && node.name?.equals(name)) {
		node.parent = null;
		node.name = null;
	}
	const stat = statOf(engine, node);
	const entry = entryOf(engine, node);
	if (!node.isUpper) {
		const left = lowerLinks(engine, node, stat) - 1;
		if (left > 0) {
			node.lowerLinks = left;
			if (entry !== null) linkCounts.set(entry, left);
			return;
		}
		if (entry !== null) {
			index.enterWhiteout(entry);
			if (stat.nlink > 1) linkCounts.delete(entry);
		}
	} else if (node.isIndexed) {
		if (!hadUpper) setLinkDelta(engine, node, node.nlinkDelta - 1);
		if (stat.nlink + node.nlinkDelta > 0) return;
		if (entry !== null) {
			index.enterWhiteout(entry);
			linkCounts.noteNamed(entry);
		}
	} else if (stat.nlink > 0) return;
	abandonCopy(engine, node);
	engine.nodes.bury(node);
}

/** Removes an empty directory: whiteouts do not count as content. */
export function removeDirectoryName(engine: Engine, listings: Listings, directory: Node, name: Uint8Array, who: Credentials): void {
	const node = childOf(engine, directory, name, who);
	if (node.type !== FileType.dir) throw new OverlayError("notdir", "This is not a directory");
	demandDelete(engine, directory, node, who);
	if (!isEmpty(engine, node)) throw new OverlayError("notempty", "The directory is not empty");
	ensureUpper(engine, directory);
	dropDirectory(engine, directory, name);
	listings.noteRemoved(directory, name);
	listings.forget(node);
	buryDirectory(engine, node);
}

/** Takes an empty directory out of its place in upper, leaving a whiteout where a lower has the name. */
function dropDirectory(engine: Engine, directory: Node, name: Uint8Array): void {
	const { work } = writableOf(engine);
	const fd = engine.descriptors.path(directory.top);
	if (upperEntry(engine, directory, name) !== "object") {
		if (!work.placeWhiteout(fd, name)) throw new OverlayError("io", "A name of upper changed behind the server's back");
		return;
	}
	if (isInLowers(engine, directory, name)) {
		const temporary = work.makeWhiteout();
		const status = renameName(work.temporaries, temporary, fd, name, RENAME.exchange);
		// what is now in work is the directory with its whiteouts; on failure it is the whiteout
		work.discard(temporary);
		must(status, "Cannot put a whiteout in the place of a directory");
		return;
	}
	if (removeDirectory(fd, name) === 0) return;
	const temporary = work.temporaryName();
	must(renameName(fd, name, work.temporaries, temporary), "Cannot remove a directory");
	work.discard(temporary);
}

/** The directory has left the tree for ever. */
export function buryDirectory(engine: Engine, node: Node): void {
	const entry = entryOf(engine, node);
	if (entry !== null) writableOf(engine).index.enterWhiteout(entry);
	engine.nodes.bury(node);
}

/** Whether the overlay shows nothing in this directory. */
export function isEmpty(engine: Engine, node: Node): boolean {
	const hidden = new Set<string>();
	const stat = new Stat();
	for (const real of node.reals) {
		if (real.foreign) continue;
		const fd = must(openAt(engine.descriptors.path(real), ".", O.rdonly | O.directory | O.noatime), "Cannot open a directory for reading");
		let isFree = true;
		const status = visitEntries(fd, (name, type) => {
			const key = Buffer.from(name).toString("latin1");
			if (hidden.has(key)) return undefined;
			hidden.add(key);
			const mayBeWhiteout = type === FileType.chr || type === 0 || (type === FileType.reg && real.hasXattrWhiteouts);
			if (mayBeWhiteout && isWhiteoutAt(fd, name, stat, real.hasXattrWhiteouts)) return undefined;
			isFree = false;
			return false;
		});
		close(fd);
		must(status, "Cannot read a directory");
		if (!isFree) return false;
	}
	return true;
}

function isWhiteoutAt(directory: number, name: Uint8Array, stat: Stat, asXattr: boolean): boolean {
	if (statAt(directory, name, stat) < 0) return false;
	if (isWhiteoutStat(stat)) return true;
	if (!asXattr) return false;
	const fd = openAt(directory, name, O.path | O.nofollow);
	if (fd < 0) return false;
	const found = fstat(fd, stat) === 0 && isXattrWhiteout(fd, stat);
	close(fd);
	return found;
}
