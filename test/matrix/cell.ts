import { spawnSync } from "node:child_process";
import { chmodSync, lstatSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { TRUSTED_XATTRS, USER_XATTRS } from "../../src/layer/layer.ts";
import { close, O, openPath } from "../../src/linux/open.ts";
import { getXattr } from "../../src/linux/xattr.ts";
import { checkUpper } from "../../src/overlay/check/check.ts";
import { LISTING_LIMITS } from "../../src/overlay/listing/listing.ts";
import type { Node } from "../../src/overlay/nodes/node.ts";
import { adoptLowers } from "../../src/overlay/opening/former-uppers.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { flushFileSystem, Inconclusive } from "../crash/power-disk.ts";
import { type Keeping, keptBy, parentOf } from "../crash/stage.ts";
import { workInline } from "../differential/inline-offload.ts";
import { keyed, keyOf } from "../in-process/keyed.ts";
import { type Change, perform } from "./change.ts";
import { type CopyName, copyTree } from "./copies.ts";
import type { Event } from "./events.ts";
import { type Ground, inodesBelow } from "./ground.ts";
import type { Kind } from "./kinds.ts";
import { Model } from "./model.ts";
import { type Cookies, cookiesOf, observe, type Seen, seenBy, type Tree } from "./observe.ts";
import type { Errand, Order } from "./victim.ts";

/** The contract does not hold. */
export class Broken extends Error {}

export interface CellOptions {
	/** Answer only what is stable, and flush for it. */
	readonly isSync?: boolean;
	/** As little as can be stays in memory. */
	readonly isForgetful?: boolean;
	/** Whether `holdfast check` looks at it in the end. */
	readonly isChecked?: boolean;
	/** Instead of the event's own: with those that a first run found to be needed. */
	readonly changes?: readonly Change[];
}

/** Names are tried until a number comes again. */
const AGAIN_MAX = 500;

const VICTIM = join(import.meta.dirname, "victim.js");

let serial = 0;

/** An upper of its own over the shared lowers, an object of some kind in it whose handle is taken, and an event. */
export class Cell {
	readonly ground: Ground;
	readonly kind: Kind;
	readonly event: Event;
	readonly #options: CellOptions;
	readonly #name = `c${serial++}`;
	#overlay: Overlay | null = null;
	#changes: Change[];
	/** What must be seen before each change, and after the last one. */
	readonly #models: Model[] = [];
	#before: Tree = new Map();
	/** By the handle of the directory. */
	readonly #cookies = new Map<string, Cookies>();
	/** Handles of what changes have made, by the ids of the models. */
	readonly #made = new Map<string, string>();
	/** How many changes have been answered. */
	#answered = 0;
	/** Where a copy of the layers is served. */
	#elsewhere: string | null = null;
	#lowers: readonly string[] | null = null;

	constructor(ground: Ground, kind: Kind, event: Event, options: CellOptions) {
		this.ground = ground;
		this.kind = kind;
		this.event = event;
		this.#options = options;
		this.#changes = [...(options.changes ?? event.changes(kind, ground.stack))];
		mkdirSync(this.upper, { recursive: true });
		// an overlay in this process has set the umask to 0
		chmodSync(this.upper, 0o755);
	}

	get upper(): string {
		return join(this.#folder, "upper");
	}

	get work(): string {
		return join(this.#folder, "work");
	}

	/** Of upper, work and state. */
	get #folder(): string {
		return join(this.#elsewhere ?? this.ground.cells, this.#name);
	}

	/** All layers are copied to another file system; the originals are away meanwhile. */
	async moveBy(copy: CopyName, act: () => Promise<void>): Promise<void> {
		await this.close();
		const there = this.ground.place();
		try {
			mkdirSync(join(there, this.#name));
			copyTree(copy, this.#folder, join(there, this.#name));
			this.#lowers = this.ground.copyLowers(copy, there);
			this.#elsewhere = there;
			this.open();
			await act();
			await this.close();
			this.#check();
		} finally {
			await this.close();
			this.#elsewhere = null;
			this.#lowers = null;
			this.ground.remove(there);
		}
	}

	get overlay(): Overlay {
		if (this.#overlay === null) throw new Error("the overlay is not open");
		return this.#overlay;
	}

	get changes(): readonly Change[] {
		return this.#changes;
	}

	/** Changes that were answered so far. */
	get answered(): number {
		return this.#answered;
	}

	layers(purpose: OpenOptions["purpose"]): OpenOptions {
		const lowers = this.#lowers ?? this.ground.lowers;
		const { isSync = false, isForgetful = false } = this.#options;
		return {
			lowers,
			upper: this.upper,
			work: this.work,
			stateFolder: join(this.#folder, "state"),
			isSync,
			purpose,
			...keptBy(this.ground.stack.keeping),
			...(this.ground.stack.isPlain ? { fakeRoot: false } : {}),
			...(isForgetful ? { nodesMax: 1, descriptorsMax: 2, listingLimits: { ...LISTING_LIMITS, cacheBytes: 0, windowEntries: 2 } } : {}),
		};
	}

	open(): void {
		const { isSync = false } = this.#options;
		this.#overlay = workInline(openOverlay(this.layers("serve")).overlay, isSync);
	}

	async close(): Promise<void> {
		await this.#overlay?.close();
		this.#overlay = null;
	}

	async restart(): Promise<void> {
		await this.close();
		this.open();
	}

	/** As a kill leaves it: descriptors and lock are gone, and nothing more reaches the disk. */
	abandon(): void {
		// a name that keeps other servers away, and lies on no disk
		this.overlay.engine.writable?.ids?.close();
		this.#overlay = null;
		this.ground.closeDescriptors();
	}

	/** Another process does all changes, until it is killed before its call of that number. */
	async killProcess(calls: number): Promise<void> {
		await this.close();
		const errands = this.#changes.map((change, number): Errand => {
			const { path } = change;
			const to = "to" in change ? change.to : path;
			const model = this.#models[number];
			const known = [path, parentOf(path), to, parentOf(to)].filter((name) => model.paths.has(name));
			return { change, xid: xidOf(number), ids: Object.fromEntries(known.map((name) => [name, model.idAt(name)])), makes: madeBy(number) };
		});
		const order: Order = { layers: this.layers("serve"), errands, calls };
		const { signal, stdout, stderr } = spawnSync(process.execPath, [VICTIM, JSON.stringify(order)], { encoding: "utf8" });
		if (signal !== "SIGKILL") throw new Error(`the process that was to be killed ended by itself: ${stderr}`);
		const answers = stdout.split("\n").slice(0, -1);
		for (const [number, handle] of answers.entries()) if (handle !== "") this.#made.set(madeBy(number), handle);
		this.#answered = answers.length;
	}

	/** As a power failure leaves it. */
	async cutPower(isCommitted: boolean): Promise<void> {
		const { overlay } = this;
		const [disk] = this.ground.disks;
		this.#overlay = null;
		disk.cut(isCommitted);
		// only its descriptors matter now
		await overlay.close().catch(() => {});
		disk.restore();
	}

	/** Nothing that can be had again stays in memory. */
	forget(): void {
		const { overlay } = this;
		overlay.beginPass();
		overlay.beginPass();
		overlay.engine.descriptors.dropAll();
	}

	/** Makes the object, and takes the handles of all that is around it. */
	async begin(): Promise<void> {
		const { kind, ground } = this;
		if (ground.stack.hasRedirect) {
			const adopting = openOverlay(this.layers("adopt"));
			adoptLowers(adopting);
			await workInline(adopting.overlay).close();
		}
		this.open();
		for (const [i, change] of kind.prepare.entries()) {
			await this.#settle(() => {
				perform(keyed(this.overlay, keyOf("before", i)), change, (path) => this.#walk(path));
			});
		}
		if (this.#options.isSync) {
			await this.overlay.stable();
			flushFileSystem(ground.disks[0].path);
		}
		this.#before = await this.observe();
		this.#models.push(Model.of(this.#before, ground.stack.isPlain ? `${process.getuid?.()}:${process.getgid?.()}` : "0:0"));
		for (const [i, change] of this.#changes.entries()) this.#models.push(this.#models[i].after(change, madeBy(i)));
		for (const [path, { handle, type }] of this.#before) {
			if (type === "dir" && this.#isInside(path)) this.#cookies.set(handle, await this.#settle(() => cookiesOf(this.overlay, handle)));
		}
		if (!this.#before.has(kind.path)) throw new Error(`there is no ${kind.path}`);
	}

	/** The kind's own part of the tree. */
	#isInside(path: string): boolean {
		return path === "" || path.split("/")[0] === this.kind.top || path.split("/")[0] === "elsewhere";
	}

	/** Beside its own part, all that the root has is looked at where the root is the object. */
	#isSeen(path: string): boolean {
		return this.kind.path === "" || this.#isInside(path);
	}

	async #settle<T>(operation: () => T): Promise<T> {
		return untilReady(() => {
			this.overlay.beginPass();
			return operation();
		});
	}

	/** By its names. */
	#walk(path: string): Node {
		let node = this.overlay.root;
		for (const name of path.split("/").filter((part) => part !== "")) {
			const child = this.overlay.lookup(node, Buffer.from(name), { uid: 0, gid: 0, gids: [] });
			if (child === null) throw new Error(`there is no ${path}`);
			node = child;
		}
		return node;
	}

	observe(): Promise<Tree> {
		return observe(
			this.overlay,
			(step) => this.#settle(step),
			(path) => this.#isInside(path),
			(path) => this.#isSeen(path),
		);
	}

	/** One change by the handles that a client has, as often as it likes: from the second time on it is a repetition. Throws what it is answered. */
	async send(number: number): Promise<void> {
		const change = this.#changes[number];
		const model = this.#models[number];
		const at = (path: string) => {
			const id = model.idAt(path);
			return this.overlay.decode(Buffer.from(this.#made.get(id) ?? id, "hex"));
		};
		const { isSync = false } = this.#options;
		const handle = await this.#settle(() => {
			const object = perform(keyed(this.overlay, keyOf("client", xidOf(number))), change, at);
			return object === null ? null : object.handle.toString("hex");
		});
		if (handle !== null) this.#made.set(madeBy(number), handle);
		if (isSync) {
			if (change.does === "write") await this.overlay.commit(at(change.path));
			await this.overlay.stable();
		}
		this.#answered = Math.max(this.#answered, number + 1);
	}

	/** All that are not answered yet, `between` after each. Whatever an event needs more than its own changes is appended to them. */
	async sendRest(between: () => unknown = () => {}): Promise<void> {
		const isForced = this.event.again !== undefined && this.#options.changes === undefined;
		let former: string | null = null;
		for (let number = this.#answered; number < this.#changes.length; number++) {
			await this.send(number);
			await between();
			if (!isForced) continue;
			// of the copy up, or the only one
			if (number === 0) former = this.#inode(this.#models[0].idAt(this.kind.path));
			else if (number === this.#changes.length - 1 && this.#inode(madeBy(number)) !== former) this.#appendAgain();
		}
	}

	#appendAgain(): void {
		const number = this.#changes.length;
		if (number > AGAIN_MAX) throw new Inconclusive(`no inode number came again in ${AGAIN_MAX} tries: this shows nothing`);
		const change = this.event.again?.(this.kind, number) as Change;
		this.#changes.push({ ...change, path: `${change.path}${number}` });
		this.#models.push(this.#models[number].after(this.#changes[number], madeBy(number)));
	}

	/** The number of the inode in upper that an object has now. */
	#inode(id: string): string {
		const { top } = this.overlay.decode(Buffer.from(this.#made.get(id) ?? id, "hex"));
		if (!top.layer.isUpper) throw new Broken("it has no inode in upper: this shows nothing");
		return `${top.inoHi}:${top.inoLo}`;
	}

	/** The contract, where all changes have been made. */
	async check(): Promise<void> {
		const before = this.#disk();
		await this.checkAfter(this.#changes.length);
		if (this.#disk() !== before) throw new Broken("looking, listing and reading has changed upper or work");
		const { mark } = this.event;
		if (mark === undefined) return;
		const path = join(this.upper, mark.at(this.kind));
		const { keeping } = this.ground.stack;
		if (!(mark.is === "whiteout" ? isWhiteout(path, keeping) : isOpaque(path, keeping)))
			throw new Broken(`upper has no ${mark.is} there: this shows nothing`);
	}

	/** The contract after so many changes, or after one of two numbers of them, whichever it is. That number. */
	async checkAfter(...numbers: readonly number[]): Promise<number> {
		// by the handles alone, what is deepest first, before any look-up
		const found = new Map<string, Seen | string>();
		for (const id of [...this.#models[0].known.keys()].reverse()) found.set(id, await this.#fate(id));
		const tree = await this.observe();
		const outcomes = numbers.map((number) => ({ number, wrong: this.#judge(number, tree, found) }));
		const right = outcomes.find(({ wrong }) => wrong.length === 0);
		if (right === undefined) {
			const text = outcomes.map(({ number, wrong }) => `as after ${number} of ${this.#changes.length} changes:\n  ${wrong.join("\n  ")}`);
			throw new Broken(text.join("\n"));
		}
		await this.#checkCookies();
		return right.number;
	}

	async #fate(id: string): Promise<Seen | string> {
		try {
			return await this.#settle(() => seenBy(this.overlay, Buffer.from(id, "hex")));
		} catch (error) {
			if (error instanceof OverlayError) return error.code;
			throw error;
		}
	}

	#judge(number: number, tree: Tree, found: ReadonlyMap<string, Seen | string>): string[] {
		const model = this.#models[number];
		const wrong = model.differences(tree, this.#made);
		for (const [id, path] of model.known) {
			const fate = found.get(id) as Seen | string;
			const was = this.#before.get(path) as Seen;
			if (!model.has(id)) {
				if (fate !== "stale") wrong.push(`the handle of /${path}, which is gone, finds ${JSON.stringify(fate)}`);
			} else if (typeof fate === "string") wrong.push(`the handle of /${path} is ${fate}`);
			else if (fate.fileid !== was.fileid || fate.type !== was.type) wrong.push(`the handle of /${path} finds another object`);
		}
		return wrong;
	}

	/** A name that was there all the time has the cookie that it had, and from any cookie the listing goes on with those behind it. */
	async #checkCookies(): Promise<void> {
		for (const [handle, before] of this.#cookies) {
			if (typeof (await this.#fate(handle)) === "string") continue;
			const now = await this.#settle(() => cookiesOf(this.overlay, handle));
			for (const [name, cookie] of now) {
				if ((before.get(name) ?? cookie) !== cookie) throw new Broken(`the cookie of ${name} has changed`);
			}
			const [middle] = [...before.values()].slice(Math.floor((before.size - 1) / 2));
			if (middle === undefined) continue;
			const rest = await this.#settle(() => cookiesOf(this.overlay, handle, middle));
			const expected = [...now].filter(([, cookie]) => BigInt(cookie) > BigInt(middle)).map(([name]) => name);
			if ([...rest.keys()].join("/") !== expected.join("/"))
				throw new Broken(`a listing that goes on shows ${[...rest.keys()]} and not ${expected}`);
		}
	}

	/** All that promise H5 is about. */
	#disk(): string {
		return `${inodesBelow(this.upper)}\n${inodesBelow(this.work)}`;
	}

	/** Stops, lets `holdfast check` look, and removes everything. */
	async end(): Promise<void> {
		await this.close();
		try {
			if (this.#options.isChecked !== false) this.#check();
		} finally {
			this.remove();
		}
	}

	#check(): void {
		const { upper, work, ground } = this;
		const xattr = ground.stack.keeping === "ordinary" ? USER_XATTRS : TRUSTED_XATTRS;
		const { findings } = checkUpper({ lowers: this.#lowers ?? ground.lowers, upper, work, xattr, isRepair: false });
		if (findings.length === 0) return;
		throw new Broken(findings.map(({ kind, path, message }) => `holdfast check: ${kind}: ${path}: ${message}`).join("\n"));
	}

	remove(): void {
		rmSync(join(this.ground.cells, this.#name), { recursive: true, force: true });
	}
}

const xidOf = (number: number) => 1000 + number;
const madeBy = (number: number) => `made by change ${number}`;

function isWhiteout(path: string, keeping: Keeping): boolean {
	const stat = lstatSync(path);
	if (keeping !== "ordinary") return stat.isCharacterDevice() && stat.rdev === 0;
	return stat.isFile() && stat.size === 0 && xattrOf(path, "user.overlay.whiteout") !== null;
}

function isOpaque(path: string, keeping: Keeping): boolean {
	return xattrOf(path, keeping === "ordinary" ? "user.overlay.opaque" : "trusted.overlay.opaque") === "y";
}

function xattrOf(path: string, name: string): string | null {
	const fd = openPath(path, O.path | O.nofollow);
	const value = getXattr(fd, name);
	close(fd);
	return typeof value === "number" ? null : value.toString();
}
