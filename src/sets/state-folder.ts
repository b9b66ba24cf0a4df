// The sets of one state folder: finding, making, naming, holding and removing them.

import { createHash, randomBytes } from "node:crypto";
import {
	lstatSync,
	mkdirSync,
	readdirSync,
	readlinkSync,
	realpathSync,
	renameSync,
	rmdirSync,
	rmSync,
	type Stats,
	statSync,
	symlinkSync,
	unlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { LayerError } from "../layer/layer-error.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { tryLock } from "../linux/file-system.ts";
import { close, O, openPath } from "../linux/open.ts";
import { pathExists, readFileNamed } from "../linux/read-file.ts";
import { LOWERS_FILE } from "../overlay/opening/export-folder.ts";
import { makeFolder } from "../overlay/opening/export-paths.ts";
import { isUpperLocked } from "../overlay/opening/upper-lock.ts";
import { flushFolder, readRegistry, registryPath } from "../overlay/work/registry.ts";
import { removeTree } from "../unpack/remove-tree.ts";
import { tellProgress } from "../vfs/progress.ts";
import { nameFor } from "./set-names.ts";
import { README_FILE, writeReadme } from "./set-readme.ts";
import { RECORD_FILE, RecordError, readRecord, type SetRecord, writeRecord } from "./set-record.ts";
import { formerNames, type TreeIdentity } from "./tree-identity.ts";

/** Sets of one state folder. Each start reads the records of all. */
export const SETS_MAX = 4096;
/** State folders of one user that are noted as used in other environments. */
const ELSEWHERE_MAX = 100;

const FOLDER = "changes";
/** Names that begin with a dot are no sets. */
const LOCK_FILE = ".lock";
const ELSEWHERE = "elsewhere";
/** What is being removed; no name of a set begins so. */
const REMOVING = ".removing-";
const LOCK_ATTEMPTS_MAX = 1000;
const LOCK_RETRY_MS = 10;

/** A set of changes, as it lies on disk. */
export interface ChangeSet {
	readonly name: string;
	/** The state folder that it is in. */
	readonly root: string;
	/** Without symbolic links: a set of an earlier version lies where it always was, and a link leads to it. */
	readonly folder: string;
	readonly upper: string;
	readonly work: string;
	/** Null: of an earlier version, or damaged. */
	readonly record: SetRecord | null;
	/** What is wrong with its record; "" if nothing is. */
	readonly damage: string;
	/** Its tree by path, from the record or from what an earlier version noted; null if nothing tells. */
	readonly treePath: string | null;
	/** It belongs to another user: for nobody else to use. */
	readonly isOthers: boolean;
	/** A look at it failed, which says nothing of what it is. */
	readonly isUnread: boolean;
}

/** Sets of a state folder, in the order of their names; none if there is no such folder, or this process may not read it. */
export function readSets(root: string): ChangeSet[] {
	const folder = join(root, FOLDER);
	const found = new Map<string, ChangeSet>();
	for (const name of namesIn(folder)) {
		const set = readSet(root, name);
		if (set === null) continue;
		const former = found.get(set.folder);
		// the link that names it counts, and not the hash that it leads to
		if (former === undefined || isLink(join(folder, name))) found.set(set.folder, set);
	}
	return [...found.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
}

function namesIn(folder: string): string[] {
	try {
		return readdirSync(folder).filter((name) => !name.startsWith("."));
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "ENOENT" || code === "EACCES" || code === "ENOTDIR") return [];
		throw error;
	}
}

/** Null: it is no set. */
function readSet(root: string, name: string): ChangeSet | null {
	const link = join(root, FOLDER, name);
	let stat: Stats | undefined;
	let folder = link;
	try {
		stat = statSync(link, { throwIfNoEntry: false });
		if (stat !== undefined) folder = realpathSync(link);
	} catch (error) {
		// what a link leads to may be a folder of another user
		if (!ELSEWHERE_CODES.has((error as NodeJS.ErrnoException).code ?? "")) return unreadSet(root, name, link, error);
		stat = undefined;
	}
	if (stat === undefined) return lostSet(root, name, link);
	const isOthers = stat.uid !== process.geteuid?.();
	const [upper, work] = [join(folder, "upper"), join(folder, "work")];
	try {
		if (!stat.isDirectory() || ![join(folder, RECORD_FILE), upper, work].some(pathExists)) return null;
	} catch (error) {
		// nobody else's set is any of this user's
		if ((error as NodeJS.ErrnoException).code === "EACCES" && isOthers) return null;
		return unreadSet(root, name, folder, error);
	}
	let record: SetRecord | null = null;
	let [damage, isUnread] = ["", false];
	try {
		record = readRecord(folder);
	} catch (error) {
		if (!(error instanceof RecordError)) throw error;
		({ message: damage, isUnread } = error);
	}
	try {
		const treePath = record?.tree.path ?? notedLower(work);
		return { name, root, folder, upper, work, record, damage, treePath, isOthers, isUnread };
	} catch (error) {
		return unreadSet(root, name, folder, error);
	}
}

/** Errors of a link that leads nowhere, or where this process may not look. */
const ELSEWHERE_CODES: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR", "EACCES", "ELOOP"]);

/** Whoever takes a set that cannot be read for none makes another one beside it. */
function unreadSet(root: string, name: string, folder: string, error: unknown): ChangeSet {
	const { errno } = error as NodeJS.ErrnoException;
	if (errno === undefined) throw error;
	return damagedSet(root, name, folder, `Cannot look at the set ${folder}: ${whyNot(errno, folder)}.`, true);
}

/** The link of a set whose folder is not there, as of a disk that is not mounted. */
function lostSet(root: string, name: string, link: string): ChangeSet | null {
	if (!isLink(link)) return null;
	const folder = readlinkSync(link);
	return damagedSet(root, name, folder, `Its folder ${folder} is not there.`, false);
}

/** Nothing is known of it but its place. */
function damagedSet(root: string, name: string, folder: string, damage: string, isUnread: boolean): ChangeSet {
	const [upper, work] = [join(folder, "upper"), join(folder, "work")];
	return { name, root, folder, upper, work, record: null, damage, treePath: null, isOthers: false, isUnread };
}

/** Where the lower of an upper was when it was served last: earlier versions kept no other record. */
function notedLower(work: string): string | null {
	try {
		const paths: unknown = JSON.parse(readFileNamed(join(work, "holdfast", LOWERS_FILE)).toString("utf8"));
		return Array.isArray(paths) && paths.length === 1 && typeof paths[0] === "string" ? paths[0] : null;
	} catch (error) {
		// a damaged note says nothing, and one of another user neither
		if (error instanceof SyntaxError || ELSEWHERE_CODES.has((error as NodeJS.ErrnoException).code ?? "")) return null;
		throw error;
	}
}

function isLink(path: string): boolean {
	return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
}

/** "kernel" or "portable"; null: it was never served, or its registry cannot be read. */
export function handlesOf(set: ChangeSet): "kernel" | "portable" | null {
	try {
		const registry = readRegistry(join(set.work, "holdfast"));
		return registry === null ? null : (registry.handles ?? "kernel");
	} catch {
		return null;
	}
}

/** Whether it holds anything that a client may know of. */
export function wasServed(set: ChangeSet): boolean {
	return pathExists(registryPath(join(set.work, "holdfast"))) || pathExists(join(set.work, "holdfast", "lock"));
}

/** Whether a process has the upper of a set, or is about to. */
export function isInService(set: ChangeSet): boolean {
	if (set.isOthers) return false;
	const held = holdExclusively(set.folder);
	if (held === null) return true;
	close(held);
	return isUpperHeld(set);
}

/** A descriptor with an exclusive lock; null: a server holds the set. */
function holdExclusively(folder: string): number | null {
	const fd = openPath(folder, O.rdonly | O.directory | O.noatime);
	if (fd < 0) throw new LayerError(`Cannot open ${folder}: ${whyNot(fd)}.`);
	if (tryLock(fd) >= 0) return fd;
	close(fd);
	return null;
}

/** The state folder of a user, locked against others who make and remove sets in it. */
export class StateFolder {
	readonly root: string;
	readonly #lock: number;

	private constructor(root: string, lock: number) {
		this.root = root;
		this.#lock = lock;
	}

	/** Makes what is missing, with mode 0700. LayerError: it cannot be made, belongs to another, or is locked for long. */
	static open(root: string): StateFolder {
		const folder = join(root, FOLDER);
		try {
			makeFolder(folder, "the folder of changes");
		} catch (error) {
			if (!(error instanceof LayerError)) throw error;
			throw new LayerError(`${error.message} Choose a folder of your own with --state-dir.`);
		}
		demandOwn(folder);
		return new StateFolder(root, lockFolder(folder));
	}

	close(): void {
		close(this.#lock);
	}

	/** Named by its tree, or as asked. LayerError. */
	make(tree: TreeIdentity, asked: string | null, isEphemeral: boolean): ChangeSet {
		const sets = readSets(this.root);
		if (sets.length >= SETS_MAX) {
			throw new LayerError(`There are ${SETS_MAX} sets in ${join(this.root, FOLDER)} already: remove some (holdfast remove NAME).`);
		}
		const name = asked ?? nameFor(isEphemeral ? `${tree.path}-ephemeral` : tree.path, (one) => this.#isTaken(one));
		const folder = join(this.root, FOLDER, name);
		if (this.#isTaken(name)) throw new LayerError(`Cannot make the set ${name}: there is something of that name in ${dirname(folder)}.`);
		mkdirSync(folder, { mode: 0o700 });
		try {
			const now = new Date().toISOString();
			writeRecord(folder, { tree, made: now, served: null, isDefault: asked === null && !isEphemeral, isEphemeral });
			writeReadme(folder, name, tree.path);
			flushFolder(dirname(folder));
			return readSet(this.root, name) as ChangeSet;
		} catch (error) {
			rmSync(folder, { recursive: true, force: true });
			throw error;
		}
	}

	#isTaken(name: string): boolean {
		return lstatSync(join(this.root, FOLDER, name), { throwIfNoEntry: false }) !== undefined;
	}

	/**
	 * Gives names to what earlier versions made: each folder stays where it is, here or in a state folder of that time, and a link with a name leads to
	 * it. Its record is written when it is served again. Where nothing tells its tree, and it is not `tree`, it keeps the name that it has.
	 */
	takeOver(formerRoots: readonly string[], tree: TreeIdentity | null): void {
		const own = readSets(this.root);
		const known = new Set(own.map(({ folder }) => folder));
		const unnamed = own.filter(({ name, folder, damage }) => damage === "" && name === hashIn(folder));
		const elsewhere = formerRoots.flatMap(readSets).filter(({ folder }) => !known.has(folder));
		for (const set of [...unnamed, ...elsewhere]) {
			if (set.isOthers || set.damage !== "") continue;
			const path = set.treePath ?? (tree !== null && belongsTo(set, tree) ? tree.path : null);
			if (path === null) continue;
			const name = nameFor(path, (one) => this.#isTaken(one));
			const isHere = dirname(set.folder) === realpathSync(join(this.root, FOLDER));
			symlinkSync(isHere ? set.name : set.folder, join(this.root, FOLDER, name));
			writeReadme(set.folder, name, path);
		}
	}

	/** Puts aside the ephemeral sets of servers that were killed. One that cannot be stays. */
	sweep(): void {
		for (const set of readSets(this.root)) {
			try {
				if (set.record?.isEphemeral && !set.isOthers && !isInService(set)) this.putAside(set);
			} catch {
				// list shows it, and remove says why
			}
		}
	}

	/**
	 * It is no set from here on, and `finishRemovals` removes what it holds: where that is interrupted a later command goes on. LayerError: it is another
	 * user's, or in service.
	 */
	putAside(set: ChangeSet): void {
		refuseOthers(set);
		const link = join(this.root, FOLDER, set.name);
		if (!pathExists(set.folder)) {
			unlinkSync(link);
			return;
		}
		const held = holdExclusively(set.folder);
		try {
			if (held === null || isUpperHeld(set)) throw inService(set);
			const aside = `${REMOVING}${randomBytes(8).toString("hex")}`;
			const here = join(this.root, FOLDER, aside);
			if (isLink(link)) {
				// of an earlier version, which stays on its file system
				const there = join(dirname(set.folder), `${aside}-folder`);
				symlinkSync(there, here);
				renameSync(set.folder, there);
				unlinkSync(link);
			} else renameSync(set.folder, here);
		} finally {
			if (held !== null) close(held);
		}
	}

	/** Lets processes that find this user's state elsewhere know of this folder. */
	noteAt(others: readonly string[]): void {
		for (const other of others) {
			try {
				const folder = join(other, ELSEWHERE);
				mkdirSync(folder, { recursive: true, mode: 0o700 });
				const note = join(folder, createHash("sha256").update(this.root).digest("hex").slice(0, 24));
				if (!isLink(note) && readdirSync(folder).length < ELSEWHERE_MAX) symlinkSync(this.root, note);
			} catch {
				// this user has no home there
			}
		}
	}
}

/** State folders that were noted at this one. */
export function elsewhere(root: string): string[] {
	return namesIn(join(root, ELSEWHERE))
		.slice(0, ELSEWHERE_MAX)
		.map((name) => join(root, ELSEWHERE, name))
		.filter(isLink)
		.map((note) => readlinkSync(note));
}

function isUpperHeld({ upper, work }: ChangeSet): boolean {
	const root = openPath(upper, O.path | O.directory);
	if (root === -ERRNO.ENOENT || root === -ERRNO.ENOTDIR) return false;
	if (root < 0) throw new LayerError(`Cannot open ${upper}: ${whyNot(root, upper)}.`);
	try {
		return isUpperLocked({ path: upper, root, folder: join(work, "holdfast") });
	} finally {
		close(root);
	}
}

/** Removes what was put aside, also by a command that was interrupted. Several may do so at once. LayerError: something stays. */
export function finishRemovals(root: string): void {
	const folder = join(root, FOLDER);
	let names = 0;
	const progress = () => tellProgress("removing", ++names, "files");
	for (const name of removingIn(folder)) {
		const aside = join(folder, name);
		const target = isLink(aside) ? readlinkSync(aside) : aside;
		const parent = openPath(dirname(target), O.path | O.directory);
		if (parent >= 0) {
			const status = removeTree(parent, Buffer.from(basename(target)), progress);
			close(parent);
			if (status < 0 && status !== -ERRNO.ENOENT) throw new LayerError(`Cannot remove all of ${target}: ${whyNot(status)}.`);
		}
		rmSync(aside, { force: true });
	}
}

/** Before a removal is asked about. LayerError: it is another user's, or in service. */
export function demandRemovable(set: ChangeSet): void {
	refuseOthers(set);
	if (set.damage === "" && isInService(set)) throw inService(set);
}

function refuseOthers({ name, folder, isOthers }: ChangeSet): void {
	if (isOthers) throw new LayerError(`Cannot remove the set ${name}: its folder ${folder} belongs to another user.`);
}

function inService({ name }: ChangeSet): LayerError {
	return new LayerError(`Cannot remove the set ${name}: it is in service. Stop its server first.`);
}

/** LayerError: it is another user's, or in service. */
export function removeSet(set: ChangeSet): void {
	const state = StateFolder.open(set.root);
	try {
		state.putAside(set);
	} finally {
		state.close();
	}
	finishRemovals(set.root);
}

function removingIn(folder: string): string[] {
	try {
		return readdirSync(folder).filter((name) => name.startsWith(REMOVING) && !name.endsWith("-folder"));
	} catch {
		return [];
	}
}

/** The name that an earlier version gave to a folder of changes; null: it is none. */
function hashIn(folder: string): string | null {
	return /\/([0-9a-f]{24})$/.exec(folder)?.[1] ?? null;
}

/** Of a set without a record: by the registry of its upper, or the name that an earlier version gave to its folder. Null: neither tells. */
export function belongsTo({ folder, work }: ChangeSet, tree: TreeIdentity): boolean | null {
	const hash = hashIn(folder);
	if (hash !== null && formerNames(tree).includes(hash)) return true;
	try {
		const registry = readRegistry(join(work, "holdfast"));
		const lower = registry?.lowers.length === 1 ? registry.lowers[0] : undefined;
		if (registry && lower !== undefined && registry.handles === undefined) {
			const home = registry.homes.find(({ number }) => number === lower.home);
			return lower.root === tree.handle && (tree.uuid === null || /^0*$/.test(home?.uuid ?? "") || home?.uuid === tree.uuid);
		}
	} catch {}
	return hash === null ? null : false;
}

/** Whoever may rename sets in a folder could put another one in a set's place. */
function demandOwn(folder: string): void {
	const { uid, mode } = statSync(folder);
	if (uid === process.geteuid?.() && (mode & 0o022) === 0) return;
	const why = (mode & 0o022) === 0 ? "it belongs to another user" : "other users may write to it";
	throw new LayerError(`Cannot keep changes in ${folder}: ${why}. Choose a folder of your own with --state-dir.`);
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

function lockFolder(folder: string): number {
	const path = join(folder, LOCK_FILE);
	const fd = openPath(path, O.rdwr | O.creat | O.nofollow, 0o600);
	if (fd < 0) throw new LayerError(`Cannot open ${path}: ${whyNot(fd)}.`);
	for (let attempt = 0; attempt < LOCK_ATTEMPTS_MAX; attempt++) {
		const status = tryLock(fd);
		if (status >= 0) return fd;
		if (status !== -ERRNO.EWOULDBLOCK) break;
		Atomics.wait(sleeper, 0, 0, LOCK_RETRY_MS);
	}
	close(fd);
	throw new LayerError(`Cannot lock ${path}: another process makes or removes sets there. Try again when it is done.`);
}

/** Holds a set for as long as this process lives, so that nobody removes it. Whoever asks whether it is held has it for a moment. */
export function holdSet(set: ChangeSet): { close(): void } {
	const fd = openPath(set.folder, O.rdonly | O.directory | O.noatime);
	for (let attempt = 0; fd >= 0 && tryLock(fd, true) < 0 && attempt < LOCK_ATTEMPTS_MAX; attempt++)
		Atomics.wait(sleeper, 0, 0, LOCK_RETRY_MS);
	return { close: () => (fd >= 0 ? close(fd) : undefined) };
}

/** Notes that a server has the set now, and which tree it is. */
export function noteServed(set: ChangeSet, tree: TreeIdentity): void {
	note(set, { tree, served: new Date().toISOString() });
}

/** Notes the tree that the set has from now on. */
export function noteTree(set: ChangeSet, tree: TreeIdentity): void {
	note(set, { tree });
}

/** A copy of a set has a name of its own, and is not what its tree is served with by default. */
export function noteForked(set: ChangeSet): void {
	if (set.record !== null) note(set, { tree: set.record.tree, isDefault: false });
}

function note(set: ChangeSet, changed: Partial<SetRecord> & Pick<SetRecord, "tree">): void {
	const before = set.record ?? { made: new Date().toISOString(), served: null, isDefault: true, isEphemeral: false };
	const { made, served, isDefault, isEphemeral, tree } = { ...before, ...changed };
	writeRecord(set.folder, { tree, made, served, isDefault, isEphemeral });
	writeReadme(set.folder, set.name, tree.path);
}

/** Takes a new set away again that could not be served; what was put into it stays, and the set with it. */
export function undoMaking(set: ChangeSet): void {
	if (pathExists(set.upper) || pathExists(set.work)) return;
	for (const name of [RECORD_FILE, README_FILE]) rmSync(join(set.folder, name), { force: true });
	try {
		rmdirSync(set.folder);
	} catch {
		// somebody has put something there
	}
}
