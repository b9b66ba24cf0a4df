// Writes origins and index of a portable upper as the kernel's overlayfs has them.

import type { Layer } from "../../layer/layer.ts";
import { UnfitError } from "../../layer/layer-error.ts";
import type { PortableLower } from "../../layer/portable-lower.ts";
import type { PortableUpper } from "../../layer/portable-upper.ts";
import { namesOf } from "../../linux/directory.ts";
import { ENODATA, ERRNO } from "../../linux/errno.ts";
import { handleOf } from "../../linux/file-handle.ts";
import { RENAME, removeDirectory, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { removeXattr, setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { kernelUuids, openKernelIndex, visitUpper } from "../adopt/kernel-records.ts";
import { type Engine, identityOfRecord, writableOf } from "../engine/engine.ts";
import type { Home } from "../engine/home.ts";
import { originMovedTo } from "../format/base-version.ts";
import { encodeRecord, type Identity } from "../format/identity.ts";
import { nlinkValue } from "../format/link-delta.ts";
import { isWhiteoutStat } from "../format/whiteout.ts";
import type { Writable } from "../journal/writable.ts";

/** What the kernel calls the layers of a portable export. OverlayError "inval": it could not show what the export shows. */
export function kernelFormOf(engine: Engine): KernelForm {
	const { layer, ids } = writableOf(engine);
	if (ids === null) throw new Error("Only portable ids are written anew");
	if (layer.rights.isKept || engine.xattr.prefix.startsWith("user.")) {
		throw new OverlayError(
			"inval",
			"An upper of an ordinary user cannot be given back to the kernel: owners, modes and what objects were copied up from are kept in attributes " +
				"that its overlayfs does not read. To have the tree as plain files, serve and mount it, and copy it out as root: cp -a /mnt/. DIRECTORY",
		);
	}
	try {
		return new KernelForm(engine, ids, kernelUuids(engine.layers));
	} catch (error) {
		if (!(error instanceof UnfitError)) throw error;
		throw new OverlayError("inval", `Cannot give the upper back to the kernel, whose index needs file handles: ${error.problem}`);
	}
}

const EMPTY = Buffer.alloc(0);

/** A lower object that has an entry in the index. */
interface Lower {
	readonly stat: Stat;
	/** The entry's name in the kernel's index. */
	readonly record: Buffer;
	/** The kernel takes other names, which are objects of their own here, for this one. */
	readonly isShared: boolean;
}

/**
 * Translates the records of a portable upper: what an id leads to is opened, and named by its handle. Each step leaves a state from which an
 * adoption finds the ids again (`takeBackRecords`).
 */
export class KernelForm {
	readonly #engine: Engine;
	readonly #writable: Writable;
	readonly #ids: PortableUpper;
	readonly #uuids: ReadonlyMap<Layer, Buffer>;

	constructor(engine: Engine, ids: PortableUpper, uuids: ReadonlyMap<Layer, Buffer>) {
		this.#engine = engine;
		this.#writable = writableOf(engine);
		this.#ids = ids;
		this.#uuids = uuids;
	}

	/** `forgets`: objects of upper are to carry no ids any more. */
	write(forgets: boolean): void {
		const { index, layer } = this.#writable;
		this.#note();
		const theirs = openKernelIndex(this.#writable, true);
		try {
			const list = must(openAt(index.fd, ".", O.rdonly | O.directory), "Cannot open the index");
			const names = must(namesOf(list), "Cannot read the index");
			close(list);
			for (const name of names) this.#writeEntry(name.toString("latin1"), theirs);
		} finally {
			close(theirs);
		}
		// hard links would count as names
		must(this.#ids.unlinkFiles(), "Cannot remove the links of ids");
		if (!forgets) return;
		visitUpper(layer, (fd) => {
			const status = removeXattr(fd, layer.xattr.identity);
			if (status !== -ENODATA) must(status, "Cannot remove the id of an object of upper");
		});
	}

	/** What inode carries which id, files that only the index holds among it, before anything else is changed. */
	#note(): void {
		const { index, layer } = this.#writable;
		const note = (fd: number) => must(this.#ids.noteCarried(fd), "Cannot note the id of an object of upper");
		visitUpper(layer, note);
		visitUpper(layer, note, undefined, index.fd);
		must(this.#ids.endNotes(), "Cannot note the ids of upper");
	}

	#writeEntry(entry: string, theirs: number): void {
		const { index } = this.#writable;
		const identity = identityOfRecord(this.#engine, Buffer.from(entry, "hex"));
		const lower = identity === null ? null : this.#lowerOf(identity);
		const stat = new Stat();
		must(statAt(index.fd, entry, stat), "Cannot read an index entry");
		if (isWhiteoutStat(stat)) this.#move(entry, lower?.isShared ? null : lower, theirs);
		else if (stat.type === FileType.dir) this.#writeDirectory(entry, lower, theirs);
		else this.#writeFile(entry, lower, theirs);
	}

	/** Null: it is gone, by another image perhaps. */
	#lowerOf(identity: Identity): Lower | null {
		const { layers } = this.#engine.homes.get(identity.home) as Home;
		const fd = layers[0].handles.open(identity.id, O.path | O.nofollow);
		if (fd === -ERRNO.ESTALE) return null;
		must(fd, "Cannot open a lower object");
		try {
			const stat = new Stat();
			must(fstat(fd, stat), "Cannot read a lower object");
			const handle = must(handleOf(fd), "Cannot take a file handle");
			const record = encodeRecord(this.#uuids.get(layers[0]) as Buffer, handle, false);
			return { stat, record, isShared: stat.type !== FileType.dir && this.#isShared(layers, identity, stat) };
		} finally {
			close(fd);
		}
	}

	#isShared(layers: readonly Layer[], { id }: Identity, stat: Stat): boolean {
		const counted = Object.assign(new Stat(), stat);
		layers[0].handles.countNames(id, counted);
		if (counted.nlink === stat.nlink) return false;
		const { links, findLinks } = layers[0].handles as PortableLower;
		const areFollowed = links !== null || findLinks !== null;
		const others = this.#engine.layers.filter((other) => !other.isUpper && !layers.includes(other));
		return !areFollowed || others.some((other) => other.rootStat.sameDevice(layers[0].rootStat));
	}

	#writeDirectory(entry: string, lower: Lower | null, theirs: number): void {
		const { index, layer, work } = this.#writable;
		const { xattr } = layer;
		const answer = index.ask(entry);
		if (answer.kind === "upper") {
			try {
				const handle = must(handleOf(answer.fd), "Cannot take a file handle");
				if (lower !== null) {
					const temporary = work.makeTemporaryDirectory(0);
					const upper = encodeRecord(this.#uuids.get(layer) as Buffer, handle, true);
					work.setTemporaryXattr(temporary, xattr.upper, upper);
					this.#setOrigin(answer.fd, lower.record);
					const status = renameName(work.temporaries, temporary, theirs, lower.record.toString("hex"));
					must(status, "Cannot make an entry of the kernel's index");
				}
			} finally {
				close(answer.fd);
			}
		}
		must(removeDirectory(index.fd, entry), "Cannot remove an index entry");
	}

	/** The version of what was copied up stays behind it. */
	#setOrigin(fd: number, record: Buffer): void {
		const { origin } = this.#writable.layer.xattr;
		const value = xattrOrNone(fd, origin, "Cannot read what an object was copied up from") ?? EMPTY;
		must(setXattr(fd, origin, originMovedTo(record, value)), "Cannot say what an object was copied up from");
	}

	#writeFile(entry: string, lower: Lower | null, theirs: number): void {
		const { index, layer } = this.#writable;
		const { origin, nlink } = layer.xattr;
		const fd = must(openAt(index.fd, entry, O.path | O.nofollow), "Cannot open an index entry");
		try {
			if (lower === null || lower.isShared) {
				// to the kernel it was born in upper
				for (const name of [origin, nlink]) {
					const status = removeXattr(fd, name);
					if (status !== -ENODATA) must(status, "Cannot make a file one that was born in upper");
				}
				this.#move(entry, null, theirs);
				return;
			}
			this.#setOrigin(fd, lower.record);
			// without it the kernel counts the entry for a name
			if (lower.stat.nlink > 1 && xattrOrNone(fd, nlink, "Cannot read a link count") === null)
				must(setXattr(fd, nlink, nlinkValue(-1)), "Cannot set a link count");
			this.#move(entry, lower, theirs);
		} finally {
			close(fd);
		}
	}

	/** An entry becomes one of the kernel's; null: none. */
	#move(entry: string, lower: Lower | null, theirs: number): void {
		const { index } = this.#writable;
		if (lower !== null) {
			const status = renameName(index.fd, entry, theirs, lower.record.toString("hex"), RENAME.noReplace);
			if (status === 0) return;
			if (status !== -ERRNO.EEXIST) must(status, "Cannot make an entry of the kernel's index");
		}
		must(unlinkName(index.fd, entry), "Cannot remove an index entry");
	}
}
