import { chmodSync, chownSync, linkSync, lstatSync, lutimesSync, mkdirSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import { PortableLower } from "../../src/layer/portable-lower.ts";
import { interceptChanges } from "../../src/linux/libc.ts";
import { close, O, openPath } from "../../src/linux/open.ts";
import { setXattr } from "../../src/linux/xattr.ts";
import type { Node } from "../../src/overlay/nodes/node.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import type { Credentials, OverlayObject, Timespec } from "../../src/vfs/operations.ts";
import { workInline } from "../differential/inline-offload.ts";
import { keyed, keyOf } from "../in-process/keyed.ts";
import { plant } from "../support/lower-tree.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";
import type { PowerDisk } from "./power-disk.ts";
import { observe, type Tree } from "./tree.ts";

export const ROOT: Credentials = { uid: 0, gid: 0, gids: [] };
export const bytes = (name: string) => Buffer.from(name);

/** The world stops: no call that changes the disk is made any more. */
export class CrashError extends Error {}

/** What a front end has at hand for one request: objects by the handles that they had before it. */
export interface Act {
	readonly overlay: Overlay;
	/** The object that had this path before. */
	at(path: string): Node;
	ctime(path: string): Timespec;
}

export type Run = (act: Act) => OverlayObject | null | undefined;

/** The lowers that all stages share: nothing may ever change in them. */
export class Lowers {
	readonly paths: readonly string[];
	readonly base: string;

	constructor(base: string) {
		this.base = base;
		const outside = join(base, "outside");
		mkdirSync(outside);
		const top = plant(join(base, "top"), {
			file: "the file",
			file2: "the other file",
			sym: { link: "file" },
			pipe: { node: ["p"] },
			"links/one": "three names",
			"d/in": "in",
			"d/sub/deep/leaf": "leaf",
			"d2/": "",
			"merged/both": "top both",
			"merged/top": "top",
			"merged/sub/s1": "s1",
			"empty/": "",
			"emptym/": "",
			copied: "copied",
			"cl/c1": "copied with three names",
			"two/a": "two names",
			"twoup/a": "copied with two names",
			white: "white",
			"whited/": "",
			over: "covered",
			"overd/x": "x",
			"mv/in": "in",
			"mv/sub/inner": "inner",
			"holes/h1": "h1",
			"holes2/h1": "h1",
			"cd/f": "f",
			"cd/g": "g",
		});
		const bottom = plant(join(base, "bottom"), {
			"merged/both": "bottom both",
			"merged/bottom": "bottom",
			"merged/sub/s2": "s2",
			"emptym/": "",
			"mv/below": "below",
			"holes/h2": "h2",
			"holes2/h2": "h2",
			underneath: "underneath",
		});
		for (const [from, to] of [
			["links/one", "links/two"],
			["cl/c1", "cl/c2"],
			["two/a", "two/b"],
			["twoup/a", "twoup/b"],
		]) {
			linkSync(join(top, from), join(top, to));
			if (!from.startsWith("two")) linkSync(join(top, from), join(outside, to.replace("/", "-")));
		}
		chmodSync(join(top, "file"), 0o640);
		chownSync(join(top, "file"), 1000, 1001);
		chmodSync(join(top, "links/one"), 0o604);
		for (const path of ["file", "d/sub/deep/leaf"]) {
			const fd = openPath(join(top, path), O.path);
			setXattr(fd, "user.lower", bytes("lower"));
			close(fd);
		}
		this.paths = [top, bottom];
		let second = 900_000_000;
		for (const path of [outside, top, bottom]) for (const [at] of walk(path).reverse()) lutimesSync(at, second, second++);
	}

	/** All of them, byte for byte, with attributes and numbers. */
	snapshot(): string[] {
		return this.paths.flatMap((path) => [...snapshotTree(path, { exact: true })].map(([name, line]) => `${path} ${name} ${line}`));
	}

	/** Numbers, link counts, sizes, owners, modes and times of all inodes: cheaper than `snapshot`. */
	inodes(): string {
		return this.paths
			.flatMap((path) => walk(path))
			.map(([at, stat]) => {
				const { ino, nlink, mode, uid, gid, size, mtimeNs, ctimeNs } = stat;
				return [at, ino, nlink, mode, uid, gid, size, mtimeNs, ctimeNs, stat.isSymbolicLink() ? readlinkSync(at) : ""].join(" ");
			})
			.join("\n");
	}
}

function walk(path: string): [string, ReturnType<typeof statOf>][] {
	const stat = statOf(path);
	const below = stat.isDirectory()
		? readdirSync(path)
				.sort()
				.flatMap((name) => walk(join(path, name)))
		: [];
	return [[path, stat], ...below];
}

const statOf = (path: string) => lstatSync(path, { bigint: true });

/** Where ids come from: kernel handles, portable ones, or these as an ordinary user keeps an upper, with owners and modes in xattrs. */
export type Keeping = "kernel" | "portable" | "ordinary";

/** How an overlay is opened for it. */
export function keptBy(keeping: Keeping): Pick<OpenOptions, "handles" | "linkNames" | "fakeRoot"> {
	return keeping === "kernel" ? {} : { handles: "portable", linkNames: true, fakeRoot: keeping === "ordinary" };
}

/** Upper and work over the lowers, for one run. Built through an overlay, request by request, as its clients would. */
export class Stage {
	readonly lowers: Lowers;
	readonly path: string;
	readonly upper: string;
	readonly work: string;
	/** Where upper and work lie, if it can lose its power. */
	readonly disk: PowerDisk | null;
	/** Whether all lower files count as large ones, which are copied up in parts. */
	readonly isPartial: boolean;
	readonly keeping: Keeping;
	/** What was held before a start is held until its front end says otherwise. */
	restoresHolds = false;
	#overlay: Overlay | null = null;
	/** Open before the overlay was. */
	#openBefore = new Set<string>();
	#xid = 0;

	constructor(lowers: Lowers, name: string, disk: PowerDisk | null = null, isPartial = false, keeping: Keeping = "kernel") {
		this.lowers = lowers;
		this.disk = disk;
		this.isPartial = isPartial;
		this.keeping = keeping;
		this.path = join(disk?.path ?? lowers.base, name);
		this.upper = join(this.path, "upper");
		this.work = join(this.path, "work");
		mkdirSync(this.upper, { recursive: true });
		// an overlay in this process has set the umask to 0
		chmodSync(this.upper, 0o755);
	}

	/** The index: portable ids lie in a folder of ours. */
	get index(): string {
		return join(this.work, this.keeping === "kernel" ? "index" : "holdfast/index");
	}

	/** Prefix of the overlay's own xattrs. */
	get prefix(): string {
		return this.keeping === "ordinary" ? "user.overlay." : "trusted.overlay.";
	}

	get overlay(): Overlay {
		if (this.#overlay === null) throw new Error("the overlay is not open");
		return this.#overlay;
	}

	get isOpen(): boolean {
		return this.#overlay !== null;
	}

	open(): Overlay {
		this.#openBefore = new Set(openDescriptors());
		const { paths } = this.lowers;
		const options = {
			lowers: paths,
			upper: this.upper,
			work: this.work,
			stateFolder: join(this.path, "state"),
			isSync: this.disk !== null,
			restoresHolds: this.restoresHolds,
			partialLimits: this.isPartial ? { bytesMin: 1, granuleBytes: 8, fills: false } : {},
			...keptBy(this.keeping),
		};
		this.#overlay = workInline(openOverlay({ ...options, purpose: "serve" }).overlay, this.disk !== null);
		return this.#overlay;
	}

	async close(): Promise<void> {
		await this.#overlay?.close();
		this.#overlay = null;
	}

	async restart(): Promise<Overlay> {
		await this.close();
		return this.open();
	}

	/** As a power failure leaves it: `isCommitted`, with all names and attributes of this moment, else with those of the last flush. */
	async cutPower(isCommitted: boolean): Promise<void> {
		const { overlay, disk } = this;
		this.#overlay = null;
		if (isCommitted) disk?.commit();
		disk?.cut();
		// only its descriptors matter now; every flush fails
		await overlay.close().catch(() => {});
		disk?.restore();
	}

	/** As a kill leaves it: descriptors and lock are gone, and nothing more reaches the disk. */
	abandon(): void {
		const { overlay } = this;
		this.#overlay = null;
		abandon(overlay);
		// of private mounts and of folders that only the overlay knows of
		for (const fd of openDescriptors()) {
			if (this.#openBefore.has(fd)) continue;
			const path = pathOfDescriptor(fd);
			if (path === "/" || path === "/ (deleted)" || path?.startsWith(this.path)) close(Number(fd));
		}
	}

	remove(): void {
		rmSync(this.path, { recursive: true });
	}

	/** Runs what may have to wait, from its start, until it is done. */
	async settle<T>(operation: () => T): Promise<T> {
		return untilReady(() => {
			this.overlay.beginPass();
			return operation();
		});
	}

	/** A request of its own of the client "before". */
	async change(run: Run): Promise<OverlayObject | null | undefined> {
		const key = keyOf("before", ++this.#xid);
		return this.settle(() => {
			const { overlay } = this;
			return run({
				overlay: keyed(overlay, key),
				at: (path) => this.find(path),
				ctime: (path) => overlay.getattr(this.find(path), false).ctime,
			});
		});
	}

	/** By its names. */
	find(path: string): Node {
		let node = this.overlay.root;
		for (const name of path.split("/").filter((part) => part !== "")) {
			const child = this.overlay.lookup(node, bytes(name), ROOT);
			if (child === null) throw new Error(`there is no ${path}`);
			node = child;
		}
		return node;
	}

	/** Files copied up, whiteouts, objects of upper alone and over others, a merged directory that has moved. */
	async build(): Promise<void> {
		this.open();
		const write = (path: string, text: string) => this.change(({ overlay, at }) => void overlay.write(at(path), ROOT, 0, bytes(text)));
		const remove = (path: string) => this.change(({ overlay, at }) => overlay.remove(at(parentOf(path)), nameOf(path), ROOT) as undefined);
		const rmdir = (path: string) => this.change(({ overlay, at }) => overlay.rmdir(at(parentOf(path)), nameOf(path), ROOT) as undefined);
		const mkdir = (path: string) =>
			this.change(({ overlay, at }) => overlay.mkdir(at(parentOf(path)), nameOf(path), ROOT, { mode: 0o755 }));
		const create = async (path: string) => {
			const how = { mode: "guarded", attributes: { mode: 0o644 } } as const;
			await this.change(({ overlay, at }) => overlay.create(at(parentOf(path)), nameOf(path), ROOT, how).object);
			await write(path, `contents of ${path}`);
		};
		await write("copied", "COPIED");
		await write("cl/c1", "COPIED");
		await write("twoup/a", "COPIED");
		await remove("white");
		await rmdir("whited");
		await remove("over");
		await create("over");
		await remove("overd/x");
		await rmdir("overd");
		await mkdir("overd");
		await this.change(({ overlay }) => overlay.rename(overlay.root, bytes("mv"), overlay.root, bytes("renamed"), ROOT) as undefined);
		for (const path of ["holes/h1", "holes/h2", "holes2/h1", "holes2/h2"]) await remove(path);
		for (const path of ["pure", "pure2", "u1", "merged/new"]) await create(path);
		await this.change(({ overlay, at }) => overlay.link(at("u1"), overlay.root, bytes("u2"), ROOT) as undefined);
		for (const path of ["pdir", "pempty"]) await mkdir(path);
		await create("pdir/pf");
		await this.change(({ overlay, at }) => overlay.symlink(at("pdir"), bytes("pl"), ROOT, bytes("pf"), {}));
		await write("cd/f", "F");
	}

	/** Times that no later change can have by chance, and that no request has set. */
	age(): void {
		let second = 1_000_000_000;
		for (const [at] of walk(this.upper).reverse()) lutimesSync(at, second, second++);
	}

	observe(isThorough = false): Promise<Tree> {
		return observe(this, isThorough);
	}
}

export function parentOf(path: string): string {
	return path.split("/").slice(0, -1).join("/");
}

export function nameOf(path: string): Buffer {
	return bytes(path.split("/").at(-1) as string);
}

/** Counts the calls that change the disk while `operation` runs; with a limit the world stops before the one of that number. */
export async function counting<T>(
	limit: number,
	operation: () => T | Promise<T>,
): Promise<{ readonly calls: string[]; readonly value: T }> {
	const calls: string[] = [];
	interceptChanges((name) => {
		if (calls.length >= limit) throw new CrashError(`before ${name}, call ${limit}`);
		calls.push(name);
	});
	try {
		const value = await operation();
		return { calls, value };
	} finally {
		interceptChanges(null);
	}
}

function openDescriptors(): string[] {
	return readdirSync("/proc/self/fd");
}

function pathOfDescriptor(fd: string): string | null {
	try {
		return readlinkSync(`/proc/self/fd/${fd}`);
	} catch {
		// the descriptor of the listing itself
		return null;
	}
}

/** Closes what an overlay has open, and has it write nothing more. */
export function abandon({ engine }: Overlay): void {
	void engine.freeing.close();
	engine.descriptors.dropAll();
	for (const layer of engine.layers) {
		layer.close();
		if (layer.handles instanceof PortableLower) layer.handles.links?.close();
	}
	engine.partials?.records.close();
	engine.writable?.work.close();
	engine.writable?.linkCounts.close();
	engine.writable?.journal.close();
	engine.writable?.ids?.close();
	if (engine.writable !== null) close(engine.writable.index.fd);
}
