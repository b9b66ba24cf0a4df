// Makes one object what the lowers show again: each function is one change, with all its steps in one intent.

import type { Real } from "../../layer/real.ts";
import { hasEntries } from "../../linux/directory.ts";
import { linkDescriptor, RENAME, renameName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat } from "../../linux/stat.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { failed, must } from "../../vfs/system-errors.ts";
import { abandonCopy } from "../copy-up/copy-job.ts";
import { dressDirectory, markImpure } from "../copy-up/copy-up.ts";
import { type Engine, entryOf, writableOf } from "../engine/engine.ts";
import type { Home } from "../engine/home.ts";
import { encodeRecord } from "../format/identity.ts";
import { Plan } from "../journal/plan.ts";
import type { Listings } from "../listing/listing.ts";
import { birthStat } from "../lookup/objects.ts";
import { findInStack } from "../lookup/stack-search.ts";
import { linkCount, statOf } from "../lookup/stat.ts";
import { identityKey, type Node } from "../nodes/node.ts";
import { lowersOf, recordOf } from "../nodes/reals.ts";
import { orphanMark, orphanName } from "../work/held-objects.ts";
import { getVersion, getVersionOfGone } from "../work/marks.ts";
import { shownValues } from "./extended-attributes.ts";
import type { Entry } from "./move-redirect.ts";
import { planCount, planTrash } from "./remove.ts";

/** What the lowers have under a name of a directory, whatever upper has there. */
export interface Below {
	readonly reals: Real[];
	/** Of the topmost. */
	readonly stat: Stat;
	/** Key of the object that it was born as, and the name of its index entry. */
	readonly key: string;
	readonly entry: string;
}

/** Null: nothing. */
export function belowName(engine: Engine, directory: Node, name: Uint8Array): Below | null {
	const lowers = lowersOf(directory);
	const found = lowers.length === 0 ? null : findInStack(engine, lowers, name);
	if (found === null) return null;
	const [{ layer, handle }] = found.reals;
	const { uuid } = engine.homes.get(layer.home) as Home;
	return { ...found, key: identityKey(layer.home, handle), entry: encodeRecord(uuid, handle, false).toString("hex") };
}

/** What became of a lower object: nothing; it is gone; or it lies in upper, wherever. */
export function fateOf(engine: Engine, entry: string): "absent" | "gone" | "upper" {
	const answer = writableOf(engine).index.ask(entry);
	if (answer.kind === "upper") close(answer.fd);
	return answer.kind;
}

/** Names that an upper inode has in upper: one link is that of the index. */
export function namesInUpper(engine: Engine, node: Node): number {
	return statOf(engine, node).nlink - (node.isIndexed ? 1 : 0);
}

/**
 * Shows the lower file again in the place of its copy: `names` are all names that the copy has in upper, each one under which the lowers show
 * the file too. What it has of names stays.
 */
export function revertFile(engine: Engine, listings: Listings, node: Node, names: readonly Entry[]): void {
	const writable = writableOf(engine);
	const entry = entryOf(engine, node);
	if (entry === null || !node.isUpper || node.type === FileType.dir) throw new OverlayError("io", "This is no copy of a lower file");
	if (node.copyUp?.state === "running") throw new Pending(node.copyUp.ready);
	const left = linkCount(engine, node, statOf(engine, node));
	const lower = new Stat();
	birthStat(engine, node, lower).layers[0].handles.countNames(node.id, lower);
	const real = node.top;
	const plan = new Plan(engine, writable);
	const inode = plan.of(node);
	const fd = engine.descriptors.path(real);
	if (lower.nlink > 1) planCount(engine, plan, entry, left < lower.nlink ? left : null, getVersion(writable, fd, node.type));
	const brought = planTrash(engine, plan, node, true);
	for (const { directory, name } of names) {
		plan.add({ op: "unlink", in: plan.in(directory), name, inode }, () => linkDescriptor(fd, engine.descriptors.path(directory.top), name));
	}
	if (writable.linkCounts.isUnnamed(entry)) {
		plan.add({ op: "unnamed", entry, value: false }, () => writable.linkCounts.noteUnnamed(entry));
	}
	plan.add({ op: "unlink", in: "index", name: entry, inode }, () => linkDescriptor(fd, writable.index.placeFor(entry), entry));
	if (writable.ids !== null) plan.add({ op: "forget", inode });
	plan.perform();
	brought?.();
	forgetUpper(engine, node);
	for (const { directory } of names) listings.forget(directory);
}

/** What is in memory of an object whose upper inode is gone: it is loaded again as the lower's. */
function forgetUpper(engine: Engine, node: Node): void {
	abandonCopy(engine, node);
	if (node.type === FileType.reg) engine.partials?.drop(node.top);
	if (node.data !== null && node.data !== node.top) engine.dataFiles.delete(recordOf(node.top));
	engine.changeAttribute.leave(node);
	engine.nodes.forget(node);
}

/**
 * Shows the lower directory again in the place of the upper one that it is merged with, which stands at its own place and holds nothing.
 * "notempty": it does.
 */
export function revertDirectory(engine: Engine, listings: Listings, { directory, name }: Entry, node: Node, below: Below): void {
	const writable = writableOf(engine);
	const entry = entryOf(engine, node);
	if (entry === null || !node.isUpper) throw new OverlayError("io", "This is no copy of a lower directory");
	if (holdsAnything(engine, node.top)) throw new OverlayError("notempty", "The directory of upper is not empty");
	const indexed = writable.layer.handles.at(writable.index.fd, entry);
	if (typeof indexed === "number") throw failed("Cannot read an index entry", indexed);
	const plan = new Plan(engine, writable);
	const inode = plan.of(node);
	plan.add({ op: "unlink", in: plan.in(directory), name, inode });
	// without its directory the entry says nothing: the object is the lower one whether this is made or not
	plan.add({ op: "unlink", in: "index", name: entry, inode: indexed });
	if (writable.ids !== null) plan.add({ op: "forget", inode });
	plan.perform();
	engine.changeAttribute.leave(node);
	engine.nodes.replaceReals(node, below.reals);
	listings.forget(node);
	listings.forget(directory);
}

export function holdsAnything(engine: Engine, real: Real): boolean {
	const fd = must(openAt(engine.descriptors.path(real), ".", O.rdonly | O.directory | O.noatime), "Cannot open a directory for reading");
	const found = hasEntries(fd);
	close(fd);
	return must(found, "Cannot read a directory") === 1;
}

/** Takes a whiteout away that hides nothing. */
export function dropWhiteout(engine: Engine, listings: Listings, { directory, name }: Entry): void {
	const plan = new Plan(engine, writableOf(engine));
	plan.add({ op: "unlinkWhiteout", in: plan.in(directory), name }).perform();
	listings.forget(directory);
}

/** Brings the name back that a whiteout hides, of a lower object that does not lie in upper; a directory with all that nothing else hides in it. */
export function restoreName(engine: Engine, listings: Listings, { directory, name }: Entry, below: Below): void {
	const writable = writableOf(engine);
	const { index, work } = writable;
	const plan = new Plan(engine, writable);
	const revived = planRevival(engine, plan, below);
	if (fateOf(engine, below.entry) === "gone") {
		plan.add({ op: "unlinkWhiteout", in: "index", name: below.entry }, () => work.placeWhiteout(index.placeFor(below.entry), below.entry));
	}
	plan.add({ op: "unlinkWhiteout", in: plan.in(directory), name }, () => work.placeWhiteout(engine.descriptors.path(directory.top), name));
	plan.perform();
	revived();
	listings.forget(directory);
}

/** Steps for a lower file that gets a name back: how many it has then, and nothing among the orphans. To be called when they have been made. */
function planRevival(engine: Engine, plan: Plan, { key, entry, stat }: Below): () => void {
	const { held, nodes } = engine;
	const writable = writableOf(engine);
	if (stat.type === FileType.dir) return () => {};
	if (stat.nlink > 1) {
		const isGone = fateOf(engine, entry) === "gone";
		const left = isGone ? 0 : writable.linkCounts.get(entry);
		const version = isGone ? getVersionOfGone(writable, Buffer.from(entry, "hex")) : null;
		if (left !== null) planCount(engine, plan, entry, left + 1 < stat.nlink ? left + 1 : null, version);
	}
	const node = nodes.get(key);
	if (node !== undefined) plan.touch(node);
	if (!held.isOrphan(key)) return () => (node === undefined ? undefined : nodes.forget(node));
	const fd = held.open(key);
	if (fd < 0) plan.add({ op: "unmark", name: orphanMark(key) });
	else {
		const inode = writable.layer.handles.of(fd);
		close(fd);
		if (typeof inode === "number") throw failed("Cannot take a file handle", inode);
		plan.add({ op: "unlink", in: "orphans", name: orphanName(key), inode });
		if (writable.ids !== null) plan.add({ op: "forget", inode });
	}
	return () => {
		held.revive(key);
		if (node === undefined) return;
		if (node.isUpper) forgetUpper(engine, node);
		else nodes.forget(node);
	};
}

/**
 * Brings a lower directory back in the place of a whiteout, as one that is merged with an upper one: `temporary`, in work, has whiteouts for what
 * is not to be seen in it yet.
 */
export function restoreMerged(engine: Engine, listings: Listings, { directory, name }: Entry, below: Below, temporary: string): void {
	const writable = writableOf(engine);
	const { work, index, layer } = writable;
	const [source] = below.reals;
	const fd = must(openAt(work.temporaries, temporary, O.rdonly | O.directory), "Cannot open a directory in work");
	const leftovers: string[] = [];
	try {
		const real = dressDirectory(engine, writable, source, fd, directory.top.handle, name);
		const entryName = index.buildDirectoryEntry(real.handle);
		const entryHandle = layer.handles.at(work.temporaries, entryName);
		if (typeof entryHandle === "number") throw failed("Cannot take a file handle", entryHandle);
		const isGone = fateOf(engine, below.entry) === "gone";
		markImpure(engine, directory);
		const plan = new Plan(engine, writable);
		const [entryFlags, { exchange }] = [isGone ? RENAME.exchange : 0, RENAME];
		const backFrom = (folder: number, at: string | Uint8Array, from: string) => () =>
			renameName(folder, at, work.temporaries, from, folder === index.fd && !isGone ? RENAME.noReplace : exchange);
		plan.add(
			{ op: "move", inode: entryHandle, from: "work", fromName: entryName, to: "index", toName: below.entry, flags: entryFlags },
			backFrom(index.fd, below.entry, entryName),
		);
		const inode = plan.built(real, fd);
		const to = plan.in(directory);
		plan.add({ op: "move", inode, from: "work", fromName: temporary, to, toName: name, flags: exchange });
		leftovers.push(temporary, ...(isGone ? [entryName] : []));
		plan.perform();
		listings.forget(directory);
	} catch (error) {
		leftovers.push(temporary);
		throw error;
	} finally {
		close(fd);
		for (const left of new Set(leftovers)) work.discard(left);
	}
}

/** Gives an upper directory, which stays, the owner, mode, times and extended attributes of the lower one. False: it has them. */
export function resetAttributes(engine: Engine, node: Node, source: Real): boolean {
	const plan = new Plan(engine, writableOf(engine));
	const inode = plan.of(node);
	const [stat, own] = [new Stat(), new Stat()];
	const [fd, from] = [engine.descriptors.path(node.top), engine.descriptors.path(source)];
	must(source.layer.stat(from, stat), "Cannot read attributes in a layer");
	must(node.top.layer.stat(fd, own), "Cannot read attributes");
	const [wanted, present] = [attributesIn(engine, from), attributesIn(engine, fd)];
	for (const [text, { name }] of present) {
		if (!wanted.has(text)) plan.add({ op: "attributes", inode, type: node.type, change: { xattr: { name, value: null } } });
	}
	for (const [text, { name, value }] of wanted) {
		if (present.get(text)?.value.equals(value)) continue;
		plan.add({ op: "attributes", inode, type: node.type, change: { xattr: { name, value } } });
	}
	const isOwned = stat.uid === own.uid && stat.gid === own.gid && stat.mode === own.mode;
	const isTimed = stat.mtimeSec === own.mtimeSec && stat.mtimeNsec === own.mtimeNsec;
	if (isOwned && isTimed && plan.steps.length === 0) return false;
	const change = {
		uid: stat.uid,
		gid: stat.gid,
		mode: stat.mode & 0o7777,
		atime: { sec: stat.atimeSec, nsec: stat.atimeNsec },
		mtime: { sec: stat.mtimeSec, nsec: stat.mtimeNsec },
	};
	node.defaultAcl = undefined;
	plan.add({ op: "attributes", inode, type: node.type, change }).perform();
	return true;
}

/** All extended attributes that clients can see, by their names as text. */
function attributesIn(engine: Engine, fd: number): Map<string, { readonly name: Buffer; readonly value: Buffer }> {
	const found = new Map<string, { readonly name: Buffer; readonly value: Buffer }>();
	for (const { real: name, value } of shownValues(engine, fd)) found.set(name.toString("latin1"), { name, value });
	return found;
}
