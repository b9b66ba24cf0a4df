/**
 * A process that looks at an overlay for a test: everything by its path, everything by its handle after a restart with three objects in
 * memory, and changes of objects that somebody crafted. A process of its own, because what hangs hangs the whole of it.
 */

import { TRUSTED_XATTRS, USER_XATTRS } from "../../src/layer/layer.ts";
import { LayerError } from "../../src/layer/layer-error.ts";
import { allocate } from "../../src/linux/memory.ts";
import { checkUpper } from "../../src/overlay/check/check.ts";
import { adoptLowers } from "../../src/overlay/opening/former-uppers.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { OpenedOverlay } from "../../src/overlay/opening/opened-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { inPasses } from "../../src/overlay/operations/until-ready.ts";
import { RegistryError } from "../../src/overlay/work/registry.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { type Attributes, FileType, type OverlayObject } from "../../src/vfs/operations.ts";

export interface Examination {
	readonly options: Omit<OpenOptions, "purpose">;
	readonly isAdopted: boolean;
	/** Paths that are changed in every way, and then looked at no more. */
	readonly changed: readonly string[];
	/** No byte of this may come out. */
	readonly secret: string;
	/** Of handles that are tried after the restart; all without it. */
	readonly handlesMax?: number;
	/** `holdfast check` looks at it too, before and after the changes. */
	readonly isChecked?: boolean;
}

export interface Found {
	/** "dir", "reg CONTENT", "lnk TARGET", "fifo", … or "error CODE"; "none" for a name that is listed and not found. */
	readonly shows: string;
	readonly handle: string | null;
}

export interface ExaminationReport {
	/** The sentence with which a start was refused. */
	readonly refused: string | null;
	readonly problems: readonly string[];
	readonly before: readonly (readonly [path: string, found: Found])[];
	/** What each handle of `before` led to after a restart. */
	readonly byHandle: readonly (readonly [path: string, shows: string])[];
	/** "CHANGE PATH: ok" or an error code. */
	readonly changes: readonly string[];
	/** After the changes, and a further restart. */
	readonly after: readonly (readonly [path: string, found: Found])[];
	/** What `holdfast check` said before the changes: "KIND PATH", or "refused: SENTENCE". */
	readonly check: readonly string[];
	/** What must never be: exceptions that are no answer, attributes that no reply can hold, directories inside themselves, secrets. */
	readonly faults: readonly string[];
}

const ROOT = { uid: 0, gid: 0, gids: [] };
const CONTENT_SHOWN = 60;
const READ_BYTES = 64 * 1024;
const OBJECTS_MAX = 20_000;
const TYPE_NAMES = new Map<number, string>(Object.entries(FileType).map(([name, type]) => [type, name]));
const buffer = allocate(READ_BYTES);

class Examiner {
	readonly #examination: Examination;
	readonly faults: string[] = [];
	#opened: OpenedOverlay | null = null;

	constructor(examination: Examination) {
		this.#examination = examination;
	}

	async examine(): Promise<ExaminationReport> {
		const report = { refused: null as string | null, problems: [] as string[], changes: [] as string[] };
		let before: [string, Found][] = [];
		const byHandle: [string, string][] = [];
		let after: [string, Found][] = [];
		const check = this.#check();
		const { isAdopted, changed, handlesMax } = this.#examination;
		try {
			if (isAdopted) report.problems.push(...(await this.#adopt()));
			await this.#open({});
			before = await this.#walk();
			await this.#open({ nodesMax: 3, descriptorsMax: 16 });
			let handles = before.filter(([, { handle }]) => handle !== null).reverse();
			const step = handlesMax === undefined ? 1 : Math.max(1, Math.floor(handles.length / handlesMax));
			handles = handles.filter((_, i) => i % step === 0);
			for (const [path, { handle }] of handles) byHandle.push([path, await this.#showHandle(path, Buffer.from(handle as string, "hex"))]);
			for (const path of changed) report.changes.push(...(await this.#change(path)));
			if (changed.length > 0) {
				await this.#open({});
				after = await this.#walk();
			}
		} catch (error) {
			if (!isRefusal(error)) this.#fault("start", error);
			else report.refused = (error as Error).message;
		}
		await this.#close();
		this.#check();
		return { ...report, before, byHandle, after, check, faults: this.faults };
	}

	#check(): string[] {
		const { lowers, upper, work, userXattrs } = this.#examination.options;
		if (!this.#examination.isChecked || upper === undefined) return [];
		try {
			const { findings } = checkUpper({ lowers, upper, work, xattr: userXattrs ? USER_XATTRS : TRUSTED_XATTRS, isRepair: false });
			return findings.map(({ kind, path }) => `${kind} ${path}`);
		} catch (error) {
			if (isRefusal(error)) return [`refused: ${(error as Error).message}`];
			this.#fault("check", error);
			return [];
		}
	}

	#fault(what: string, error: unknown): void {
		this.faults.push(`${what}: ${error instanceof Error ? error.stack : String(error)}`);
	}

	async #close(): Promise<void> {
		const opened = this.#opened;
		this.#opened = null;
		await opened?.overlay.close();
	}

	async #open(bounds: Partial<OpenOptions>): Promise<void> {
		await this.#close();
		this.#opened = openOverlay({ ...this.#examination.options, ...bounds, purpose: "serve" });
	}

	async #adopt(): Promise<string[]> {
		const opened = openOverlay({ ...this.#examination.options, purpose: "adopt" });
		try {
			const reports = [...(opened.adopted === null ? [] : [opened.adopted]), ...adoptLowers(opened)];
			return reports.flatMap(({ problems }) => problems.map(({ path, reason }) => `${path}: ${reason}`));
		} finally {
			await opened.overlay.close();
		}
	}

	async #run<T>(act: (overlay: Overlay) => T): Promise<T> {
		const { overlay } = this.#opened as OpenedOverlay;
		return inPasses(overlay, () => act(overlay));
	}

	/** What `act` says, or the error that a client would be answered. */
	async #answer(what: string, act: (overlay: Overlay) => string): Promise<string> {
		try {
			return await this.#run((overlay) => {
				overlay.beginPass();
				return act(overlay);
			});
		} catch (error) {
			if (error instanceof OverlayError) return `error ${error.code}`;
			this.#fault(what, error);
			return "error fault";
		}
	}

	#show(what: string, overlay: Overlay, object: OverlayObject): string {
		const attributes = overlay.getattr(object);
		this.#checkAttributes(what, attributes);
		const type = TYPE_NAMES.get(object.type);
		if (object.type === FileType.lnk) return this.#clean(what, `lnk ${overlay.readlink(object).toString("latin1")}`, true);
		if (object.type !== FileType.reg) return `${type}`;
		const { count, eof } = overlay.read(object, ROOT, 0, READ_BYTES, buffer, 0);
		const text = buffer.bytes.toString("latin1", 0, count);
		const rest = eof ? null : overlay.read(object, ROOT, count, READ_BYTES, buffer, 0);
		if (rest?.count === 0 && !rest.eof)
			this.faults.push(`${what}: READ answers no bytes and no end of file, so that a client asks for ever`);
		return this.#clean(what, `reg ${text}`, false);
	}

	/** A symlink may name what it likes: it is the client who follows it. */
	#clean(what: string, text: string, mayNameSecret: boolean): string {
		if (!mayNameSecret && text.includes(this.#examination.secret)) this.faults.push(`${what} shows the secret`);
		return text.length > CONTENT_SHOWN ? `${text.slice(0, CONTENT_SHOWN)}… ${text.length}` : text;
	}

	#checkAttributes(what: string, attributes: Attributes): void {
		const { atime, mtime, ctime, type: _, ...numbers } = attributes;
		for (const [name, value] of Object.entries(numbers)) {
			const most = name === "blocks" ? Number.MAX_SAFE_INTEGER : 0xffffffff;
			if (!Number.isInteger(value) || value < 0 || value > most) this.faults.push(`${what}: attribute ${name} is ${value}`);
		}
		for (const time of [atime, mtime, ctime]) if (!(time.nsec >= 0 && time.nsec < 1e9)) this.faults.push(`${what}: time ${time.nsec}`);
	}

	async #showHandle(path: string, handle: Buffer): Promise<string> {
		return this.#answer(`handle of ${path}`, (overlay) => {
			const object = overlay.decode(handle);
			if (!object.handle.equals(handle)) this.faults.push(`the handle of ${path} leads to an object with another one`);
			return this.#show(`handle of ${path}`, overlay, object);
		});
	}

	async #walk(): Promise<[string, Found][]> {
		const found: [string, Found][] = [];
		const root = (await this.#run((overlay) => overlay.root.handle)).toString("hex");
		const left: { readonly path: string; readonly handle: string; readonly above: readonly string[] }[] = [
			{ path: "", handle: root, above: [] },
		];
		for (let at = left.pop(); at !== undefined; at = left.pop()) {
			const { path, handle, above } = at;
			if (found.length > OBJECTS_MAX) {
				this.faults.push(`a walk does not end: ${path}`);
				break;
			}
			const names = await this.#names(path, handle);
			for (const name of names) {
				const child = `${path}/${name.toString("latin1")}`;
				let childHandle: string | null = null;
				let isDirectory = false;
				const shows = await this.#answer(child, (overlay) => {
					const object = overlay.lookup(overlay.decode(Buffer.from(handle, "hex")), name, ROOT);
					if (object === null) return "none";
					childHandle = object.handle.toString("hex");
					isDirectory = object.type === FileType.dir;
					return this.#show(child, overlay, object);
				});
				found.push([child, { shows, handle: childHandle }]);
				if (!isDirectory || childHandle === null) continue;
				// only what is asked about again: a list of all above each of two thousand levels is long
				if (childHandle === handle || above.includes(childHandle)) {
					this.faults.push(`the directory ${child} is inside itself`);
					continue;
				}
				left.push({ path: child, handle: childHandle, above: above.length < 20 ? [...above, handle] : above });
			}
		}
		return found;
	}

	async #names(path: string, handle: string): Promise<Buffer[]> {
		const names: Buffer[] = [];
		await this.#answer(`list of ${path}`, (overlay) => {
			names.length = 0;
			const cursor = overlay.list(overlay.decode(Buffer.from(handle, "hex")), ROOT, 0, 2);
			while (cursor.next()) {
				const object = cursor.object();
				const { hi, lo } = cursor.fileid();
				if (!(hi >= 0 && hi <= 0x7fffffff + 0x80000000 && lo >= 0)) this.faults.push(`${path}: a file id of ${hi}:${lo}`);
				names.push(Buffer.from(cursor.name));
				if (object === null) continue;
				const attributes = overlay.getattr(object);
				this.#checkAttributes(path, attributes);
			}
			return "";
		});
		return names;
	}

	/** Everything that a client can do to one object, and to its name. */
	async #change(path: string): Promise<string[]> {
		const slash = path.lastIndexOf("/");
		const folder = path.slice(0, slash);
		let name = path.slice(slash + 1);
		const lines: string[] = [];
		const parentOf = (overlay: Overlay): OverlayObject => at(overlay, folder);
		const object = (overlay: Overlay): OverlayObject => at(overlay, `${folder}/${name}`);
		const change = async (what: string, act: (overlay: Overlay) => void): Promise<boolean> => {
			const answer = await this.#answer(`${what} ${path}`, (overlay) => {
				act(overlay);
				return "ok";
			});
			lines.push(`${what} ${path}: ${answer}`);
			return answer === "ok";
		};
		const bytes = (text: string) => Buffer.from(text, "latin1");
		await change("chmod", (overlay) => overlay.setattr(object(overlay), ROOT, { mode: 0o750 }));
		await change("write", (overlay) => overlay.write(object(overlay), ROOT, 0, bytes("W")));
		await change("truncate", (overlay) => overlay.setattr(object(overlay), ROOT, { size: 100 }));
		await change("mkdir-below", (overlay) => void overlay.mkdir(object(overlay), bytes("made-below"), ROOT, { mode: 0o755 }));
		await change("link", (overlay) => overlay.link(object(overlay), parentOf(overlay), bytes(`${name}-linked`), ROOT));
		const moved = `${name}-moved`;
		if (await change("rename", (overlay) => overlay.rename(parentOf(overlay), bytes(name), parentOf(overlay), bytes(moved), ROOT)))
			name = moved;
		await change("rename-into-itself", (overlay) => overlay.rename(parentOf(overlay), bytes(name), object(overlay), bytes("inside"), ROOT));
		await change("make-other", (overlay) => {
			const attributes = { mode: 0o700 };
			overlay.create(parentOf(overlay), bytes(`${name}-file`), ROOT, { mode: "unchecked", attributes }).object;
			overlay.mkdir(parentOf(overlay), bytes(`${name}-dir`), ROOT, attributes);
		});
		await change("rename-file-over", (overlay) =>
			overlay.rename(parentOf(overlay), bytes(`${name}-file`), parentOf(overlay), bytes(name), ROOT),
		);
		await change("rename-dir-over", (overlay) =>
			overlay.rename(parentOf(overlay), bytes(`${name}-dir`), parentOf(overlay), bytes(name), ROOT),
		);
		await change("remove", (overlay) => overlay.remove(parentOf(overlay), bytes(name), ROOT));
		await change("rmdir", (overlay) => overlay.rmdir(parentOf(overlay), bytes(name), ROOT));
		return lines;
	}
}

function at(overlay: Overlay, path: string): OverlayObject {
	let object: OverlayObject = overlay.root;
	for (const name of path.split("/").filter(Boolean)) {
		const next = overlay.lookup(object, Buffer.from(name, "latin1"), ROOT);
		if (next === null) throw new OverlayError("noent", "There is no such name");
		object = next;
	}
	return object;
}

function isRefusal(error: unknown): boolean {
	return error instanceof LayerError || error instanceof RegistryError || error instanceof OverlayError;
}

if (process.send !== undefined) {
	process.on("message", async (examination: Examination) => {
		process.send?.(await new Examiner(examination).examine());
	});
	process.on("disconnect", () => process.exit(0));
}
