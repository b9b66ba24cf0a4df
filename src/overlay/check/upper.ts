// Walks upper and judges each object by itself and by the index.

import { recordIn } from "../../layer/origin-record.ts";
import { namesOf } from "../../linux/directory.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { close, O, openAt, openBeneath, RESOLVE } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { listXattrs } from "../../linux/xattr.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { failed, ifThere, isFound, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { versionIn } from "../format/base-version.ts";
import { encodeIdentity } from "../format/identity.ts";
import { parseLinkCount } from "../format/link-delta.ts";
import { isAbsolute, parseRedirect } from "../format/redirect.ts";
import { isWhiteoutStat } from "../format/whiteout.ts";
import { getMark } from "../work/marks.ts";
import type { Check } from "./context.ts";
import type { Remedy } from "./findings.ts";
import { type IndexEntry, type LowerObject, lowerOfRecord } from "./index.ts";
import { notedData, noteOrigin } from "./partial.ts";
import { BASE_DAMAGED } from "./records.ts";
import { handle, inodeKey, type LowerDirectory, type LowerFound, type MergedDirectory, OpenStack } from "./union.ts";
import { longRedirectOf } from "./work.ts";

const UNREAD = "Cannot read the marks of an object of upper";

/** An upper file of several links; its index entry may be one of them. */
export interface UpperFile {
	readonly handle: FileHandle;
	readonly path: string;
	readonly nlink: number;
	/** Names that the walk has seen. */
	names: number;
	/** It was copied up. */
	hasOrigin: boolean;
}

/** An object of upper that says what it was born as, and that the index does not know. */
export interface Claim {
	readonly record: string;
	readonly lower: LowerObject;
	readonly handle: FileHandle;
	readonly key: string;
	readonly path: string;
	/** What our own xattr says of it. */
	readonly identity: "none" | "same" | "another";
	readonly isDirectory: boolean;
	readonly hasLinkCount: boolean;
	readonly nlink: number;
}

/** An upper directory that should be merged with a lower one and is not. */
export interface Unmerged {
	readonly kind: "redirect-malformed" | "redirect-nowhere" | "redirect-missing";
	readonly place: MergedDirectory;
	/** The lower directory that it was born as; null where nothing tells. */
	readonly lower: LowerObject | null;
	readonly isLong: boolean;
}

/** What a walk over upper has learnt. */
export interface Walked {
	/** By inode. */
	readonly files: Map<string, UpperFile>;
	/** By record: more than one where copies were made behind the overlay's back. */
	readonly claims: Map<string, Claim[]>;
	/** How many names of a lower inode lie directly under names of upper. */
	readonly hidden: Map<string, number>;
	/** Upper directories merged with what their own redirect leads to. */
	readonly redirected: MergedDirectory[];
	readonly unmerged: Unmerged[];
	/** Whether everything that is copied up should be in the index. */
	readonly isComplete: boolean;
}

/** The directory whose entries are examined. */
interface Here {
	readonly place: MergedDirectory;
	readonly fd: number;
	readonly stack: OpenStack;
	/** "y", "x", or nothing. */
	readonly opaque: string;
	/** Some object in it was born elsewhere. */
	holdsOrigins: boolean;
}

interface Child {
	readonly name: Buffer;
	readonly fd: number;
	readonly stat: Stat;
	readonly path: string;
	/** Names of its overlay xattrs, without their prefix. */
	readonly marks: ReadonlySet<string>;
}

/** Walks upper, and judges each object by itself and by the index. */
export function walkUpper(check: Check, index: ReadonlyMap<string, IndexEntry>): Walked {
	return new UpperWalk(check, index).run();
}

class UpperWalk {
	readonly #check: Check;
	readonly #index: ReadonlyMap<string, IndexEntry>;
	/** From an upper inode to the entry that leads to it. */
	readonly #byInode: ReadonlyMap<string, IndexEntry>;
	readonly #pending: MergedDirectory[] = [];
	readonly #walked: Walked;

	constructor(check: Check, index: ReadonlyMap<string, IndexEntry>) {
		this.#check = check;
		this.#index = index;
		this.#byInode = new Map([...index.values()].filter(({ kind }) => kind !== "tombstone").map((entry) => [entry.key, entry]));
		// the kernel enters directories with nfs_export only, and then everything
		const isComplete = check.isOurs || [...index.values()].some(({ kind }) => kind === "directory");
		this.#walked = { files: new Map(), claims: new Map(), hidden: new Map(), redirected: [], unmerged: [], isComplete };
	}

	run(): Walked {
		const { places } = this.#check;
		places.note(places.root);
		this.#pending.push(places.root);
		for (let place = this.#pending.pop(); place !== undefined; place = this.#pending.pop()) this.#directory(place);
		return this.#walked;
	}

	#directory(place: MergedDirectory): void {
		const check = this.#check;
		check.counts.directories++;
		check.tell("upper", check.counts.directories + check.counts.files);
		const { upper, lowers, xattr } = check.layers;
		const fd = upper.handles.open((place.upper as NonNullable<MergedDirectory["upper"]>).handle, O.rdonly | O.directory);
		// a server has removed it meanwhile
		if (ifThere(fd, "Cannot open a directory of upper") < 0) return;
		const stack = new OpenStack(lowers, place.stack);
		try {
			const here: Here = { place, fd, stack, opaque: text(fd, xattr.opaque), holdsOrigins: false };
			for (const name of must(namesOf(fd), "Cannot read a directory of upper")) this.#entry(here, name);
			if (here.holdsOrigins && text(fd, xattr.impure) !== "y") this.#impure(place);
		} finally {
			stack.close();
			close(fd);
		}
	}

	#impure({ path, upper }: MergedDirectory): void {
		const { impure } = this.#check.layers.xattr;
		this.#check.error(
			"impure-missing",
			shown(path),
			`The directory holds objects that were copied up, and does not say so (xattr ${impure}): listings show wrong inode numbers.`,
			{
				does: "sets the xattr",
				make: () => this.#check.repairs.setXattr((upper as NonNullable<MergedDirectory["upper"]>).handle, impure, Buffer.from("y")),
			},
		);
	}

	#entry(here: Here, name: Buffer): void {
		const fd = ifThere(openAt(here.fd, name, O.path | O.nofollow), "Cannot open an object of upper");
		if (fd < 0) return;
		try {
			const stat = new Stat();
			must(fstat(fd, stat), "Cannot read an object of upper");
			const path = `${here.place.path}/${showName(name)}`;
			const isShared = this.#countHidden(here, name, stat);
			const isWhiteout = isWhiteoutStat(stat);
			const child: Child = { name, fd, stat, path, marks: isWhiteout ? new Set() : marksOf(this.#check, fd, stat.type) };
			if (isWhiteout) this.#whiteout(here, child);
			else if (stat.type === FileType.dir) this.#subdirectory(here, child);
			else this.#file(here, child, isShared);
		} finally {
			close(fd);
		}
	}

	/** Notes the lower names that lie right under a name of upper. True: one of them is of the very same inode. */
	#countHidden(here: Here, name: Buffer, own: Stat): boolean {
		const stat = new Stat();
		let isShared = false;
		for (const fd of here.stack.fds) {
			if (!isFound(statAt(fd, name, stat), "Cannot read a name of a lower") || stat.type === FileType.dir || isWhiteoutStat(stat)) continue;
			const key = inodeKey(stat);
			this.#walked.hidden.set(key, (this.#walked.hidden.get(key) ?? 0) + 1);
			if (stat.sameInode(own)) isShared = true;
		}
		return isShared;
	}

	#whiteout(here: Here, child: Child): void {
		this.#check.counts.whiteouts++;
		if (this.#check.union.find(here.stack, child.name).kind !== "none") return;
		this.#check.note("whiteout-of-nothing", shown(child.path), "The whiteout hides nothing: no lower has anything there.");
	}

	#file(here: Here, child: Child, isShared: boolean): void {
		const check = this.#check;
		const { stat, fd, path, marks } = child;
		if (marks.has("whiteout") && this.#isXattrWhiteout(here, child)) {
			this.#whiteout(here, child);
			return;
		}
		check.counts.files++;
		const known = stat.nlink > 1 ? this.#countName(child, isShared) : null;
		if (known !== null && known.names > 1) {
			// it has been judged under its first name
			if (known.hasOrigin) here.holdsOrigins = true;
			return;
		}
		if (marks.has("metacopy") && stat.type === FileType.reg) this.#metacopy(here, child);
		const { nlink } = check.layers.xattr;
		const count = marks.has("nlink") ? markOf(check, fd, stat.type, nlink) : 0;
		if (typeof count !== "number" && parseLinkCount(count.toString("latin1")) === null) {
			const message = `The link count (xattr ${nlink}) cannot be understood.`;
			// where the index knows the object its count is written anew, from the names that are seen
			if (!this.#byInode.has(inodeKey(stat))) {
				check.error("link-count-malformed", shown(path), message, { ...this.#removal(child, nlink), does: "removes it" });
			}
		}
		const held = here.holdsOrigins;
		here.holdsOrigins = false;
		this.#marks(here, child);
		if (known !== null) known.hasOrigin = here.holdsOrigins;
		here.holdsOrigins ||= held;
	}

	#removal({ fd }: Child, xattr: string): Remedy {
		const id = handle(this.#check.layers.upper, fd);
		return { does: "removes the xattr", make: () => this.#check.repairs.removeXattr(id, xattr) };
	}

	#isXattrWhiteout(here: Here, { stat, path }: Child): boolean {
		const { xattr } = this.#check.layers;
		if (stat.type !== FileType.reg) return false;
		if (stat.size > 0) {
			const message = `The file is marked as a whiteout (xattr ${xattr.whiteout}) and has data: remove the mark, or the file.`;
			this.#check.error("whiteout-with-data", shown(path), message);
			return false;
		}
		if (here.opaque === "x") return true;
		const message = `The whiteout is shown as an empty file: its directory does not say that it may hold such (xattr ${xattr.opaque}).`;
		const id = (here.place.upper as NonNullable<MergedDirectory["upper"]>).handle;
		const make = () => this.#check.repairs.setXattr(id, xattr.opaque, Buffer.from("x"));
		if (here.opaque === "y") this.#check.note("whiteout-not-honoured", shown(path), `${message} There is nothing to hide.`);
		else this.#check.error("whiteout-not-honoured", shown(path), message, { does: "sets the xattr", make });
		return false;
	}

	#countName({ fd, stat, path }: Child, isShared: boolean): UpperFile {
		const key = inodeKey(stat);
		const file = this.#walked.files.get(key) ?? {
			handle: handle(this.#check.layers.upper, fd),
			path,
			nlink: stat.nlink,
			names: 0,
			hasOrigin: false,
		};
		this.#walked.files.set(key, file);
		file.names++;
		if (!isShared) return file;
		const message =
			"The file shares its inode with a lower (cp -al): what is written to it changes the lower. Put a copy in its place (cp -a, then mv).";
		this.#check.error("inode-of-lower", shown(path), message);
		return file;
	}

	#metacopy(here: Here, child: Child): void {
		const { fd, path } = child;
		const { xattr } = this.#check.layers;
		const { isOurs } = this.#check;
		const noted = isOurs ? notedData(this.#check, handle(this.#check.layers.upper, fd)) : null;
		if (noted === true) return;
		const isFound = noted === null && this.#mayHaveData(here, child);
		if (isFound && !isOurs) return;
		const remedy =
			isOurs && noted === null ? noteOrigin(this.#check, handle(this.#check.layers.upper, fd), recordOrNone(fd, xattr.origin)) : null;
		if (isFound || remedy !== null) {
			const message = `The data of the file lies in a lower (xattr ${xattr.metacopy}), and it is not noted where: the file cannot be read.`;
			this.#check.error("metacopy-not-noted", shown(path), message, remedy);
			return;
		}
		const message = `The data of the file lies in a lower (xattr ${xattr.metacopy}), and is not found there: the file cannot be read.`;
		this.#check.error("metacopy-without-data", shown(path), message);
	}

	/** Whether it is found by the file's path, as the kernel does. */
	#mayHaveData(here: Here, { name, fd }: Child): boolean {
		const { xattr, lowers } = this.#check.layers;
		const redirect = xattrOrNone(fd, xattr.redirect, UNREAD);
		const found = this.#check.union.find(here.stack, name, redirect);
		// of a chain of them only the lowest can be seen to lead nowhere here
		const mayHaveData = found.kind === "file" && !(found.isMetacopy && found.layer === lowers.length - 1);
		return (mayHaveData && found.stat.type === FileType.reg) || (redirect !== null && this.#isInDataLowers(redirect));
	}

	#isInDataLowers(redirect: Buffer): boolean {
		const path = redirect.subarray(1);
		if (!isAbsolute(redirect) || parseRedirect(redirect) === null) return false;
		return this.#check.layers.dataLowers.some((lower) => {
			const fd = openBeneath(lower.root, path, O.path | O.nofollow, RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev);
			if (ifThere(fd, "Cannot open a file of a data lower") >= 0) close(fd);
			return fd >= 0;
		});
	}

	#subdirectory(here: Here, child: Child): void {
		const { name, fd, stat, path, marks } = child;
		const { upper, xattr } = this.#check.layers;
		const id = handle(this.#check.layers.upper, fd);
		const entry = this.#marks(here, child);
		if (!stat.sameDevice(upper.rootStat)) return;
		const long = longRedirectOf(this.#check, id);
		const own = long ?? (marks.has("redirect") ? xattrOrNone(fd, xattr.redirect, UNREAD) : null);
		const isOpaque = text(fd, xattr.opaque) === "y";
		const found: LowerFound = isOpaque ? { kind: "none" } : this.#check.union.find(here.stack, name, own);
		const stack: readonly LowerDirectory[] = found.kind === "dir" ? found.directories : [];
		const isRedirected = own !== null && stack.length > 0;
		const place: MergedDirectory = { upper: { handle: id, key: inodeKey(stat) }, stack, path, parent: here.place, name, isRedirected };
		this.#check.places.note(place);
		if (isRedirected) this.#walked.redirected.push(place);
		if (!isOpaque) this.#noteUnmerged(child, place, own, long !== null, found, entry);
		this.#pending.push(place);
	}

	#noteUnmerged(
		child: Child,
		place: MergedDirectory,
		redirect: Buffer | null,
		isLong: boolean,
		found: LowerFound,
		entry: IndexEntry | null,
	): void {
		const lower = entry?.lower ?? this.#bornAs(child);
		const push = (kind: Unmerged["kind"]) => this.#walked.unmerged.push({ kind, place, lower, isLong });
		if (redirect !== null && parseRedirect(redirect) === null) push("redirect-malformed");
		else if (redirect !== null && found.kind !== "dir") push("redirect-nowhere");
		else if (entry !== null && !place.stack.some(({ key }) => key === entry.lower.key)) push("redirect-missing");
	}

	#bornAs({ fd, marks }: Child): LowerObject | null {
		const value = marks.has("origin") ? recordOrNone(fd, this.#check.layers.xattr.origin) : null;
		const lower = value === null ? "gone" : lowerOfRecord(this.#check.layers.lowers, value);
		return typeof lower === "string" || lower.type !== FileType.dir ? null : lower;
	}

	/** Judges `origin` and our identity. The index entry that leads to this very object, or null. */
	#marks(here: Here, child: Child): IndexEntry | null {
		const { xattr, lowers } = this.#check.layers;
		const { fd, marks } = child;
		const entry = this.#byInode.get(inodeKey(child.stat)) ?? null;
		const identity = marks.has("holdfast") ? markOf(this.#check, fd, child.stat.type, xattr.identity) : 0;
		const ownIdentity = typeof identity === "number" ? null : identity;
		const origin = marks.has("origin") ? markOf(this.#check, fd, child.stat.type, xattr.origin) : 0;
		if (typeof origin !== "number") this.#version(child, origin);
		if (entry !== null) {
			entry.isSeen = true;
			here.holdsOrigins = true;
			this.#check.counts.copiedUp++;
		} else {
			if (typeof origin !== "number" && this.#origin(here, child, recordIn(origin), ownIdentity)) return null;
		}
		const believed = entry === null ? null : encodeIdentity(lowers[entry.lower.layer].fileSystem.uuid, entry.lower.handle);
		if (ownIdentity === null || believed?.equals(ownIdentity)) return entry;
		const message = `The object claims an identity (xattr ${xattr.identity}) that the index does not lead back from: it was planted, or copied along.`;
		this.#check.error("identity-not-believed", shown(child.path), message, this.#removal(child, xattr.identity));
		return entry;
	}

	/** Judges what is recorded of the version that was copied up. */
	#version({ fd, path }: Child, origin: Buffer): void {
		if (versionIn(origin) !== "damaged") return;
		const { upper, xattr } = this.#check.layers;
		const id = handle(upper, fd);
		const make = () => this.#check.repairs.setXattr(id, xattr.origin, recordIn(origin));
		this.#check.error("base-damaged", shown(path), BASE_DAMAGED, { does: "removes what is recorded", make });
	}

	/** Judges the origin of what no index entry leads to. True: it is judged, with its identity, when the walk is over. */
	#origin(here: Here, child: Child, origin: Buffer, identity: Buffer | null): boolean {
		const check = this.#check;
		const path = shown(child.path);
		if (origin.length === 0) {
			here.holdsOrigins = true;
			check.note("origin-unknown", path, "The object was copied up, and from where is not known (an empty origin).");
			return false;
		}
		const lower = lowerOfRecord(check.layers.lowers, origin);
		const forget = this.#removal(child, check.layers.xattr.origin);
		if (lower === "malformed") {
			check.error("origin-malformed", path, "What the object was copied up from (its origin) is no record of a lower object.", forget);
			return false;
		}
		here.holdsOrigins = true;
		check.counts.copiedUp++;
		if (lower === "gone" || lower === "foreign") {
			const kind = lower === "gone" ? "origin-gone" : "origin-foreign";
			const where = lower === "gone" ? "is no longer there" : "lies on a file system that none of the lowers is on";
			const message = `What the object was copied up from (its origin) ${where}.`;
			if (check.isOurs) check.error(kind, path, message, check.ifProven(forget));
			else check.note(kind, path, message);
			return false;
		}
		const record = origin.toString("hex");
		const entry = this.#index.get(record);
		if (entry === undefined) this.#claim(child, record, lower, identity);
		else this.#contested(path, entry, forget);
		return entry === undefined;
	}

	/** The index leads from the origin to something else. */
	#contested(path: string, entry: IndexEntry, forget: Remedy): void {
		if (entry.kind === "tombstone") {
			const message =
				"The object was copied up from one that the index says is gone: the kernel answers with an error, and its handle is stale.";
			this.#check.error("indexed-as-gone", path, message, forget);
			return;
		}
		const message =
			"The object says that it was copied up from what the index says is another object of upper: it was copied behind the overlay's back.";
		if (this.#check.isOurs || entry.kind === "directory") this.#check.error("origin-claimed-twice", path, message, forget);
		else this.#check.note("origin-claimed-twice", path, message);
	}

	#claim(child: Child, record: string, lower: LowerObject, identity: Buffer | null): void {
		const { lowers } = this.#check.layers;
		const claims = this.#walked.claims.get(record) ?? [];
		this.#walked.claims.set(record, claims);
		const key = inodeKey(child.stat);
		// a further name
		if (claims.some((claim) => claim.key === key)) return;
		const own = encodeIdentity(lowers[lower.layer].fileSystem.uuid, lower.handle);
		claims.push({
			record,
			lower,
			handle: handle(this.#check.layers.upper, child.fd),
			key,
			path: child.path,
			identity: identity === null ? "none" : identity.equals(own) ? "same" : "another",
			isDirectory: child.stat.type === FileType.dir,
			hasLinkCount: child.marks.has("nlink"),
			nlink: child.stat.nlink,
		});
	}
}

/** Where a path of upper is told of. */
export function shown(path: string): string {
	return path === "" ? "upper" : `upper${path}`;
}

function recordOrNone(fd: number, origin: string): Buffer | null {
	const value = xattrOrNone(fd, origin, UNREAD);
	return value === null ? null : recordIn(value);
}

/** An xattr as text; empty where there is none. */
function text(fd: number, name: string): string {
	return xattrOrNone(fd, name, UNREAD)?.toString("latin1") ?? "";
}

/** An xattr of ours on an object of upper, or what stands for it in work. */
export function markOf({ layers }: Check, fd: number, type: number, name: string): Buffer | number {
	return getMark({ layer: layers.upper, marks: layers.marks }, fd, type, name);
}

function marksOf(check: Check, fd: number, type: number): Set<string> {
	const { prefix, origin, identity, nlink } = check.layers.xattr;
	const marks = new Set<string>();
	if (type !== FileType.reg && type !== FileType.dir && !check.layers.marks.isEmpty) {
		for (const name of [origin, identity, nlink]) {
			if (typeof markOf(check, fd, type, name) !== "number") marks.add(name.slice(prefix.length));
		}
	}
	const names = listXattrs(fd);
	if (typeof names === "number") throw failed("Cannot list extended attributes", names);
	for (const name of names) {
		const whole = name.toString("latin1");
		if (whole.startsWith(prefix)) marks.add(whole.slice(prefix.length));
	}
	return marks;
}
