import { allocate } from "../../src/linux/memory.ts";
import { adoptLowers } from "../../src/overlay/opening/former-uppers.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { OpenedOverlay } from "../../src/overlay/opening/opened-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { type ReleaseReport, release } from "../../src/overlay/upkeep/release.ts";
import { OverlayError, type OverlayErrorCode, Pending } from "../../src/vfs/errors.ts";
import { type Attributes, type Credentials, FileType, type OverlayObject } from "../../src/vfs/operations.ts";
import { keyed, keyOf } from "../in-process/keyed.ts";
import { workInline } from "./inline-offload.ts";
import type { Model } from "./model.ts";
import { digest, type Observed, showTime, showXattrs, TYPE_NAMES } from "./observed.ts";
import type { HoldfastOptions, LayerPaths } from "./rig.ts";
import { type Change, isOn, type Operation, type Path, type Scenario, XATTR_VALUES } from "./scenario.ts";

const ROOT: Credentials = { uid: 0, gid: 0, gids: [] };
const buffer = allocate(256 * 1024);

export interface ObservedWithHandle extends Observed {
	readonly handle: string;
}

export interface Outcome {
	/** "ok", with what was read, or the name of the error. */
	readonly result: string;
	/** The object that an operation that makes one has answered. */
	readonly made: { readonly handle: Buffer; readonly fileid: string; readonly type: string } | null;
}

/** Where the kernel's name is not that of the code. */
const ERROR_NAMES: Partial<Record<OverlayErrorCode, string>> = { noattr: "ENODATA", notsupp: "EOPNOTSUPP" };

function nameOf(code: OverlayErrorCode): string {
	return ERROR_NAMES[code] ?? `E${code.toUpperCase()}`;
}

function codeOf(name: string): OverlayErrorCode {
	const known = Object.entries(ERROR_NAMES).find(([, known]) => known === name);
	return (known === undefined ? name.slice(1).toLowerCase() : known[0]) as OverlayErrorCode;
}

const EMPTY = Buffer.alloc(0);
const bytesOf = (name: string) => Buffer.from(name, "latin1");

export function fileidOf(attributes: Attributes): string {
	return `${attributes.fileidHi}:${attributes.fileidLo}`;
}

/** Holdfast on a set of layers, driven as its server does: every step begins with handles, and is run again after `Pending`. */
export class HoldfastOverlay {
	readonly #paths: LayerPaths;
	readonly #scenario: Scenario;
	readonly #options: HoldfastOptions;
	#overlay: Overlay | null = null;
	/** What the last adoption could not do. */
	problems: readonly string[] = [];
	#xid = 0;
	/** The change that was asked for last, and its answer: sent again after a restart, as a client does that heard nothing. */
	#last: { readonly send: () => Promise<Buffer | null>; readonly result: string; readonly handle: Buffer | null } | null = null;

	constructor(paths: LayerPaths, scenario: Scenario, options: HoldfastOptions) {
		this.#paths = paths;
		this.#scenario = scenario;
		this.#options = options;
	}

	#openLayers(purpose: OpenOptions["purpose"]): OpenedOverlay {
		const { lowers, upper, work, state } = this.#paths;
		const { nodesMax, copiesInParts } = this.#scenario;
		const partialLimits = copiesInParts ? { bytesMin: 1, granuleBytes: 16, fills: false } : {};
		return openOverlay({ lowers, upper, work, stateFolder: state, isSync: false, purpose, nodesMax, ...this.#options, partialLimits });
	}

	#open(purpose: OpenOptions["purpose"]): Overlay {
		const { overlay, adopted } = this.#openLayers(purpose);
		if (adopted !== null) this.problems = adopted.problems.map(({ path, reason }) => `${path}: ${reason}`);
		return this.#scenario.usesThreads ? overlay : workInline(overlay);
	}

	open(): void {
		this.#overlay = this.#open("serve");
	}

	get isOpen(): boolean {
		return this.#overlay !== null;
	}

	/** As `holdfast adopt`, of layers that the kernel has made. */
	async adopt(): Promise<string[]> {
		const opened = this.#openLayers("adopt");
		try {
			const lowers = adoptLowers(opened);
			const reports = opened.adopted === null ? lowers : [opened.adopted, ...lowers];
			return reports.flatMap((report) => report.problems.map(({ path, reason }) => `${path}: ${reason}`));
		} finally {
			await opened.overlay.close();
		}
	}

	async close(): Promise<void> {
		const overlay = this.#overlay;
		this.#overlay = null;
		await overlay?.close();
	}

	/** As `holdfast release`, after close. Nothing is asked for again from then on. */
	async release(): Promise<ReleaseReport> {
		this.#last = null;
		return release(this.#open("release"), this.#paths.work, false);
	}

	get overlay(): Overlay {
		if (this.#overlay === null) throw new Error("closed");
		return this.#overlay;
	}

	get rootHandle(): Buffer {
		return this.overlay.root.handle;
	}

	async settle<T>(step: () => T): Promise<T> {
		for (let tries = 0; tries < 1000; tries++) {
			try {
				this.overlay.beginPass();
				return step();
			} catch (error) {
				if (!(error instanceof Pending)) throw error;
				await error.ready;
			}
		}
		throw new Error("an operation is pending for ever");
	}

	/** Result of a step, or its error by the name that errno gives it. */
	async outcome<T>(step: () => Promise<T>): Promise<T | string> {
		try {
			return await step();
		} catch (error) {
			if (error instanceof OverlayError) return nameOf(error.code);
			throw error;
		}
	}

	async #walk(path: Path): Promise<Buffer> {
		let handle = this.rootHandle;
		for (const name of path) {
			const from = handle;
			handle = await this.settle(() => {
				const child = this.overlay.lookup(this.overlay.decode(from), bytesOf(name), ROOT);
				if (child === null) throw new OverlayError("noent", "no such name");
				return child.handle;
			});
		}
		return handle;
	}

	/** The handle of a path: the one that the model remembers, or by a walk. */
	#resolve(path: Path, held: boolean, model: Model): Promise<Buffer> {
		const object = held ? model.at(path) : null;
		return object?.handle ? Promise.resolve(object.handle) : this.#walk(path);
	}

	async perform(operation: Operation, model: Model): Promise<Outcome> {
		if (!isOn(operation)) {
			await this.close();
			this.open();
			await this.#repeat();
			return { result: "ok", made: null };
		}
		let made: Outcome["made"] = null;
		const result = await this.outcome(async () => {
			const isNamed = ["create", "overwrite", "symlink", "fifo", "device", "mkdir", "rename", "exchange", "unlink", "rmdir"].includes(
				operation.kind,
			);
			const handle = await this.#resolve(isNamed ? operation.path.slice(0, -1) : operation.path, operation.held, model);
			const other = "to" in operation ? await this.#resolve(operation.to.slice(0, -1), operation.held, model) : handle;
			if (operation.kind === "read") return `ok ${digest(await this.#read(handle))}`;
			if (operation.kind === "readdir") return `ok ${(await this.list(handle)).map((entry) => entry.name).join(" ")}`;
			const node = await this.#send(operation, handle, other);
			if (node !== null) {
				made = await this.settle(() => {
					const object = this.overlay.decode(node);
					return { handle: object.handle, fileid: fileidOf(this.overlay.getattr(object)), type: TYPE_NAMES[object.type] };
				});
			}
			return "ok";
		});
		return { result, made };
	}

	/** Asks for a change, as a request of its own. WRITE is one that may be done twice. */
	async #send(operation: Change, handle: Buffer, other: Buffer): Promise<Buffer | null> {
		const xid = this.#xid++;
		const send = () =>
			this.settle(() => this.#step(keyed(this.overlay, operation.kind === "write" ? null : keyOf("test", xid)), operation, handle, other));
		this.#last = null;
		const answer = await this.outcome(send);
		const handled = typeof answer === "string" ? null : answer;
		if (operation.kind !== "write") this.#last = { send, result: typeof answer === "string" ? answer : "ok", handle: handled };
		if (typeof answer === "string") throw new OverlayError(codeOf(answer), "as answered");
		return answer;
	}

	async #repeat(): Promise<void> {
		if (this.#last === null) return;
		const { send, result, handle } = this.#last;
		const again = await this.outcome(send);
		const isSame = typeof again === "string" ? again === result : result === "ok" && Buffer.compare(again ?? EMPTY, handle ?? EMPTY) === 0;
		if (!isSame) {
			throw new Error(
				`a repeated request was answered ${typeof again === "string" ? again : "ok or with another handle"}, first ${result}`,
			);
		}
	}

	/** One synchronous pass; the handle of the object that it made, or null. */
	#step(overlay: Overlay, operation: Change, handle: Buffer, other: Buffer): Buffer | null {
		const object = overlay.decode(handle);
		const name = bytesOf(operation.path[operation.path.length - 1] ?? "");
		switch (operation.kind) {
			case "create":
				return overlay.create(object, name, ROOT, { mode: "guarded", attributes: { mode: operation.mode } }).object.handle;
			case "overwrite":
				return overlay.create(object, name, ROOT, { mode: "unchecked", attributes: { mode: operation.mode, size: 0 } }).object.handle;
			case "symlink":
				return overlay.symlink(object, name, ROOT, bytesOf(operation.target), {}).handle;
			case "fifo":
				return overlay.mknod(object, name, ROOT, FileType.fifo, 0, 0, { mode: operation.mode }).handle;
			case "device": {
				const { type, major, minor } = operation.device;
				return overlay.mknod(object, name, ROOT, FileType[type], major, minor, { mode: operation.mode }).handle;
			}
			case "mkdir":
				return overlay.mkdir(object, name, ROOT, { mode: operation.mode }).handle;
			case "write":
				overlay.write(object, ROOT, operation.offset, Buffer.alloc(operation.length, operation.byte));
				break;
			case "truncate":
				overlay.setattr(object, ROOT, { size: operation.size });
				break;
			case "link":
				overlay.link(object, overlay.decode(other), bytesOf(operation.to[operation.to.length - 1]), ROOT);
				break;
			case "rename":
				overlay.rename(object, name, overlay.decode(other), bytesOf(operation.to[operation.to.length - 1]), ROOT);
				break;
			case "exchange":
				overlay.exchange(object, name, overlay.decode(other), bytesOf(operation.to[operation.to.length - 1]), ROOT);
				break;
			case "setxattr":
				overlay.setxattr(object, ROOT, bytesOf(operation.name), XATTR_VALUES[operation.value], operation.mode);
				break;
			case "removexattr":
				overlay.removexattr(object, ROOT, bytesOf(operation.name));
				break;
			case "unlink":
				overlay.remove(object, name, ROOT);
				break;
			case "rmdir":
				overlay.rmdir(object, name, ROOT);
				break;
			case "chmod":
				overlay.setattr(object, ROOT, { mode: operation.mode });
				break;
			case "chown":
				overlay.setattr(object, ROOT, { uid: operation.uid, gid: operation.gid });
				break;
			case "utimes":
				overlay.setattr(object, ROOT, {
					atime: { sec: operation.seconds + 7, nsec: 0 },
					mtime: { sec: operation.seconds, nsec: 7 },
				});
				break;
			default:
				throw new Error(`no step: ${operation.kind}`);
		}
		return null;
	}

	async #read(handle: Buffer): Promise<Buffer> {
		const pieces: Buffer[] = [];
		for (let offset = 0; ; ) {
			const eof = await this.settle(() => {
				const { count, eof } = this.overlay.read(this.overlay.decode(handle), ROOT, offset, buffer.bytes.length, buffer, 0);
				pieces.push(Buffer.from(buffer.bytes.subarray(0, count)));
				offset += count;
				return eof;
			});
			if (eof) return Buffer.concat(pieces);
		}
	}

	/** Names (sorted) with what the listing says of them; a new request for every few entries. */
	async list(handle: Buffer): Promise<{ readonly name: string; readonly fileid: string; readonly handle: Buffer | null }[]> {
		const found: { readonly name: string; readonly fileid: string; readonly handle: Buffer | null }[] = [];
		let hi = 0;
		let lo = 2;
		for (let isMore = true; isMore; ) {
			const page = await this.settle(() => {
				const cursor = this.overlay.list(this.overlay.decode(handle), ROOT, hi, lo);
				const entries: typeof found = [];
				let end = { hi, lo };
				for (let i = 0; i < 3; i++) {
					if (!cursor.next()) return { entries, end, isMore: false };
					const fileid = cursor.fileid();
					const object = cursor.object();
					entries.push({
						name: Buffer.from(cursor.name).toString("latin1"),
						fileid: `${fileid.hi}:${fileid.lo}`,
						handle: object === null ? null : object.handle,
					});
					end = { hi: cursor.cookieHi, lo: cursor.cookieLo };
				}
				return { entries, end, isMore: true };
			});
			found.push(...page.entries);
			hi = page.end.hi;
			lo = page.end.lo;
			isMore = page.isMore;
		}
		return found.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
	}

	/** The whole tree, with handles; `onMistake` hears of whatever contradicts itself in it. */
	async observe(onMistake: (what: string) => void): Promise<Map<string, ObservedWithHandle>> {
		const tree = new Map<string, ObservedWithHandle>();
		const visit = async (handle: Buffer, path: string) => {
			const observed = await this.observeHandle(handle);
			tree.set(path, observed);
			if (observed.type !== "dir") return;
			const seen = new Set<string>();
			for (const entry of await this.list(handle)) {
				const childPath = path === "" ? entry.name : `${path}/${entry.name}`;
				if (seen.has(entry.name)) onMistake(`listed twice: ${childPath}`);
				seen.add(entry.name);
				const child = await this.settle(() => {
					const found = this.overlay.lookup(this.overlay.decode(handle), bytesOf(entry.name), ROOT);
					return found === null ? null : { handle: found.handle, fileid: fileidOf(this.overlay.getattr(found)) };
				});
				if (child === null) {
					onMistake(`listed, but look-up finds nothing: ${childPath}`);
					continue;
				}
				if (entry.handle === null) onMistake(`listed without an object: ${childPath}`);
				else if (!entry.handle.equals(child.handle)) onMistake(`the handle in the listing is not that of look-up: ${childPath}`);
				if (entry.fileid !== child.fileid) onMistake(`the file id in the listing is not that of getattr: ${childPath}`);
				await visit(child.handle, childPath);
			}
		};
		await visit(this.rootHandle, "");
		return tree;
	}

	#xattr(node: OverlayObject, name: Buffer): Buffer | string {
		try {
			return this.overlay.getxattr(node, ROOT, name);
		} catch (error) {
			if (error instanceof OverlayError) return nameOf(error.code);
			throw error;
		}
	}

	async observeHandle(handle: Buffer): Promise<ObservedWithHandle> {
		const content = await this.settle(() => this.overlay.decode(handle).type).then(async (type) => {
			if (type === FileType.reg) return digest(await this.#read(handle));
			if (type === FileType.lnk) return this.settle(() => this.overlay.readlink(this.overlay.decode(handle)).toString("latin1"));
			return "";
		});
		return this.settle(() => {
			const node = this.overlay.decode(handle);
			const attributes = this.overlay.getattr(node);
			const hasSize = attributes.type === FileType.reg || attributes.type === FileType.lnk;
			return {
				type: TYPE_NAMES[attributes.type],
				mode: attributes.mode.toString(8),
				owner: `${attributes.uid}:${attributes.gid}`,
				size: hasSize ? attributes.sizeHi * 0x100000000 + attributes.sizeLo : 0,
				content,
				mtime: showTime(attributes.mtime.sec, attributes.mtime.nsec),
				atime: showTime(attributes.atime.sec, attributes.atime.nsec),
				xattrs: showXattrs(this.overlay.listxattr(node, ROOT), (name) => this.#xattr(node, name)),
				rdev: `${attributes.rdevMajor}:${attributes.rdevMinor}`,
				nlink: attributes.nlink,
				object: fileidOf(attributes),
				handle: node.handle.toString("hex"),
			};
		});
	}
}
