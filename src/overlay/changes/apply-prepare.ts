// Prepares in the staging folder all that comes to a target, and says in which steps it gets there.

import { copyRanges } from "../../layer/copy-data.ts";
import { namesInPath } from "../../layer/path-search.ts";
import { cloneFile, truncateFile } from "../../linux/data.ts";
import { ERRNO } from "../../linux/errno.ts";
import { linkName, makeDirectory, makeFile, makeNode, makeSymlink } from "../../linux/names.ts";
import { close, duplicate, O, openAt } from "../../linux/open.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { must } from "../../vfs/system-errors.ts";
import { dataOfReal } from "../data/data-files.ts";
import { Walk } from "../engine/turns.ts";
import { nodeAt } from "../lookup/objects.ts";
import { statOf } from "../lookup/stat.ts";
import type { Node } from "../nodes/node.ts";
import { recordOf } from "../nodes/reals.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { above, type Look, type Planned } from "./apply-plan.ts";
import type { ApplyPlan, ApplyStep, Replaced } from "./apply-steps.ts";
import { partialNames } from "./change-list.ts";
import { linkTarget } from "./compare.ts";
import { attributesOf, giveAttributes, timesOf } from "./kept-attributes.ts";
import type { Target } from "./target.ts";

/** What the target cannot keep of an object. */
export interface Loss {
	readonly path: Buffer;
	readonly what: string;
}

export interface PrepareOptions {
	/** The staging folder, which lies in the root of the target. */
	readonly staging: number;
	/** What files replace is kept. */
	readonly keepsReplaced: boolean;
	/** Is asked between two parts of the work, and throws where it is to end. */
	readonly goOn: () => void;
	readonly lose: (loss: Loss) => void;
}

/** OverlayError: something cannot be read, or not be made in the target; what is in the staging folder then is of no use. */
export async function prepare(opened: OpenedOverlay, target: Target, look: Look, options: PrepareOptions): Promise<ApplyPlan> {
	const stage = new Stage(opened, target, look, options);
	const walk = new Walk();
	for (const [at, planned] of look.planned.entries()) {
		tellProgress("preparing", at, "changes");
		await stage.take(planned);
		await walk.pause();
		options.goOn();
	}
	return stage.plan();
}

const PIECE_BYTES = 64 * 1024 * 1024;

class Stage {
	readonly #opened: OpenedOverlay;
	readonly #target: Target;
	readonly #look: Look;
	readonly #options: PrepareOptions;
	readonly #first: ApplyStep[] = [];
	readonly #places: ApplyStep[] = [];
	readonly #removals: ApplyStep[] = [];
	readonly #attributes: ApplyStep[] = [];
	/** Of directories, by their paths. */
	readonly #directories = new Map<string, ApplyStep>();
	readonly #replaced: Replaced[] = [];
	/** By the group of an object with several names: the first of them. */
	readonly #staged = new Map<string, string>();
	readonly #placed: ReadonlySet<string>;
	/** Directories whose content changes. */
	readonly #touched = new Set<string>([""]);
	/** Beside a server: names of the records of files that it has copied up in part. */
	#partial: ReadonlySet<string> | null = null;
	#count = 0;

	constructor(opened: OpenedOverlay, target: Target, look: Look, options: PrepareOptions) {
		this.#opened = opened;
		this.#target = target;
		this.#look = look;
		this.#options = options;
		const placed = look.planned.filter(({ change }) => change.kind !== "removed");
		this.#placed = new Set(placed.map(({ change }) => change.path.toString("latin1")));
	}

	async plan(): Promise<ApplyPlan> {
		for (const path of this.#touched) await this.#keepTimes(path);
		const deepestFirst = (one: ApplyStep, other: ApplyStep) => (one.path < other.path ? 1 : -1);
		const steps = [
			...this.#first.sort(deepestFirst),
			...this.#places,
			...this.#removals.sort(deepestFirst),
			...this.#attributes,
			...[...this.#directories.values()].sort(deepestFirst),
		];
		const redirects = this.#look.planned
			.filter(({ change }) => change.kind === "renamed")
			.map(({ change }) => change.path.toString("latin1"));
		return { steps, replaced: this.#replaced, redirects };
	}

	async take(planned: Planned): Promise<void> {
		const { change, current } = planned;
		const path = change.path.toString("latin1");
		this.#touched.add(above(path));
		this.#touched.add(this.#look.moves.after(above(current)));
		if (change.kind === "removed") this.#remove(planned, path);
		else if (change.kind === "renamed" && this.#look.moves.source(path) !== null) await this.#rename(planned, path);
		else if (change.type === FileType.dir) await this.#directory(planned, path);
		else await this.#object(planned, path);
	}

	#remove({ current, seen }: Planned, path: string): void {
		if (seen === null) return;
		const name = this.#name("old");
		this.#replaced.push({ path: current, name });
		if (this.#placed.has(path)) this.#first.push({ do: "aside", path: current, name, seen });
		else this.#removals.push({ do: "aside", path, name, seen });
	}

	async #rename({ change, current, seen }: Planned, path: string): Promise<void> {
		if (seen === null) return;
		const name = this.#name("moved");
		this.#first.push({ do: "aside", path: current, name, seen });
		this.#places.push({ do: "place", path, name, seen: null });
		const kept = await this.#read(change.handle, (node) => attributesOf(this.#engine, node));
		this.#directories.set(path, { do: "attributes", path, type: FileType.dir, kept });
	}

	async #directory({ change, current, seen }: Planned, path: string): Promise<void> {
		const kept = await this.#read(change.handle, (node) => attributesOf(this.#engine, node));
		this.#directories.set(path, { do: "attributes", path, type: FileType.dir, kept });
		if (seen?.type === FileType.dir) return;
		if (seen !== null) this.#putAside(current, seen);
		const name = this.#name("new");
		must(makeDirectory(this.#options.staging, name, 0o700), `Cannot make ${showName(change.path)}`);
		this.#places.push({ do: "place", path, name, seen: null });
	}

	async #object(planned: Planned, path: string): Promise<void> {
		const { change, current, seen, isLinked } = planned;
		// further names that are no names of the object must not change with it
		const isApart = isLinked && change.group === null;
		if (change.kind === "metadata" && seen?.type === change.type && !isApart) {
			const kept = await this.#read(change.handle, (node) => attributesOf(this.#engine, node));
			this.#attributes.push({ do: "attributes", path, type: change.type, kept });
			return;
		}
		const name = await this.#make(planned);
		if (seen === null) this.#places.push({ do: "place", path, name, seen: null });
		else if (seen.type === FileType.dir || !this.#keepReplaced(current)) {
			this.#putAside(current, seen);
			this.#places.push({ do: "place", path, name, seen: null });
		} else this.#places.push({ do: "place", path, name, seen });
	}

	#putAside(current: string, seen: NonNullable<Planned["seen"]>): void {
		const name = this.#name("old");
		this.#first.push({ do: "aside", path: current, name, seen });
		this.#replaced.push({ path: current, name });
	}

	/** A further name for what is to be replaced, where it is to be kept. False: the target has no hard links. */
	#keepReplaced(current: string): boolean {
		if (!this.#options.keepsReplaced) return true;
		const name = this.#name("old");
		const at = this.#target.at(Buffer.from(current, "latin1"));
		if (typeof at === "number" || linkName(at.directory, at.name, this.#options.staging, name) < 0) return false;
		this.#replaced.push({ path: current, name });
		return true;
	}

	/** Makes an object other than a directory in the staging folder, or another name of one; its name there. */
	async #make({ change }: Planned): Promise<string> {
		const { group } = change;
		const first = group === null ? undefined : this.#staged.get(group);
		const name = this.#name("new");
		if (first !== undefined && this.#link(this.#options.staging, Buffer.from(first), name, change.path)) return name;
		const anchor = group === null ? undefined : this.#look.anchors.get(group);
		const before = anchor === undefined ? null : this.#look.moves.before(anchor);
		const at = before === null ? -ERRNO.ENOENT : this.#target.at(Buffer.from(before, "latin1"));
		if (typeof at !== "number" && this.#link(at.directory, at.name, name, change.path)) return name;
		await this.#copy(change.handle, change.path, name);
		if (group !== null) this.#staged.set(group, name);
		return name;
	}

	/** False: the target has no such links, and the object is copied. */
	#link(directory: number, from: Buffer, name: string, path: Buffer): boolean {
		const status = linkName(directory, from, this.#options.staging, name);
		if (status === 0) return true;
		if (status !== -ERRNO.EPERM && status !== -ERRNO.EOPNOTSUPP && status !== -ERRNO.EMLINK && status !== -ERRNO.ENOENT)
			must(status, `Cannot make a further name for ${showName(path)}`);
		if (status !== -ERRNO.ENOENT) this.#options.lose({ path, what: "hard link" });
		return false;
	}

	async #copy(handle: Buffer | null, path: Buffer, name: string): Promise<void> {
		const { staging } = this.#options;
		await this.#complete(handle, path);
		const what = await this.#read(handle, (node) => {
			const stat = statOf(this.#engine, node);
			const data = node.type === FileType.reg ? dataOfReal(this.#engine, node.top) : null;
			const fd = data === null ? -1 : must(duplicate(this.#engine.descriptors.data(data, false)), "Cannot open a file");
			const link = node.type === FileType.lnk ? linkTarget(this.#engine, node.top) : null;
			const { size, rdevMajor, rdevMinor } = stat;
			return { type: node.type, fd, link, size, rdevMajor, rdevMinor, kept: attributesOf(this.#engine, node) };
		});
		const attempt = `Cannot make ${showName(path)} in the target`;
		if (what.fd >= 0) {
			try {
				await this.#fill(must(makeFile(staging, name, 0o600), attempt), what.fd, what.size, attempt);
			} finally {
				close(what.fd);
			}
		} else if (what.link !== null) must(makeSymlink(what.link, staging, name), attempt);
		else must(makeNode(staging, name, (what.type << 12) | 0o600, what.rdevMajor, what.rdevMinor), attempt);
		const fd = must(openAt(staging, name, O.path | O.nofollow), attempt);
		try {
			must(
				giveAttributes(fd, what.kept, (lost) => this.#options.lose({ path, what: lost })),
				attempt,
			);
		} finally {
			close(fd);
		}
	}

	/** Gives a new file, which is closed then, the content of another: its extents where that can be, else a piece after the other. */
	async #fill(to: number, from: number, size: number, attempt: string): Promise<void> {
		try {
			const isCloned = cloneFile(from, to) === 0;
			must(truncateFile(to, size), attempt);
			const walk = new Walk();
			for (let at = 0; !isCloned && at < size; at += PIECE_BYTES) {
				must(copyRanges(from, to, [[at, Math.min(size, at + PIECE_BYTES)]]), attempt);
				tellProgress(attempt.replace("Cannot make", "copying"), Math.floor(at / (1024 * 1024)), "MiB");
				await walk.pause();
				this.#options.goOn();
			}
		} finally {
			close(to);
		}
	}

	/** A file that was copied up in part has the rest of its data in the lower. */
	async #complete(handle: Buffer | null, path: Buffer): Promise<void> {
		const { partials } = this.#engine;
		if (partials === null) {
			this.#partial ??= partialNames(this.#opened);
			const isPartial = await this.#read(handle, (node) => this.#partial?.has(recordOf(node.top).toString("hex")));
			if (isPartial) throw new OverlayError("io", `The server has not copied up all of ${showName(path)} yet: try again later`);
			return;
		}
		const partial = await this.#read(handle, (node) => partials.of(node));
		tellProgress(`completing ${showName(path)}`, 0, "files");
		if (partial !== null) await partials.complete(partial);
	}

	async #keepTimes(path: string): Promise<void> {
		if (this.#directories.has(path)) return;
		const { overlay } = this.#opened;
		const step = await inPasses(overlay, (): ApplyStep | null => {
			const node = nodeAt(this.#engine, namesInPath(Buffer.from(path, "latin1")));
			if (node === null || node.type !== FileType.dir) return null;
			const stat = statOf(this.#engine, node);
			return { do: "times", path, mode: stat.mode & 0o7777, times: timesOf(stat) };
		});
		if (step !== null) this.#directories.set(path, step);
	}

	#read<T>(handle: Buffer | null, what: (node: Node) => T): Promise<T> {
		const { overlay } = this.#opened;
		if (handle === null) throw new OverlayError("stale", "The object has gone");
		return inPasses(overlay, () => {
			const read = what(overlay.decode(handle));
			overlay.engine.descriptors.trim();
			return read;
		});
	}

	get #engine() {
		return this.#opened.overlay.engine;
	}

	#name(kind: string): string {
		return `${kind}-${++this.#count}`;
	}
}
