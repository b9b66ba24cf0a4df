// The overlay as front ends see it: every operation checks, does its one change, and answers.

import { randomFillSync } from "node:crypto";
import { parseHandle } from "../../handle/wire-handle.ts";
import { writeFrom } from "../../linux/data.ts";
import { ERRNO } from "../../linux/errno.ts";
import { fileSystemFigures } from "../../linux/file-system.ts";
import { type AddressedBytes, allocate } from "../../linux/memory.ts";
import { readLinkAt } from "../../linux/names.ts";
import { close, O } from "../../linux/open.ts";
import type { Stat } from "../../linux/stat.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import { checkName, isDot, isDotDot } from "../../vfs/names.ts";
import {
	type Attributes,
	type ChangeAnswer,
	type ChangeKey,
	type ContentRight,
	type CopyRights,
	type CreatedObject,
	type CreateHow,
	type Credentials,
	type FileSystemStatus,
	FileType,
	type ListCursor,
	type OverlayObject,
	type OverlayOperations,
	type ReadResult,
	type SeekResult,
	type SeekTarget,
	type SetAttributes,
	type SetXattrMode,
	type Timespec,
} from "../../vfs/operations.ts";
import { failed, isNoRoom, must } from "../../vfs/system-errors.ts";
import { readMetacopy } from "../copy-up/partial-access.ts";
import { dataOf } from "../data/data-files.ts";
import type { Partials } from "../data/partials.ts";
import { demand, demandContent, grantedAccess, MAY } from "../engine/access.ts";
import { type Engine, handleFor, rootNode, TICK_MS, writableOf } from "../engine/engine.ts";
import type { Answer } from "../journal/journal.ts";
import { UNSIGNED } from "../journal/steps.ts";
import { DirectoryCursor, LISTING_LIMITS, type ListingLimits, type ListingMemory, Listings } from "../listing/listing.ts";
import { loadNode, parentOf } from "../lookup/by-handle.ts";
import { birthTimeOf, lookupChild, lookupPlace } from "../lookup/objects.ts";
import { refusePostponed } from "../lookup/postponed.ts";
import { statOf } from "../lookup/stat.ts";
import { awaitCut, isHandleOf, keyOfHandle, Node } from "../nodes/node.ts";
import { asOverlayError } from "../nodes/reals.ts";
import { readData } from "../threads/read-data.ts";
import { attributesOf, setAttributes } from "./attributes.ts";
import { checkCreate, createObject, createUnnamed, linkObject, type Maker } from "./create.ts";
import type { Durability } from "./durability.ts";
import { getExtendedAttribute, listExtendedAttributes, removeExtendedAttribute, setExtendedAttribute } from "./extended-attributes.ts";
import { finishPostponed } from "./finish-postponed.ts";
import { hold, letGo, removeUnheld } from "./hold.ts";
import { allocate as allocateRoom, cloneRange, deallocate, demandWrite, prepareContent, seekRange } from "./ranges.ts";
import { removeDirectoryName, removeName } from "./remove.ts";
import { exchangeObjects, renameObject } from "./rename.ts";

/** Of a time stamp that every file system can keep. */
const SECONDS_MASK = 0x7fffffff;

/** One export: the union of its layers, as its front ends see it. */
export class Overlay implements OverlayOperations {
	readonly writeVerifier: Buffer = randomFillSync(Buffer.alloc(8));
	readonly engine: Engine;
	readonly listings: Listings;
	readonly #durability: Durability | null;
	readonly #close: () => void;
	#isClosed = false;
	/** `memory.changes` at the beginning of the last pass. */
	#changesBefore = 0;
	/** A front end may still say what it held before the start. */
	#isRestoring = true;

	constructor(
		engine: Engine,
		durability: Durability | null,
		close: () => void,
		limits: ListingLimits = LISTING_LIMITS,
		memory?: ListingMemory,
	) {
		this.engine = engine;
		this.listings = new Listings(engine, limits, memory);
		this.#durability = durability;
		this.#close = close;
	}

	get root(): Node {
		return rootNode(this.engine);
	}

	get readOnly(): boolean {
		return this.engine.writable === null;
	}

	get changes(): number {
		return this.engine.memory.changes;
	}

	decode(bytes: Uint8Array): Node {
		return this.#run(() => {
			const node = this.#find(bytes);
			refusePostponed(this.engine, node);
			return node;
		});
	}

	getattr(object: OverlayObject, withChange = true): Attributes {
		return this.#run(() => attributesOf(this.engine, object as Node, withChange));
	}

	birthTime(object: OverlayObject): Timespec | null {
		return this.#run(() => birthTimeOf(this.engine, object as Node));
	}

	setattr(object: OverlayObject, who: Credentials, change: SetAttributes, guard?: Timespec, key: ChangeKey | null = null): void {
		this.#change(key, FileType.reg, () => {
			setAttributes(this.engine, object as Node, who, change, guard);
			return null;
		});
	}

	lookup(directory: OverlayObject, name: Uint8Array, who: Credentials): Node | null {
		return this.#run(() => {
			const node = directoryOf(directory);
			demand(this.engine, node, statOf(this.engine, node), who, MAY.execute);
			if (isDot(name)) return node;
			if (isDotDot(name)) return parentOf(this.engine, node);
			checkName(name);
			return lookupChild(this.engine, node, name);
		});
	}

	access(object: OverlayObject, who: Credentials, wanted: number): number {
		return this.#run(() => {
			const node = object as Node;
			return grantedAccess(this.engine, node, statOf(this.engine, node), who, wanted, this.readOnly);
		});
	}

	readlink(object: OverlayObject): Buffer {
		return this.#run(() => {
			const node = object as Node;
			if (node.type !== FileType.lnk) throw new OverlayError("inval", "This is not a symlink");
			return must(readLinkAt(this.engine.descriptors.path(node.top), ""), "Cannot read the symlink");
		});
	}

	read(
		object: OverlayObject,
		who: Credentials,
		offset: number,
		length: number,
		into: AddressedBytes,
		at: number,
		right: ContentRight = "mode",
	): ReadResult {
		return this.#run(() => {
			const node = regularFile(object);
			awaitCut(node);
			const stat = statOf(this.engine, node);
			const { engine } = this;
			demandContent(engine, node, stat, who, MAY.read, right);
			const { size } = stat;
			if (offset >= size || length === 0) return { count: 0, eof: offset >= size };
			if (node.isUpper && node.top.layer.mayHoldMetacopies) {
				const count = readMetacopy(engine, node, offset, Math.min(length, size - offset), into, at);
				if (count >= 0) return { count, eof: offset + count >= size };
			}
			const data = dataOf(engine, node);
			let count = 0;
			const wanted = Math.min(length, size - offset);
			while (count < wanted) {
				const got = readData(engine, data, into.address + at + count, wanted - count, offset + count);
				// the data of a crafted metacopy file may be shorter than it says: no client must ask for the rest for ever
				if (got === 0) return { count, eof: true };
				count += got;
			}
			return { count, eof: offset + count >= size };
		});
	}

	write(object: OverlayObject, who: Credentials, offset: number, data: Uint8Array, right: ContentRight = "mode"): number {
		return this.#run(() => {
			const node = regularFile(object);
			const stat = demandWrite(this.engine, node, who, offset, right);
			if (data.length === 0) return 0;
			const partial = prepareContent(this.engine, node, stat, who, offset, data.length);
			const fd = this.engine.descriptors.data(node.top, true);
			let count = 0;
			while (count < data.length) {
				const written = writeFrom(fd, count === 0 ? data : data.subarray(count), offset + count);
				if (written < 0) {
					if (partial !== null) count = this.engine.partials?.countWritten(partial, offset, count) ?? 0;
					const error = failed("Cannot write a file", written);
					if (count === 0 || this.#withRoom(error) !== error) throw error;
					break;
				}
				count += written;
			}
			if (partial !== null) this.engine.partials?.noteWritten(partial, offset, count);
			return count;
		});
	}

	seek(object: OverlayObject, who: Credentials, offset: number, what: SeekTarget, right: ContentRight = "mode"): SeekResult {
		return this.#run(() => seekRange(this.engine, regularFile(object), who, offset, what, right));
	}

	allocate(
		object: OverlayObject,
		who: Credentials,
		offset: number,
		length: number,
		right: ContentRight = "mode",
		keepsSize = false,
	): number {
		return this.#run(() => allocateRoom(this.engine, regularFile(object), who, offset, length, right, keepsSize));
	}

	deallocate(object: OverlayObject, who: Credentials, offset: number, length: number, right: ContentRight = "mode"): number {
		return this.#run(() => deallocate(this.engine, regularFile(object), who, offset, length, right));
	}

	copyRange(
		source: OverlayObject,
		sourceOffset: number,
		target: OverlayObject,
		offset: number,
		length: number,
		who: Credentials,
		rights: CopyRights = BY_MODE,
	): number {
		if (source === target && sourceOffset < offset + length && offset < sourceOffset + length) {
			throw new OverlayError("inval", "The two ranges of one file overlap");
		}
		this.#run(() => demandWrite(this.engine, regularFile(target), who, offset, rights.write));
		copyBuffer ??= allocate(COPY_BYTES_MAX);
		const { count } = this.read(source, who, sourceOffset, Math.min(length, COPY_BYTES_MAX), copyBuffer, 0, rights.read);
		return this.write(target, who, offset, copyBuffer.bytes.subarray(0, count), rights.write);
	}

	cloneRange(
		source: OverlayObject,
		sourceOffset: number,
		target: OverlayObject,
		offset: number,
		length: number,
		who: Credentials,
		rights: CopyRights = BY_MODE,
	): Promise<void> {
		return this.#run(() => cloneRange(this.engine, regularFile(source), sourceOffset, regularFile(target), offset, length, who, rights));
	}

	answerTo(key: ChangeKey): ChangeAnswer | null {
		const answer = this.engine.writable?.journal.answerBefore(key) ?? null;
		return answer?.handle == null ? answer : { error: answer.error, handle: this.#signed(answer.handle) };
	}

	create(
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		how: CreateHow,
		key: ChangeKey | null = null,
	): CreatedObject & { object: Node } {
		const outcome = { isFound: false };
		const make = () => {
			const node = directoryOf(directory);
			checkName(name);
			demand(this.engine, node, statOf(this.engine, node), who, MAY.execute);
			const isLookedUp = how.mode !== "guarded" && !isDot(name) && !isDotDot(name);
			const place = isLookedUp ? lookupPlace(this.engine, node, name) : null;
			const attributes = how.mode === "exclusive" ? exclusiveAttributes(how) : how.attributes;
			if (place === null || typeof place === "string") {
				return createObject(this.engine, this.listings, node, name, who, { type: FileType.reg }, attributes, place);
			}
			outcome.isFound = how.mode !== "exclusive";
			return this.#createExisting(place, who, how);
		};
		const object = this.#change(key, FileType.reg, make, outcome) as Node;
		return { object, made: !outcome.isFound };
	}

	createUnnamed(directory: OverlayObject, who: Credentials, attributes: SetAttributes, key: ChangeKey | null = null): Node {
		return this.#change(key, FileType.reg, () => createUnnamed(this.engine, directoryOf(directory), who, attributes)) as Node;
	}

	mkdir(directory: OverlayObject, name: Uint8Array, who: Credentials, attributes: SetAttributes, key: ChangeKey | null = null): Node {
		return this.#make(directory, name, who, { type: FileType.dir }, attributes, key);
	}

	symlink(
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		target: Uint8Array,
		attributes: SetAttributes,
		key: ChangeKey | null = null,
	): Node {
		if (target.length === 0 || target.includes(0)) throw new OverlayError("inval", "A symlink needs a target without NUL");
		if (target.length > SYMLINK_BYTES_MAX) throw new OverlayError("nametoolong", `A symlink has at most ${SYMLINK_BYTES_MAX} bytes`);
		return this.#make(directory, name, who, { type: FileType.lnk, target }, attributes, key);
	}

	mknod(
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		type: FileType,
		major: number,
		minor: number,
		attributes: SetAttributes,
		key: ChangeKey | null = null,
	): Node {
		const isDevice = type === FileType.chr || type === FileType.blk;
		if (!isDevice && type !== FileType.fifo && type !== FileType.sock) throw new OverlayError("badtype", "No such node can be made");
		if (isDevice && who.uid !== 0) throw new OverlayError("perm", "Only the superuser may make devices");
		if (type === FileType.chr && major === 0 && minor === 0) return this.#refuseWhiteout(directory, name, who, key);
		if (major > MAJOR_MAX || minor > MINOR_MAX) throw new OverlayError("inval", "The device number is too large");
		return this.#make(directory, name, who, isDevice ? { type, major, minor } : { type, major: 0, minor: 0 }, attributes, key);
	}

	/** The kernel too says first what else is wrong with it. */
	#refuseWhiteout(directory: OverlayObject, name: Uint8Array, who: Credentials, key: ChangeKey | null): Node {
		return this.#made(key, FileType.chr, () => {
			const node = directoryOf(directory);
			checkCreate(this.engine, node, name, who);
			if (lookupChild(this.engine, node, name) !== null) throw new OverlayError("exist", "The name exists");
			throw new OverlayError("perm", "A character device 0:0 is a whiteout and cannot be made");
		});
	}

	remove(directory: OverlayObject, name: Uint8Array, who: Credentials, key: ChangeKey | null = null): void {
		this.#change(key, FileType.reg, () => {
			removeName(this.engine, this.listings, directoryOf(directory), name, who);
			return null;
		});
	}

	rmdir(directory: OverlayObject, name: Uint8Array, who: Credentials, key: ChangeKey | null = null): void {
		this.#change(key, FileType.dir, () => {
			removeDirectoryName(this.engine, this.listings, directoryOf(directory), name, who);
			return null;
		});
	}

	rename(
		from: OverlayObject,
		fromName: Uint8Array,
		to: OverlayObject,
		toName: Uint8Array,
		who: Credentials,
		key: ChangeKey | null = null,
		mayReplace = true,
	): void {
		this.#change(key, FileType.reg, () => {
			const source = { directory: directoryOf(from), name: fromName };
			renameObject(this.engine, this.listings, source, { directory: directoryOf(to), name: toName }, who, mayReplace);
			return null;
		});
	}

	/** Lets two names change places (RENAME_EXCHANGE). */
	exchange(
		from: OverlayObject,
		fromName: Uint8Array,
		to: OverlayObject,
		toName: Uint8Array,
		who: Credentials,
		key: ChangeKey | null = null,
	): void {
		this.#change(key, FileType.reg, () => {
			const source = { directory: directoryOf(from), name: fromName };
			exchangeObjects(this.engine, this.listings, source, { directory: directoryOf(to), name: toName }, who);
			return null;
		});
	}

	link(
		object: OverlayObject,
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		key: ChangeKey | null = null,
		mayBeUnnamed = false,
	): void {
		this.#change(key, FileType.reg, () => {
			linkObject(this.engine, this.listings, object as Node, directoryOf(directory), name, who, mayBeUnnamed);
			return null;
		});
	}

	/** The value of an extended attribute; "noattr" when there is none. */
	getxattr(object: OverlayObject, who: Credentials, name: Uint8Array): Buffer {
		return this.#run(() => getExtendedAttribute(this.engine, object as Node, who, name));
	}

	/** Names of all extended attributes that the caller may see. */
	listxattr(object: OverlayObject, who: Credentials): Buffer[] {
		return this.#run(() => listExtendedAttributes(this.engine, object as Node, who));
	}

	/** Sets an extended attribute, or an ACL in the form that Linux keeps it in (`system.posix_acl_access`, `_default`). */
	setxattr(
		object: OverlayObject,
		who: Credentials,
		name: Uint8Array,
		value: Uint8Array,
		mode: SetXattrMode = "any",
		key: ChangeKey | null = null,
	): void {
		this.#change(key, FileType.reg, () => {
			setExtendedAttribute(this.engine, object as Node, who, name, value, mode);
			return null;
		});
	}

	/** "noattr" when there is none. */
	removexattr(object: OverlayObject, who: Credentials, name: Uint8Array, key: ChangeKey | null = null): void {
		this.#change(key, FileType.reg, () => {
			removeExtendedAttribute(this.engine, object as Node, who, name);
			return null;
		});
	}

	list(directory: OverlayObject, who: Credentials, cookieHi: number, cookieLo: number): ListCursor {
		return this.#run(() => {
			const node = directoryOf(directory);
			demand(this.engine, node, statOf(this.engine, node), who, MAY.read);
			return new DirectoryCursor(this.engine, this.listings, node, parentOf(this.engine, node), cookieHi, cookieLo, true);
		});
	}

	statfs(object: OverlayObject): FileSystemStatus {
		return this.#run(() => {
			const layer = this.engine.writable?.layer ?? (object as Node).top.layer;
			const figures = fileSystemFigures(layer.root);
			if (typeof figures === "number") throw failed("Cannot read the state of the file system", figures);
			const totalBytes = figures.blocks * figures.blockBytes;
			// who needs it waits for it
			const coming = this.engine.writable?.work.trash.bytes ?? 0;
			const withComing = (blocks: number) => Math.min(totalBytes, blocks * figures.blockBytes + coming);
			return {
				totalBytes,
				freeBytes: withComing(figures.freeBlocks),
				availableBytes: withComing(figures.availableBlocks),
				totalFiles: figures.files,
				freeFiles: figures.freeFiles,
			};
		});
	}

	commit(object: OverlayObject): Promise<void> {
		const node = object as Node;
		if (!node.isUpper || node.type !== FileType.reg || node.top.layer.fileSystem.name === "tmpfs") return Promise.resolve();
		// a flush would wait in the kernel, in one of few threads
		if (node.cutting !== null) return node.cutting.then(() => this.commit(object));
		// a descriptor of its own: the cached one may be closed while another thread flushes
		const fd = node.top.layer.handles.open(node.top.handle, O.rdonly | O.noatime);
		if (fd < 0) {
			if (fd !== -ERRNO.ESTALE) this.#renewVerifier();
			return Promise.reject(failed("Cannot open a file to flush it", fd));
		}
		const partial = this.engine.partials?.of(node) ?? null;
		const stabilised = partial === null ? null : (this.engine.partials as Partials).stabilise(partial);
		const flushed = (this.#durability as Durability).content(fd).then((status) => {
			close(fd);
			return stabilised === null ? status : stabilised(status);
		});
		return flushed.then((status) => {
			if (status === 0) return;
			this.#renewVerifier();
			throw failed("Cannot flush a file", status);
		});
	}

	stable(): Promise<void> | null {
		const flush = this.#durability?.stable() ?? null;
		return flush === null
			? null
			: flush.catch((error) => {
					this.#renewVerifier();
					throw error;
				});
	}

	/** Flushes made so far for `stable`. */
	get flushes(): number {
		return this.#durability?.flushes ?? 0;
	}

	hold(handle: Uint8Array): void {
		this.#run(() => hold(this.engine, this.#find(handle)));
	}

	letGo(handle: Uint8Array): void {
		this.#run(() => letGo(this.engine, this.#verifiedKey(handle)));
	}

	onChange(told: (object: OverlayObject, isByCommand: boolean) => void): void {
		this.engine.changeAttribute.told.push(told);
	}

	holdOnLoss(takes: (handle: Uint8Array) => boolean): void {
		this.engine.held.askOnLoss(takes);
	}

	restoreHolds(handles: Iterable<Uint8Array>): number {
		if (!this.#isRestoring) throw new Error("Holds are restored behind their time");
		let refused = 0;
		for (const handle of handles) {
			try {
				this.engine.held.hold(this.#verifiedKey(handle));
			} catch (error) {
				if (!(error instanceof OverlayError && error.code === "badhandle")) throw error;
				refused++;
			}
		}
		return refused;
	}

	endOfRestore(): void {
		this.#isRestoring = false;
		this.#run(() => removeUnheld(this.engine, this.engine.patience !== null));
	}

	/** Runs a step of a command as an operation of a client: in one pass, with its bounds and its errors. */
	runStep<T>(step: () => T): T {
		const { changeAttribute } = this.engine;
		changeAttribute.isByCommand = true;
		try {
			return this.#run(step);
		} finally {
			changeAttribute.isByCommand = false;
		}
	}

	/** Flushes what `stable` has to flush and closes every descriptor. No operation may follow. */
	async close(): Promise<void> {
		if (this.#isClosed) return;
		this.#isClosed = true;
		try {
			await Promise.allSettled(this.engine.cuts.running);
			// nothing is left to be completed at the next start
			if (this.#durability !== null) this.engine.writable?.journal.endLastChange();
			await this.engine.partials?.close();
			await this.engine.changeAttribute.end(async () => this.#durability?.flush());
			await Promise.all([this.engine.offload.close(), this.engine.freeing.close(), this.engine.patience?.close()]);
		} finally {
			this.listings.close();
			this.#close();
		}
	}

	beginPass(): void {
		// its descriptors' numbers may be others' by now
		if (this.#isClosed) throw new OverlayError("stale", "This export is closed");
		const { memory, nodes, descriptors } = this.engine;
		const now = (memory.clock() / TICK_MS) | 0;
		if (now !== memory.now) this.engine.changeAttribute.checkClock();
		// a change may have made the room, or somebody else
		if (now !== memory.now || this.#changesBefore !== memory.changes) finishPostponed(this.engine, this.listings);
		this.#changesBefore = memory.changes;
		memory.now = now;
		nodes.trim(null);
		descriptors.trim();
	}

	#run<T>(operation: () => T): T {
		const { turns } = this.engine;
		turns.begin();
		try {
			return operation();
		} catch (error) {
			throw this.#withRoom(asOverlayError(error));
		} finally {
			turns.end();
			this.engine.patience?.pause();
		}
	}

	/** While space is being freed no request fails for want of space: it waits for that, and is run again. */
	#withRoom(error: unknown): unknown {
		if (!isNoRoom(error)) return error;
		const { cuts, writable } = this.engine;
		const freed = writable?.work.trash.emptied() ?? (cuts.running.size > 0 ? Promise.race(cuts.running) : null);
		return freed === null ? error : new Pending(freed);
	}

	#verifiedKey(bytes: Uint8Array): string {
		if (!this.engine.signer.verify(bytes) || parseHandle(bytes) === null) {
			throw new OverlayError("badhandle", "This is no handle of this export");
		}
		return keyOfHandle(bytes);
	}

	#find(bytes: Uint8Array): Node {
		const { engine } = this;
		const key = keyOfHandle(bytes);
		const live = engine.nodes.get(key);
		if (live !== undefined && isHandleOf(live, bytes)) return live;
		if (!engine.signer.verify(bytes)) throw new OverlayError("badhandle", "This is no handle of this export");
		const fields = parseHandle(bytes);
		if (fields === null) throw new OverlayError("badhandle", "This is no handle");
		return live ?? loadNode(engine, { home: fields.home, id: fields.id }, key);
	}

	#make(
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		maker: Maker,
		attributes: SetAttributes,
		key: ChangeKey | null,
	): Node {
		return this.#made(key, maker.type, () =>
			createObject(this.engine, this.listings, directoryOf(directory), name, who, maker, attributes),
		);
	}

	#made(key: ChangeKey | null, type: FileType, operation: () => Node): Node {
		return this.#change(key, type, operation) as Node;
	}

	/** Runs a change once: one that was answered before the last restart gets that answer again. `type` is that of the object it makes, if it makes one. */
	#change(
		key: ChangeKey | null,
		type: FileType,
		operation: () => Node | null,
		outcome: { isFound: boolean } = { isFound: false },
	): Node | null {
		const { engine } = this;
		if (key === null || engine.writable === null) return this.#run(operation);
		const { journal } = engine.writable;
		const before = journal.answered(key);
		if (before !== null) {
			outcome.isFound = before.isFound;
			return this.#answerAgain(before, type);
		}
		engine.changeKey = key;
		try {
			const node = this.#run(operation);
			journal.answer(key, { error: null, handle: node?.handle ?? null, isFound: outcome.isFound });
			return node;
		} catch (error) {
			if (error instanceof OverlayError && error.code !== "tryagain")
				journal.answer(key, { error: error.code, handle: null, isFound: false });
			throw error;
		} finally {
			engine.changeKey = null;
		}
	}

	#answerAgain(before: Answer, type: FileType): Node | null {
		if (before.error !== null) throw new OverlayError(before.error, "As this request was answered before the restart");
		if (before.handle === null) return null;
		const handle = this.#signed(before.handle);
		try {
			return this.decode(handle);
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
			return goneNode(type, handle);
		}
	}

	/** A recovery knows the inode that it made, and has no key. */
	#signed(handle: Buffer): Buffer {
		if (handle[0] !== UNSIGNED) return handle;
		const { layer } = writableOf(this.engine);
		return handleFor(this.engine, { home: layer.home, id: { type: handle[1], bytes: handle.subarray(2) } });
	}

	#createExisting(existing: Node, who: Credentials, how: CreateHow): Node {
		writableOf(this.engine);
		const getsSize = how.mode === "unchecked" ? (how.takeExisting?.(existing) ?? true) : false;
		if (how.mode === "exclusive") {
			if (existing.type === FileType.reg && hasVerifier(statOf(this.engine, existing), how.verifier)) return existing;
			throw new OverlayError("exist", "The name exists");
		}
		if (existing.type === FileType.dir) throw new OverlayError("isdir", "The name exists and is a directory");
		if (existing.type !== FileType.reg) throw new OverlayError("exist", "The name exists and is no regular file");
		if (how.mode === "unchecked" && getsSize && how.attributes.size !== undefined) {
			setAttributes(this.engine, existing, who, { size: how.attributes.size }, undefined);
		}
		return existing;
	}

	#renewVerifier(): void {
		randomFillSync(this.writeVerifier);
	}
}

/** Through memory, at a time: a millisecond. */
const COPY_BYTES_MAX = 1024 * 1024;
let copyBuffer: AddressedBytes | undefined;
const BY_MODE: CopyRights = { read: "mode", write: "mode" };
const SYMLINK_BYTES_MAX = 4095;
/** Limits of dev_t in the kernel: 12 and 20 bits. */
const MAJOR_MAX = 0xfff;
const MINOR_MAX = 0xfffff;

/** Stands for an object that a request made before a restart, and that somebody has removed since. */
function goneNode(type: FileType, handle: Buffer): Node {
	const id = { type: 0, bytes: Buffer.alloc(0) };
	const node = new Node({ type, handle, key: "", home: -1, id, fileidHi: 0, fileidLo: 0, reals: [] });
	node.isDead = true;
	return node;
}

function directoryOf(object: OverlayObject): Node {
	if (object.type !== FileType.dir) throw new OverlayError("notdir", "This is not a directory");
	return object as Node;
}

function regularFile(object: OverlayObject): Node {
	if (object.type === FileType.dir) throw new OverlayError("isdir", "This is a directory");
	if (object.type !== FileType.reg) throw new OverlayError("inval", "This is not a regular file");
	return object as Node;
}

/** The stamps that keep a verifier: 31 bits of each half as seconds, the one left over as a nanosecond. */
function verifierTimes(verifier: Uint8Array): readonly [atime: Timespec, mtime: Timespec] {
	const bytes = Buffer.from(verifier.buffer, verifier.byteOffset, verifier.length);
	const stamp = (half: number): Timespec => ({ sec: half & SECONDS_MASK, nsec: half >>> 31 });
	return [stamp(bytes.readUInt32BE(0)), stamp(bytes.readUInt32BE(4))];
}

function exclusiveAttributes({ verifier, attributes }: CreateHow & { mode: "exclusive" }): SetAttributes {
	if (attributes?.atime !== undefined || attributes?.mtime !== undefined) {
		throw new OverlayError("inval", "The times of a file that is created exclusively keep the verifier");
	}
	const [atime, mtime] = verifierTimes(verifier);
	return { ...attributes, atime, mtime };
}

/** Where the file system keeps whole seconds alone, 62 of the 64 bits have to do. */
function hasVerifier(stat: Stat, verifier: Uint8Array): boolean {
	const [atime, mtime] = verifierTimes(verifier);
	const keepsNanoseconds = stat.atimeNsec !== 0 || stat.mtimeNsec !== 0;
	const isSameRest = stat.atimeNsec === atime.nsec && stat.mtimeNsec === mtime.nsec;
	return stat.atimeSec === atime.sec && stat.mtimeSec === mtime.sec && (isSameRest || !keepsNanoseconds);
}
