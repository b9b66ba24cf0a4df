// Adopts an upper that a kernel may have written: gives every copied up object its identity and its index entry.

import type { Layer } from "../../layer/layer.ts";
import { type Real, realKey } from "../../layer/real.ts";
import { visitEntries } from "../../linux/directory.ts";
import { ERRNO, whyNot } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { linkDescriptor, readLinkAt, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt, openBeneath, RESOLVE } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { failed, ifThere, isOfMachine, must, unlessOfMachine } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { isMetacopy } from "../data/data-files.ts";
import { type Engine, identityOfRecord, writableOf } from "../engine/engine.ts";
import type { Home } from "../engine/home.ts";
import type { Identity } from "../format/identity.ts";
import { nlinkValue } from "../format/link-delta.ts";
import { isWhiteoutInode, isWhiteoutStat } from "../format/whiteout.ts";
import type { Writable } from "../journal/writable.ts";
import { directoryOfReal } from "../lookup/by-handle.ts";
import { findInStack } from "../lookup/stack-search.ts";
import { realOf, recordOf } from "../nodes/reals.ts";
import type { IndexAnswer } from "../work/index-directory.ts";
import { LOST_AND_FOUND, moveToLostAndFound } from "../work/lost-and-found.ts";
import { getMark, getOrigin, setMark } from "../work/marks.ts";
import { type AdoptionProblem, entriesOf } from "./adopt-lower.ts";
import { findData } from "./find-data.ts";

/** What the adoption of an upper has made. */
export interface UpperReport {
	readonly layer: string;
	readonly directories: number;
	/** Objects that have the identity of the lower one that they were copied up from. */
	readonly identities: number;
	/** Removed lower objects whose handles are stale from now on. */
	readonly tombstones: number;
	readonly metacopies: number;
	/** Whiteouts and other marks in the forms of other programs that were converted. */
	readonly converted?: number;
	readonly problems: readonly AdoptionProblem[];
}

/**
 * Makes of an upper, which a kernel may have written to, one whose handles hold: every copied up object gets its identity and its index
 * entry. With `again`, handles may be out, so that lower objects that are hidden now get a tombstone. Everything here can be repeated.
 */
export function adoptUpper(engine: Engine, isAgain: boolean, progress: (directories: number) => void): UpperReport {
	const adopter = new UpperAdopter(engine, isAgain, progress);
	adopter.run();
	return adopter.report;
}

/** An upper file whose origin must be looked for in the lowers before it is believed. */
interface Claimant {
	readonly inode: FileHandle;
	readonly parent: Real;
	readonly path: string;
	readonly birth: Identity;
	readonly home: Home;
}

/** A name of upper that has something below it in the lowers; `shown` is the part of it that is seen all the same. */
interface Cover {
	readonly parents: readonly Real[];
	readonly name: Buffer;
	readonly shown: string | null;
}

class UpperAdopter {
	readonly report: {
		layer: string;
		directories: number;
		identities: number;
		tombstones: number;
		metacopies: number;
		problems: AdoptionProblem[];
	};
	readonly #engine: Engine;
	readonly #writable: Writable;
	readonly #isAgain: boolean;
	readonly #progress: (directories: number) => void;
	readonly #claimants: Claimant[] = [];
	readonly #covers: Cover[] = [];
	/** Names of lower files that upper hides, where the file has further ones or only the index has its copy. */
	readonly #hiddenNames = new Map<string, number>();
	/**
	 * Lower files of several names that were copied up without an index, each name for itself: by their entries, with the names that they
	 * have in the lowers and the copies.
	 */
	readonly #shared = new Map<string, { readonly birth: Identity; names: number; readonly inodes: FileHandle[] }>();
	/** Index entries that are none of these lowers'. */
	readonly #foreign = new Set<string>();

	constructor(engine: Engine, isAgain: boolean, progress: (directories: number) => void) {
		this.#engine = engine;
		this.#writable = writableOf(engine);
		this.#isAgain = isAgain;
		this.#progress = progress;
		const layer = this.#writable.layer.path;
		this.report = { layer, directories: 0, identities: 0, tombstones: 0, metacopies: 0, problems: [] };
	}

	run(): void {
		this.#visitIndex((entry, identity, fd, stat) => this.#checkEntry(entry, identity, fd, stat));
		this.#walk();
		this.#findClaimed();
		for (const cover of this.#covers) this.#hide(cover.parents, cover.name, cover.shown);
		this.#judgeShared();
		this.#visitIndex((entry, identity, fd, stat) => this.#recount(entry, identity, fd, stat));
		this.#recountUntouched();
		for (const entry of this.#foreign) this.#problem(`index/${entry}`, "it is named for an object of no file system of the lowers");
	}

	#problem(path: string, reason: string): void {
		this.report.problems.push({ path, reason });
	}

	#layerOf(identity: Identity): Home {
		return this.#engine.homes.get(identity.home) as Home;
	}

	#entryName(identity: Identity): string {
		return this.#writable.index.entryName(this.#layerOf(identity).uuid, identity.id);
	}

	/** Reads the attributes of a lower object; false when it is gone. */
	#readLower(identity: Identity, stat: Stat): boolean {
		const fd = this.#openLower(identity, stat);
		if (fd >= 0) close(fd);
		return fd >= 0;
	}

	/** Opens a lower object; negative when it is gone, or its id is none that this file system has given. */
	#openLower(identity: Identity, stat: Stat): number {
		const [layer] = this.#layerOf(identity).layers;
		const fd = layer.handles.open(identity.id, O.path | O.nofollow);
		if (fd < 0) unlessOfMachine(fd, "Cannot open a lower object");
		if (fd < 0) return fd;
		must(layer.stat(fd, stat), "Cannot read a lower object");
		layer.handles.countNames(identity.id, stat);
		return fd;
	}

	#visitIndex(visit: (entry: string, identity: Identity, fd: number, stat: Stat) => void): void {
		const { index } = this.#writable;
		const list = must(openAt(index.fd, ".", O.rdonly | O.directory), "Cannot open the index");
		const stat = new Stat();
		const status = visitEntries(list, (name) => {
			const entry = Buffer.from(name).toString("latin1");
			// the kernel keeps a spare whiteout under such a name
			if (entry.startsWith("#")) return undefined;
			const identity = /^([0-9a-f]{2})+$/.test(entry) ? identityOfRecord(this.#engine, Buffer.from(entry, "hex")) : null;
			if (identity === null) {
				this.#foreign.add(entry);
				return undefined;
			}
			const fd = ifThere(openAt(index.fd, entry, O.path | O.nofollow), "Cannot open an index entry");
			if (fd < 0) return undefined;
			try {
				must(this.#writable.layer.stat(fd, stat), "Cannot read an index entry");
				visit(entry, identity, fd, stat);
			} finally {
				close(fd);
			}
			return undefined;
		});
		close(list);
		must(status, "Cannot read the index");
	}

	/** Takes entries out of the index that do not lead from their lower object to its copy: they would show another file by a good handle. */
	#checkEntry(entry: string, identity: Identity, fd: number, stat: Stat): void {
		if (isWhiteoutStat(stat)) return;
		const lower = new Stat();
		const lowerFd = this.#openLower(identity, lower);
		if (lowerFd >= 0) close(lowerFd);
		const reason =
			lowerFd < 0
				? `the lower object that it is named for cannot be opened: ${whyNot(lowerFd)}`
				: lower.type !== stat.type
					? "the lower object that it is named for is of another type"
					: stat.type !== FileType.dir && !this.#isCopyOf(fd, stat, entry, identity)
						? "it is not a copy of the lower object that it is named for"
						: null;
		if (reason === null) return;
		this.#problem(`index/${entry}`, `${reason}; moved to work/holdfast/${LOST_AND_FOUND}`);
		const { work, index } = this.#writable;
		moveToLostAndFound(work.own, index.fd, entry, `index-${entry}`, "Cannot move an index entry away");
	}

	#isCopyOf(fd: number, stat: Stat, entry: string, identity: Identity): boolean {
		const { origin } = this.#engine.xattr;
		const value = getOrigin(this.#writable, fd, stat.type);
		if (typeof value !== "number") return value.toString("hex") === entry;
		const canCarryOrigin = stat.type === FileType.reg || !origin.startsWith("user.");
		if (canCarryOrigin || !this.#looksLike(fd, stat, identity)) return false;
		this.#setXattr(fd, origin, Buffer.from(entry, "hex"), stat.type);
		return true;
	}

	/** Of what Linux lets no user.* attribute be set on: a symlink of the same target, a device of the same number. */
	#looksLike(fd: number, stat: Stat, identity: Identity): boolean {
		const lower = new Stat();
		const lowerFd = this.#openLower(identity, lower);
		if (lowerFd < 0) return false;
		const targets = stat.type === FileType.lnk ? [readLinkAt(fd, ""), readLinkAt(lowerFd, "")] : [EMPTY, EMPTY];
		close(lowerFd);
		const [own, other] = targets.map((target) => must(target as Buffer, "Cannot read a symlink"));
		const isSameTarget = own.equals(other);
		return isSameTarget && stat.rdevMajor === lower.rdevMajor && stat.rdevMinor === lower.rdevMinor;
	}

	#walk(): void {
		const walk: { readonly reals: readonly Real[]; readonly path: string }[] = [{ reals: this.#engine.nodes.root.reals, path: "" }];
		for (let at = walk.pop(); at !== undefined; at = walk.pop()) {
			this.#progress(++this.report.directories);
			this.#engine.descriptors.trim();
			for (const { name } of entriesOf(this.#engine, at.reals[0])) {
				const path = `${at.path}/${showName(name)}`;
				const below = this.#visit(at.reals, name, path);
				if (below !== null) walk.push({ reals: below, path });
			}
		}
	}

	/** Adopts what upper has under a name; a directory's stack is the answer. */
	#visit(reals: readonly Real[], name: Buffer, path: string): readonly Real[] | null {
		const engine = this.#engine;
		const [parent, ...lowers] = reals;
		const fd = ifThere(openAt(engine.descriptors.path(parent), name, O.path | O.nofollow), "Cannot open an object of upper");
		if (fd < 0) return null;
		try {
			const stat = new Stat();
			must(this.#writable.layer.stat(fd, stat), "Cannot read an object of upper");
			const isWhiteout = isWhiteoutInode(fd, stat, parent.whiteoutXattr);
			if (!isWhiteout && stat.type === FileType.dir) return this.#visitDirectory(reals, name, path);
			if (lowers.length > 0) this.#covers.push({ parents: lowers, name, shown: null });
			if (!isWhiteout) this.#adoptFile(parent, lowers, name, fd, stat, path);
			return null;
		} catch (error) {
			if (!(error instanceof OverlayError) || isOfMachine(error)) throw error;
			this.#problem(path, error.message);
			return null;
		} finally {
			close(fd);
		}
	}

	#visitDirectory(reals: readonly Real[], name: Buffer, path: string): readonly Real[] | null {
		const found = findInStack(this.#engine, reals, name);
		if (found === null || found.reals[0].foreign) return null;
		const [own, lower] = found.reals;
		if (reals.length > 1) this.#covers.push({ parents: reals.slice(1), name, shown: lower?.key ?? null });
		if (lower !== undefined) {
			this.#markImpure(reals[0]);
			this.#adoptDirectory(own, lower, path);
		}
		return found.reals;
	}

	#adoptDirectory(own: Real, lower: Real, path: string): void {
		const { index } = this.#writable;
		const fd = this.#engine.descriptors.path(own);
		const birth = { home: lower.layer.home, id: lower.handle };
		const entry = this.#entryName(birth);
		const answer = index.ask(entry);
		const stat = new Stat();
		must(this.#writable.layer.stat(fd, stat), "Cannot read a directory of upper");
		if (answer.kind === "gone") {
			this.#problem(path, "the index says that the lower directory it is merged with has been removed");
			return;
		}
		if (isOther(answer, stat)) {
			this.#problem(path, "another directory of upper is merged with the same lower one (two redirects to one directory)");
			return;
		}
		const record = recordOf(lower);
		const origin = getOrigin(this.#writable, fd, FileType.dir);
		// one that says so already may say more
		if (typeof origin === "number" || !origin.equals(record)) this.#setXattr(fd, this.#engine.xattr.origin, record);
		this.report.identities++;
		if (answer.kind === "upper") return;
		const temporary = index.buildDirectoryEntry(own.handle);
		must(renameName(this.#writable.work.temporaries, temporary, index.placeFor(entry), entry), "Cannot make an index entry");
	}

	#setXattr(fd: number, name: string, value: Buffer, type: number = FileType.reg): void {
		const known = getMark(this.#writable, fd, type, name);
		if (typeof known === "number" || !known.equals(value)) must(setMark(this.#writable, fd, name, value), `Cannot set ${name}`);
	}

	#markImpure(directory: Real): void {
		const fd = this.#engine.descriptors.path(directory);
		if (xattrOrNone(fd, this.#engine.xattr.impure, "Cannot read the marks of a directory") === null)
			this.#setXattr(fd, this.#engine.xattr.impure, Buffer.from("y"));
	}

	#adoptFile(parent: Real, lowers: readonly Real[], name: Buffer, fd: number, stat: Stat, path: string): void {
		const engine = this.#engine;
		if (stat.type === FileType.reg && isMetacopy(engine, fd)) {
			const data = this.#noteDataOf(realOf(this.#writable.layer, fd, stat), lowers, name, fd);
			this.report.metacopies++;
			if (data === null) this.#problem(path, "its data is in another layer (metacopy), and it is not there");
		}
		const origin = getOrigin(this.#writable, fd, stat.type);
		if (typeof origin === "number" || origin.length === 0) return;
		const birth = identityOfRecord(this.#engine, origin);
		if (birth === null) {
			this.#problem(path, "its origin is of no file system of the lowers; it counts as born in upper");
			return;
		}
		const answer = this.#writable.index.ask(this.#entryName(birth));
		if (answer.kind === "gone" || isOther(answer, stat)) {
			this.#problem(path, "its origin is that of another object (a copy of it, made inside upper?); it counts as born in upper");
			return;
		}
		this.#markImpure(parent);
		if (answer.kind === "upper") {
			this.report.identities++;
			return;
		}
		const lower = new Stat();
		if (!this.#readLower(birth, lower) || lower.type !== stat.type) {
			this.#problem(path, "the lower object that it was copied up from is gone; it counts as born in upper");
			return;
		}
		if (lower.nlink > 1) {
			const { handle } = realOf(this.#writable.layer, fd, stat);
			const entry = this.#entryName(birth);
			const shared = this.#shared.get(entry) ?? { birth, names: 0, inodes: [] };
			// two names of one copy are one claimant
			if (!shared.inodes.some((inode) => inode.bytes.equals(handle.bytes))) shared.inodes.push(handle);
			this.#shared.set(entry, shared);
			return;
		}
		const below = findInStack(engine, lowers, name);
		const home = this.#layerOf(birth);
		if (below?.reals[0].key === realKey(home.layers[0], birth.id)) this.#adoptCopy(fd, stat.type, birth);
		else {
			const { handle } = realOf(this.#writable.layer, fd, stat);
			this.#claimants.push({ inode: handle, parent, path, birth, home });
		}
	}

	/** Gives a copied up file of one lower name its identity and its index entry. */
	#adoptCopy(fd: number, type: number, birth: Identity): void {
		const known = getMark(this.#writable, fd, type, this.#engine.xattr.nlink);
		if (typeof known !== "number") this.#setXattr(fd, this.#engine.xattr.nlink, nlinkValue(-1), type);
		const entry = this.#entryName(birth);
		must(linkDescriptor(fd, this.#writable.index.placeFor(entry), entry), "Cannot make an index entry");
		this.report.identities++;
	}

	/**
	 * Files that were renamed: their origins must lie in a layer, for anyone can write the name of any inode into an xattr. Found by one
	 * walk over the lowers for all of them.
	 */
	#findClaimed(): void {
		const wanted = new Map<string, Claimant[]>();
		const stat = new Stat();
		for (const claimant of this.#claimants) {
			if (!this.#readLower(claimant.birth, stat)) continue;
			const key = `${stat.devMajor}:${stat.devMinor}:${stat.inoHi}:${stat.inoLo}`;
			wanted.set(key, [...(wanted.get(key) ?? []), claimant]);
		}
		for (const layer of this.#engine.layers) {
			if (layer.isUpper || wanted.size === 0) continue;
			const directories: FileHandle[] = [layer.rootHandle];
			for (let handle = directories.pop(); handle !== undefined && wanted.size > 0; handle = directories.pop()) {
				this.#progress(this.report.directories);
				const fd = ifThere(layer.handles.open(handle, O.rdonly | O.directory | O.noatime), "Cannot open a lower directory");
				if (fd < 0) continue;
				must(fstat(fd, stat), "Cannot read a lower directory");
				const device = `${stat.devMajor}:${stat.devMinor}`;
				const below: Buffer[] = [];
				const matches: { readonly name: Buffer; readonly key: string }[] = [];
				const status = visitEntries(fd, (name, type, inoHi, inoLo) => {
					const key = `${device}:${inoHi}:${inoLo}`;
					if (type === FileType.dir || type === 0) below.push(Buffer.from(name));
					if (wanted.has(key)) matches.push({ name: Buffer.from(name), key });
					return undefined;
				});
				must(status, "Cannot read a lower directory");
				for (const { name, key } of matches) this.#adoptClaimed(layer, fd, name, wanted.get(key) ?? []) && wanted.delete(key);
				for (const name of below) {
					const child = openBeneath(fd, name, O.path | O.directory | O.nofollow, RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev);
					// what is mounted there belongs to no layer
					if (child === -ERRNO.EXDEV || child === -ERRNO.ELOOP || ifThere(child, "Cannot open a lower directory") < 0) continue;
					const childHandle = layer.handles.of(child);
					close(child);
					if (typeof childHandle !== "number") directories.push(childHandle);
					else unlessOfMachine(childHandle, "Cannot take the id of a lower directory");
				}
				close(fd);
			}
		}
		for (const claimants of wanted.values()) {
			for (const { path } of claimants) this.#problem(path, "its origin lies in no lower; it counts as born in upper");
		}
	}

	/**
	 * While a lower file still shows under one of its names, the copies of others are objects of their own, as the kernel has it. When it does
	 * not, the only copy is what became of it; of several none is, and its handles are stale.
	 */
	#judgeShared(): void {
		if (this.#isAgain) this.#addUntouched();
		if (this.#shared.size > 0) this.#countShared();
		for (const [entry, { birth, names, inodes }] of this.#shared) {
			if (names > (this.#hiddenNames.get(entry) ?? 0)) continue;
			const fd =
				inodes.length === 1
					? ifThere(this.#writable.layer.handles.open(inodes[0], O.path | O.nofollow), "Cannot open an object of upper")
					: -1;
			if (fd >= 0) {
				const stat = new Stat();
				must(this.#writable.layer.stat(fd, stat), "Cannot read an object of upper");
				this.#adoptCopy(fd, stat.type, birth);
				close(fd);
			} else if (this.#isAgain) {
				this.#hiddenNames.delete(entry);
				this.#writable.linkCounts.delete(entry);
				this.#bury(entry);
			}
		}
	}

	/**
	 * The kernel without an index copies one name of a lower file of several up and does not say what from. When no name shows that file any
	 * more its handles are stale, names outside of the layers or not: what they found would be old. Not where all is as we left it.
	 */
	#addUntouched(): void {
		const stat = new Stat();
		for (const [entry, hidden] of this.#hiddenNames) {
			const birth = identityOfRecord(this.#engine, Buffer.from(entry, "hex")) as Identity;
			const answer = this.#writable.index.ask(entry);
			if (answer.kind === "upper") close(answer.fd);
			if (!this.#readLower(birth, stat)) continue;
			const isAsLeft = this.#writable.linkCounts.get(entry) === stat.nlink - hidden;
			if (answer.kind === "absent" && !isAsLeft && !this.#shared.has(entry)) this.#shared.set(entry, { birth, names: 0, inodes: [] });
		}
	}

	/** Counts the names under which the lowers by themselves show the shared files, by a walk over all of them. */
	#countShared(): void {
		const engine = this.#engine;
		const walk: Real[][] = [engine.nodes.root.reals.filter((real) => !real.layer.isUpper)];
		for (let at = walk.pop(); at !== undefined; at = walk.pop()) {
			this.#progress(this.report.directories);
			engine.descriptors.trim();
			for (const name of this.#namesOf(at)) {
				const found = this.#findBelow(at, name);
				if (found === null) continue;
				if (found.stat.type === FileType.dir) walk.push(found.reals);
				else if (found.stat.nlink > 1) {
					const [top] = found.reals;
					const shared = this.#shared.get(this.#entryName({ home: top.layer.home, id: top.handle }));
					if (shared !== undefined) shared.names++;
				}
			}
		}
	}

	/** As findInStack; null where that is refused. */
	#findBelow(parents: readonly Real[], name: Buffer): ReturnType<typeof findInStack> {
		try {
			return findInStack(this.#engine, parents, name);
		} catch (error) {
			if (error instanceof OverlayError && !isOfMachine(error)) return null;
			throw error;
		}
	}

	/** True when the name of a lower leads to the origin that was looked for. */
	#adoptClaimed(layer: Layer, directory: number, name: Buffer, claimants: readonly Claimant[]): boolean {
		const handle = layer.handles.at(directory, name);
		if (typeof handle === "number") unlessOfMachine(handle, "Cannot take the id of a lower file");
		if (typeof handle === "number") return false;
		const stat = new Stat();
		let isFound = false;
		for (const { birth, home, inode, parent, path } of claimants) {
			if (handle.type !== birth.id.type || !handle.bytes.equals(birth.id.bytes)) continue;
			isFound = true;
			const fd = this.#writable.layer.handles.open(inode, O.path | O.nofollow);
			if (fd < 0) throw failed("Cannot open an object of upper", fd);
			must(this.#writable.layer.stat(fd, stat), "Cannot read an object of upper");
			const answer = this.#writable.index.ask(this.#entryName(birth));
			if (answer.kind === "absent" && this.#isShown(home, directory, name, birth)) {
				this.#problem(path, "its origin shows under its own name too (a crafted origin?); it counts as born in upper");
			} else if (answer.kind === "absent") this.#adoptCopy(fd, stat.type, birth);
			else if (answer.kind === "gone" || isOther(answer, stat)) {
				this.#problem(path, "its origin is that of another object (a copy of it, made inside upper?); it counts as born in upper");
			}
			close(fd);
			this.#markImpure(parent);
		}
		return isFound;
	}

	/** Whether the overlay shows a lower file where the lower has it: what was copied up and renamed has left a whiteout there. */
	#isShown(home: Home, directory: number, name: Buffer, birth: Identity): boolean {
		const engine = this.#engine;
		engine.nodes.trim(null);
		try {
			const parent = directoryOfReal(engine, home, directory);
			return findInStack(engine, parent.reals, name)?.reals[0].key === realKey(home.layers[0], birth.id);
		} catch (error) {
			if (error instanceof OverlayError && !isOfMachine(error)) return false;
			throw error;
		}
	}

	/** What the lowers have under a name that upper covers is not seen there any more. */
	#hide(parents: readonly Real[], name: Buffer, shown: string | null): void {
		const engine = this.#engine;
		engine.descriptors.trim();
		const found = this.#findBelow(parents, name);
		if (found === null || found.reals[0].key === shown) return;
		const [top] = found.reals;
		const birth = { home: top.layer.home, id: top.handle };
		const entry = this.#entryName(birth);
		const answer = this.#writable.index.ask(entry);
		const upperLinks = answer.kind === "upper" ? answer.stat.nlink : 0;
		if (answer.kind === "upper") close(answer.fd);
		if (found.stat.type === FileType.dir) {
			// one that is copied up is merged somewhere else, and what it shows there is not hidden; of one that is gone all names are
			if (answer.kind !== "upper" && !top.foreign) {
				for (const child of this.#namesOf(found.reals)) this.#hide(found.reals, child, null);
			}
			return;
		}
		if (answer.kind === "gone") return;
		if (found.stat.nlink > 1 || upperLinks === 1 || this.#writable.linkCounts.isUnnamed(entry)) {
			this.#hiddenNames.set(entry, (this.#hiddenNames.get(entry) ?? 0) + 1);
		} else if (answer.kind === "absent" && this.#isAgain) this.#bury(entry);
	}

	#namesOf(reals: readonly Real[]): Buffer[] {
		const names = new Map<string, Buffer>();
		for (const real of reals) {
			if (real.foreign) continue;
			for (const { name } of entriesOf(this.#engine, real)) names.set(name.toString("latin1"), name);
		}
		return [...names.values()];
	}

	#bury(entry: string): void {
		const { index, work } = this.#writable;
		const whiteout = work.makeWhiteout();
		const status = renameName(work.temporaries, whiteout, index.placeFor(entry), entry);
		// a rename between two names of one inode leaves both
		unlinkName(work.temporaries, whiteout);
		must(status, "Cannot make a tombstone");
		this.report.tombstones++;
	}

	/** The link count of a copied up file: its names in upper, and the names that only a lower shows. Without any it is gone. */
	#recount(entry: string, identity: Identity, fd: number, stat: Stat): void {
		if (isWhiteoutStat(stat) || stat.type === FileType.dir) return;
		const lower = new Stat();
		const lowerFd = this.#openLower(identity, lower);
		if (lowerFd < 0) return;
		this.#noteData(identity, fd, stat, lowerFd, lower);
		close(lowerFd);
		const hidden = this.#hiddenNames.get(entry) ?? 0;
		this.#hiddenNames.delete(entry);
		const isNamed = stat.nlink > 1;
		const isComplete = lower.nlink === 1 && isNamed && !this.#writable.linkCounts.isUnnamed(entry);
		const lowerOnly = isComplete ? 0 : Math.max(lower.nlink - hidden, 0);
		if (lowerOnly === 0) this.#writable.linkCounts.noteNamed(entry);
		if (!isNamed && lowerOnly === 0) {
			this.#bury(entry);
			return;
		}
		const delta = lowerOnly - 1;
		const isSaid = typeof getMark(this.#writable, fd, stat.type, this.#engine.xattr.nlink) !== "number";
		if (delta !== -1 || isSaid) this.#setXattr(fd, this.#engine.xattr.nlink, nlinkValue(delta), stat.type);
	}

	/** What we copied up without data may have moved since, and nobody but us knows from where. */
	#noteDataOf(file: Real, lowers: readonly Real[], name: Buffer, fd: number): Real | null {
		const engine = this.#engine;
		const ours = engine.dataFiles.isOurs(file) ? engine.dataFiles.get(engine, file) : null;
		if (ours) return ours;
		const data = findData(engine, this.#writable.layer, lowers, name, fd);
		engine.dataFiles.set(file, data);
		return data;
	}

	/** A metacopy file that only the index holds was not met in the tree: lower names lead to it, and its data is in the lower file. */
	#noteData(identity: Identity, fd: number, stat: Stat, lowerFd: number, lower: Stat): void {
		if (stat.type !== FileType.reg || !isMetacopy(this.#engine, fd)) return;
		const { dataFiles } = this.#engine;
		const file = realOf(this.#writable.layer, fd, stat);
		if (dataFiles.get(this.#engine, file) !== undefined) return;
		dataFiles.set(file, realOf(this.#layerOf(identity).layers[0], lowerFd, lower));
		this.report.metacopies++;
	}

	/** Lower files of several names, some hidden by upper. */
	#recountUntouched(): void {
		const lower = new Stat();
		for (const [entry, hidden] of this.#hiddenNames) {
			const identity = identityOfRecord(this.#engine, Buffer.from(entry, "hex")) as Identity;
			if (!this.#readLower(identity, lower)) continue;
			const { linkCounts } = this.#writable;
			if (lower.nlink > hidden) linkCounts.set(entry, lower.nlink - hidden, linkCounts.read(entry)?.base ?? null);
			else {
				this.#bury(entry);
				this.#writable.linkCounts.delete(entry);
			}
		}
	}
}

const EMPTY = Buffer.alloc(0);

/** Whether an index entry leads to another inode than this; closes what it has opened. */
function isOther(answer: IndexAnswer, stat: Stat): boolean {
	if (answer.kind !== "upper") return false;
	close(answer.fd);
	return !answer.stat.sameInode(stat);
}
