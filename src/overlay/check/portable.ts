// The check of an export with portable handles: ids, and what leads from them to objects.

import { join } from "node:path";
import { closingAfter } from "../../collections/closing-after.ts";
import { type Layer, LayerOpener, openDirectory, USER_XATTRS } from "../../layer/layer.ts";
import { recordIn } from "../../layer/origin-record.ts";
import { keyOf, PortableUpper, UPPER_ROOT } from "../../layer/portable-upper.ts";
import { walkTree } from "../../layer/walk-tree.ts";
import { namesOf } from "../../linux/directory.ts";
import { ENODATA, ERRNO, EUCLEAN, whyNot } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { pathExists } from "../../linux/read-file.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { setXattr } from "../../linux/xattr.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { ifThere, isFound, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { versionIn } from "../format/base-version.ts";
import { decodeRecord } from "../format/identity.ts";
import { isWhiteoutInode } from "../format/whiteout.ts";
import { indexPath, workOf } from "../opening/export-paths.ts";
import { treeName } from "../opening/layer-names.ts";
import { refuseOthersWork } from "../opening/users-of-upper.ts";
import { type Registry, RegistryError, readRegistry } from "../work/registry.ts";
import type { CheckCounts } from "./context.ts";
import type { Finding, FindingKind } from "./findings.ts";
import { type CheckOptions, lockForCheck } from "./layers.ts";
import { BASE_DAMAGED, type DamagedRecord, damaged, damagedRecords } from "./records.ts";
import type { CheckReport } from "./report.ts";

/** Looks for what is wrong with the ids and the index of an export with portable handles. Null: it has kernel handles, or was never ours. */
export function checkPortable(options: CheckOptions): CheckReport | null {
	const work = workOf(options.upper, options.work);
	const folder = join(work, "holdfast");
	let registry: Registry | null;
	try {
		registry = readRegistry(folder);
	} catch (error) {
		if (!(error instanceof RegistryError)) throw error;
		return pathExists(join(folder, "ids")) ? unreadable(options.upper, work, error.message) : null;
	}
	if (registry?.handles !== "portable") return null;
	if (registry.userXattrs !== undefined && options.xattr !== USER_XATTRS) return checkPortable({ ...options, xattr: USER_XATTRS });
	if (options.isRepair) refuseOthersWork(options.upper, work);
	const opener = new LayerOpener(options.xattr, "portable");
	return closingAfter((keep) => {
		const lowers = options.lowers.map((path) => keep(opener.openLower(path)));
		const upper = keep(opener.openUpper(options.upper, openDirectory(options.upper, "upper")));
		const isLive = lockForCheck({ path: options.upper, root: upper.root, folder }, options.isRepair, keep);
		const check = new PortableCheck(options, registry, upper, lowers, folder);
		try {
			check.run(indexPath(work, true), registry);
		} finally {
			check.close();
		}
		return { upper: options.upper, work, state: "of holdfast", isLive, findings: check.findings, omitted: 0, counts: check.counts };
	});
}

/** Without a registry nothing can be said of handles. */
function unreadable(upper: string, work: string, message: string): CheckReport {
	const finding: Finding = {
		kind: "registry-unreadable",
		severity: "error",
		path: "work/holdfast/registry",
		message,
		repair: null,
		outcome: "found",
	};
	const counts = { directories: 0, files: 0, whiteouts: 0, indexEntries: 0, tombstones: 0, copiedUp: 0 };
	return { upper, work, state: "of holdfast", isLive: false, findings: [finding], omitted: 0, counts };
}

class PortableCheck {
	readonly findings: Finding[] = [];
	readonly counts: CheckCounts = { directories: 0, files: 0, whiteouts: 0, indexEntries: 0, tombstones: 0, copiedUp: 0 };
	readonly #options: CheckOptions;
	readonly #upper: Layer;
	readonly #lowers: readonly Layer[];
	readonly #own: number;
	readonly #ids: PortableUpper;
	readonly #homes: readonly Buffer[];
	#damaged: readonly DamagedRecord[] = [];

	constructor(options: CheckOptions, registry: Registry, upper: Layer, lowers: readonly Layer[], folder: string) {
		this.#options = options;
		this.#upper = upper;
		this.#lowers = lowers;
		this.#own = openPath(folder, O.rdonly | O.directory | O.noatime);
		this.#ids = new PortableUpper(upper.root, this.#own, upper.xattr, upper.fileSystem.name);
		this.#homes = registry.homes.map(({ uuid }) => Buffer.from(uuid, "hex"));
	}

	close(): void {
		this.#ids.close();
		close(this.#own);
	}

	run(index: string, registry: Registry): void {
		const mark = xattrOrNone(this.#upper.root, this.#upper.xattr.identity, "Cannot read the mark of upper");
		if (mark === null || mark.toString("hex") !== registry.uuid) {
			this.#add("error", "upper-differs", "upper", "The work folder belongs to another upper. Name the right --work.");
		}
		const isOther =
			registry.lowers.length !== this.#lowers.length || this.#lowers.some((lower, i) => treeName(lower) !== registry.lowers[i].root);
		if (isOther) {
			this.#add(
				"error",
				"lowers-differ",
				"work/holdfast/registry",
				"The lowers are not the lowers that this upper was served with, in that order. Name them, or put new ones in their place with holdfast rebase.",
			);
		}
		this.#damaged = damagedRecords(this.#own);
		this.#walk();
		for (const record of this.#damaged) {
			// of those the walk tells, where there is still such an object
			if (record.folder !== "directories" && record.folder !== "inodes")
				this.#add("error", "record-damaged", record.path, damaged(record.advice));
		}
		this.#examineIds();
		this.#examineIndex(index);
	}

	#add(
		severity: "error" | "note",
		kind: FindingKind,
		path: string,
		message: string,
		repair: string | null = null,
		fix?: () => number,
	): void {
		let outcome: Finding["outcome"] = "found";
		let failure: string | undefined;
		if (fix !== undefined && this.#options.isRepair) {
			const status = fix();
			outcome = status < 0 ? "failed" : "repaired";
			if (status < 0) failure = whyNot(status);
		}
		this.findings.push({ kind, severity, path, message, repair, outcome, ...(failure === undefined ? {} : { failure }) });
	}

	#walk(): void {
		const { whiteout, origin } = this.#upper.xattr;
		const stat = new Stat();
		const { root, path } = this.#upper;
		walkTree(
			{ root, path, isUpper: true, mayChange: true },
			UPPER_ROOT,
			(directory, name): FileHandle | null => {
				const above = directory.path.length === 0 ? "upper" : `upper/${showName(directory.path)}`;
				const fd = openListed(directory.fd, name, above);
				if (fd === null) return null;
				try {
					must(fstat(fd, stat), `Cannot read ${above}/${showName(name)}`);
					if (isWhiteoutInode(fd, stat, whiteout)) {
						this.counts.whiteouts++;
						return null;
					}
					const isDirectory = stat.type === FileType.dir;
					if (!isDirectory) this.counts.files++;
					const path = `${above}/${showName(name)}`;
					const value = xattrOrNone(fd, origin, `Cannot read ${path}`);
					if (value !== null) this.counts.copiedUp++;
					if (value !== null && versionIn(value) === "damaged") {
						const fix = () => setXattr(fd, origin, recordIn(value));
						this.#add("error", "base-damaged", path, BASE_DAMAGED, "removes what is recorded", fix);
					}
					const id = this.#examine(fd, path);
					if (isDirectory && id !== null) this.#examinePlace(fd, id, directory.state, name, path);
					return isDirectory ? (id ?? UPPER_ROOT) : null;
				} finally {
					close(fd);
				}
			},
			(directories) => {
				this.counts.directories = directories;
				this.#options.progress?.("upper", directories);
			},
		);
	}

	/** The id of an object of upper, or null. */
	#examine(fd: number, path: string): FileHandle | null {
		const id = this.#ids.of(fd);
		if (typeof id !== "number") return id;
		if (id === -EUCLEAN) {
			const message = "What is noted of the id of this object is damaged: no handle leads to it.";
			this.#add("error", "record-damaged", path, message, "notes its id, by the link that leads to it", () => this.#ids.noteAgain(fd));
			return null;
		}
		if (id !== -ENODATA) must(id, `Cannot read the id of ${path}`);
		const fix = () => (this.#ids.linkAgain(fd) === "lost" ? -ERRNO.ENOENT : 0);
		const carried = this.#ids.isCarried(fd);
		if (carried) {
			this.#add(
				"error",
				"id-not-linked",
				path,
				"The object has an id that does not lead back to it: the link was lost, or the object is a copy with its xattrs.",
				"links it again",
				fix,
			);
		} else {
			const message = "The object has no id: it was made behind the server's back, or its id was lost in a copy. No handle leads to it.";
			this.#add("error", "id-missing", path, message);
		}
		return null;
	}

	#examinePlace(fd: number, id: FileHandle, above: FileHandle, name: Buffer, path: string): void {
		const fix = () => this.#ids.place(id, above, name);
		if (this.#damaged.some((record) => record.folder === "directories" && record.name === keyOf(id))) {
			this.#add("error", "record-damaged", path, "What is noted of the place of this directory is damaged.", "notes its place", fix);
			return;
		}
		const found = this.#ids.open(id, O.path);
		// that of one above it is damaged
		if (found === -EUCLEAN) return;
		ifThere(found, `Cannot open ${path}`);
		const stat = new Stat();
		const other = new Stat();
		const leads = found >= 0 && fstat(found, other) === 0 && fstat(fd, stat) === 0 && stat.sameInode(other);
		if (found >= 0) close(found);
		if (leads) return;
		const message = "What is noted of the place of this directory leads elsewhere: it was moved behind the server's back, or copied.";
		this.#add("error", "id-place-wrong", path, message, "notes its place", fix);
	}

	#examineIds(): void {
		const folder = ifThere(openAt(this.#own, "ids", O.rdonly | O.directory | O.noatime), "Cannot open work/holdfast/ids");
		if (folder < 0) return;
		const stat = new Stat();
		for (const name of must(namesOf(folder), "Cannot read work/holdfast/ids")) {
			if (!isFound(statAt(folder, name, stat), "Cannot read work/holdfast/ids") || stat.nlink > 1) continue;
			const message = "Nothing but this link is left of an object: a crash, or a copy of upper alone, has left it.";
			this.#add("note", "id-left-over", `work/holdfast/ids/${showName(name)}`, message);
		}
		close(folder);
	}

	#examineIndex(path: string): void {
		const folder = ifThere(openPath(path, O.rdonly | O.directory | O.noatime), "Cannot open work/holdfast/index");
		if (folder < 0) {
			this.#add(
				"error",
				"index-upper-gone",
				"work/holdfast/index",
				"The index is not there: copied up objects are not found. Restore it from a backup.",
			);
			return;
		}
		const { whiteout, origin } = this.#upper.xattr;
		const stat = new Stat();
		for (const name of must(namesOf(folder), "Cannot read work/holdfast/index")) {
			this.#options.progress?.("index", ++this.counts.indexEntries);
			const text = name.toString("latin1");
			const shown = `work/holdfast/index/${showName(name)}`;
			const record = /^([0-9a-f]{2})+$/.test(text) ? Buffer.from(text, "hex") : null;
			if (record === null || !this.#homes.some((uuid) => decodeRecord(record, uuid) !== null)) {
				this.#add("error", "index-foreign", shown, "The entry is named for an object of none of these lowers.");
				continue;
			}
			const fd = openListed(folder, name, "work/holdfast/index");
			if (fd === null) continue;
			must(fstat(fd, stat), `Cannot read ${shown}`);
			if (isWhiteoutInode(fd, stat, whiteout)) this.counts.tombstones++;
			else if (stat.type === FileType.reg || stat.type === FileType.dir) {
				const value = xattrOrNone(fd, stat.type === FileType.dir ? this.#upper.xattr.upper : origin, `Cannot read ${shown}`);
				const isRight = value !== null && (stat.type === FileType.dir || recordIn(value).toString("hex") === text);
				if (!isRight)
					this.#add(
						"error",
						"index-names-another",
						shown,
						"The entry leads to an object that does not say that it was copied up from there.",
					);
			}
			close(fd);
		}
		close(folder);
	}
}

/** Opens a name that was listed in `path`; null: a server that runs has removed it meanwhile. */
function openListed(directory: number, name: Buffer, path: string): number | null {
	const fd = openAt(directory, name, O.path | O.nofollow);
	return fd === -ERRNO.ENOENT ? null : must(fd, `Cannot open ${path}/${showName(name)}`);
}
