// Layers that the kernel's overlayfs and holdfast work on in turn, in the process of a test.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { interceptChanges } from "../../src/linux/libc.ts";
import { allocate } from "../../src/linux/memory.ts";
import { adoptLowers } from "../../src/overlay/opening/former-uppers.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { OpenedOverlay } from "../../src/overlay/opening/opened-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { release } from "../../src/overlay/upkeep/release.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { FileType, type OverlayObject } from "../../src/vfs/operations.ts";
import { scratch } from "../support/scratch.ts";
import { ROOT, walk } from "./walk.ts";

export const bytes = (name: string): Buffer => Buffer.from(name);
export const buffer = allocate(64 * 1024);

export interface Seen {
	readonly handle: Buffer;
	/** Of a regular file. */
	readonly text: string;
	readonly links: number;
	readonly fileid: string;
}

/** Two lowers, an upper and its work folder on one file system, for the kernel and for holdfast in turn. */
export class Stand {
	readonly base: string;
	readonly lowers: string[];
	readonly upper: string;
	readonly work: string;
	readonly mounted: string;
	/** As holdfast takes them; a test may change it. */
	options: Partial<OpenOptions> = {};
	#opened: OpenedOverlay | null = null;
	#last: OpenedOverlay | null = null;

	constructor(t: TestContext, lowers: readonly Record<string, string>[]) {
		const made = scratch(t);
		t.after(() => this.close());
		this.base = made.mount("ext4", "layers");
		const folder = (name: string) => {
			mkdirSync(join(this.base, name));
			return join(this.base, name);
		};
		this.lowers = lowers.map((files, i) => {
			const lower = folder(`lower${i}`);
			for (const [path, text] of Object.entries(files)) {
				mkdirSync(dirname(join(lower, path)), { recursive: true });
				if (text.startsWith("= ")) linkSync(join(lower, text.slice(2)), join(lower, path));
				else writeFileSync(join(lower, path), text);
				utimesSync(join(lower, path), 1000, 1000);
			}
			return lower;
		});
		[this.upper, this.work, this.mounted] = ["upper", "work", "mounted"].map(folder);
	}

	/** Lets the kernel work on the layers; `act` gets the mounted tree. */
	kernel<T>(options: string, act: (tree: string) => T): T {
		const layers = `lowerdir=${this.lowers.join(":")},upperdir=${this.upper},workdir=${this.work}`;
		execFileSync("mount", ["-t", "overlay", "overlay", "-o", `${layers},${options}`, this.mounted], { stdio: "pipe" });
		try {
			return act(this.mounted);
		} finally {
			execFileSync("umount", [this.mounted]);
		}
	}

	open(purpose: OpenOptions["purpose"]): OpenedOverlay {
		const { lowers, upper, work, base } = this;
		this.#last = null;
		this.#last = openOverlay({ lowers, upper, work, stateFolder: join(base, "state"), isSync: false, purpose, ...this.options });
		return this.#last;
	}

	/** After a freeze at the end: what a process that dies gives back. */
	async abandon(): Promise<void> {
		const last = this.#last;
		this.#last = null;
		this.#opened = null;
		await last?.overlay.close();
	}

	async adopt(): Promise<{ readonly problems: string[]; readonly identities: number }> {
		const opened = this.open("adopt");
		try {
			const lowers = adoptLowers(opened);
			const reports = [...(opened.adopted === null ? [] : [opened.adopted]), ...lowers];
			return {
				problems: reports.flatMap(({ problems }) => problems.map(({ path, reason }) => `${path}: ${reason}`)),
				identities: opened.adopted?.identities ?? 0,
			};
		} finally {
			await opened.overlay.close();
		}
	}

	async close(): Promise<void> {
		const opened = this.#opened;
		this.#opened = null;
		await opened?.overlay.close();
	}

	async release(): Promise<void> {
		await this.close();
		await release(this.open("release").overlay, this.work, false);
	}

	async run<T>(act: (overlay: Overlay) => T): Promise<T> {
		this.#opened ??= this.open("serve");
		const { overlay } = this.#opened;
		return untilReady(() => act(overlay));
	}

	at(path: string): Promise<OverlayObject> {
		return this.run((overlay) => walk(overlay, path));
	}

	seen(handle: Buffer): Promise<Seen> {
		return this.run((overlay) => {
			const object = overlay.decode(handle);
			const { nlink, fileidHi, fileidLo } = overlay.getattr(object);
			let text = "";
			if (object.type === FileType.reg) {
				const { count } = overlay.read(object, ROOT, 0, buffer.bytes.length, buffer, 0);
				text = buffer.bytes.toString("utf8", 0, count);
			}
			return { handle: object.handle, text, links: object.type === FileType.dir ? 0 : nlink, fileid: `${fileidHi}:${fileidLo}` };
		});
	}

	/** Everything by its path. */
	async tree(): Promise<Map<string, Seen>> {
		const found = new Map<string, Seen>();
		const visit = async (handle: Buffer, path: string): Promise<void> => {
			found.set(path, await this.seen(handle));
			const below = await this.run((overlay) => {
				const directory = overlay.decode(handle);
				const entries: { readonly path: string; readonly handle: Buffer }[] = [];
				if (directory.type !== FileType.dir) return entries;
				const cursor = overlay.list(directory, ROOT, 0, 2);
				while (cursor.next()) {
					const object = cursor.object();
					const name = Buffer.from(cursor.name);
					assert.ok(object, `${path}/${name} is listed without an object`);
					const { fileidHi, fileidLo } = overlay.getattr(object);
					assert.deepEqual(cursor.fileid(), { hi: fileidHi, lo: fileidLo }, `file id of ${path}/${name}`);
					assert.deepEqual(overlay.lookup(directory, name, ROOT)?.handle, object.handle);
					entries.push({ path: `${path}/${name}`, handle: object.handle });
				}
				return entries;
			});
			for (const entry of below) await visit(entry.handle, entry.path);
		};
		await visit((await this.run((overlay) => overlay.root)).handle, "");
		found.delete("");
		return found;
	}

	/** "stale", or what the handle finds. */
	async outcome(handle: Buffer): Promise<Seen | "stale"> {
		try {
			return await this.seen(handle);
		} catch (error) {
			if (error instanceof OverlayError && error.code === "stale") return "stale";
			throw error;
		}
	}
}

/** By path: the text of a file, "" for a directory. */
export function kernelTree(top: string): Map<string, string> {
	const found = new Map<string, string>();
	for (const path of execFileSync("find", [top, "-mindepth", "1", "-printf", "%y%P\\n"], { encoding: "utf8" }).trim().split("\n")) {
		if (path === "") continue;
		const name = `/${path.slice(1)}`;
		found.set(name, path[0] === "f" ? readFileSync(top + name, "utf8") : "");
	}
	return found;
}

export const texts = (tree: ReadonlyMap<string, Seen>) => new Map([...tree].map(([path, { text }]) => [path, text]));
export const sorted = (tree: ReadonlyMap<string, string>) => [...tree].sort(([a], [b]) => (a < b ? -1 : 1));

export const LOWERS = [
	{ "d/only-top": "only-top", "d/both": "both of the top", "m/a": "a", "m/sub/x": "x", "links/1": "linked", "links/2": "= links/1" },
	{ "d/both": "both below", "d/only-below": "only-below", "m/b": "b", "m/sub/y": "y", "gone/1/2/f": "f", file: "file", other: "other" },
];

/** What somebody does to a tree that is made of LOWERS. */
export function useTree(tree: string, mayRenameDirectories: boolean): void {
	writeFileSync(join(tree, "d/only-top"), "changed");
	writeFileSync(join(tree, "d/new"), "new");
	renameSync(join(tree, "d/both"), join(tree, "renamed"));
	unlinkSync(join(tree, "other"));
	rmSync(join(tree, "gone"), { recursive: true });
	chmodSync(join(tree, "file"), 0o600);
	mkdirSync(join(tree, "gone"));
	writeFileSync(join(tree, "gone/here"), "again");
	linkSync(join(tree, "file"), join(tree, "d/second"));
	if (!mayRenameDirectories) return;
	renameSync(join(tree, "m"), join(tree, "moved"));
	renameSync(join(tree, "moved/sub"), join(tree, "d/sub"));
	writeFileSync(join(tree, "d/sub/x"), "x changed");
}

/** Freezes the process before each of the changing calls of `act`, then lets `check` go on with what there is. */
export async function atEachCall(
	stride: number,
	act: () => Promise<unknown>,
	abandon: () => Promise<void>,
	check: (call: number) => Promise<void>,
): Promise<number> {
	for (let stop = 1; ; stop += stride) {
		let count = 0;
		const frozen = new Error("frozen");
		interceptChanges(() => {
			if (++count >= stop) throw frozen;
		});
		let hasStopped = false;
		try {
			await act();
		} catch (error) {
			if (error !== frozen) throw error;
			hasStopped = true;
		} finally {
			interceptChanges(null);
		}
		if (hasStopped) await abandon();
		await check(stop);
		if (!hasStopped) return stop;
	}
}
