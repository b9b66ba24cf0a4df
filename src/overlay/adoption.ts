import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Layer } from "../layer/layer.ts";
import type { Real } from "../layer/real.ts";
import { visitEntries } from "../linux/directory.ts";
import { ERRNO } from "../linux/errno.ts";
import { type FileHandle, openByHandle } from "../linux/file-handle.ts";
import { makeSymlink, readLink, renameName, unlinkName } from "../linux/names.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { getXattr } from "../linux/xattr.ts";
import { type Engine, must } from "./engine.ts";
import { OverlayError } from "./errors.ts";
import { decodeRecord, encodeRecord } from "./identity.ts";
import { findInReals } from "./lookup.ts";
import { FileType } from "./types.ts";

const FOLDER = "redirects";

/**
 * The reverse of the redirects in lowers that once were uppers: from a lower directory to the one that takes it along. Each is a
 * symlink named by the record of the first, whose target is the record of the second; made once, by adoption, never in the lower.
 */
export class Redirects {
	readonly #fd: number;

	constructor(folder: string) {
		mkdirSync(join(folder, FOLDER), { recursive: true, mode: 0o700 });
		this.#fd = must(openPath(join(folder, FOLDER), O.rdonly | O.directory), "Cannot open the redirects of the lowers");
	}

	/** The record of the directory that redirects to the one of this record, or null. */
	get(record: string): Buffer | null {
		const value = readLink(this.#fd, record);
		return value === null ? null : Buffer.from(value.toString("latin1"), "hex");
	}

	set(record: string, by: Buffer): void {
		const aside = `${record}.new`;
		if (makeSymlink(by.toString("hex"), this.#fd, aside) === -ERRNO.EEXIST) {
			unlinkName(this.#fd, aside);
			must(makeSymlink(by.toString("hex"), this.#fd, aside), "Cannot write a redirect");
		}
		must(renameName(this.#fd, aside, this.#fd, record), "Cannot write a redirect");
	}

	close(): void {
		close(this.#fd);
	}
}

/** What an adoption has found. */
export interface AdoptionReport {
	readonly layer: string;
	readonly directories: number;
	readonly redirects: number;
	/** Directories that could not be adopted, and why; they and what is below them answer with an error. */
	readonly problems: readonly { readonly path: string; readonly reason: string }[];
}

/** Walks the directories of a lower that was an upper once, the delta alone, and notes where its redirects lead from. */
export function adoptLower(engine: Engine, redirects: Redirects, layer: Layer, progress: (directories: number) => void): AdoptionReport {
	const root = engine.layers.indexOf(layer);
	const walk: { readonly reals: readonly Real[]; readonly path: string }[] = [{ reals: engine.nodes.root.reals.slice(root), path: "" }];
	let directories = 0;
	let found = 0;
	const problems: { path: string; reason: string }[] = [];
	for (let at = walk.pop(); at !== undefined; at = walk.pop()) {
		directories++;
		progress(directories);
		engine.descriptors.trim();
		for (const name of subdirectories(engine, at.reals[0])) {
			const path = `${at.path}/${name.toString()}`;
			try {
				const reals = findInReals(engine, at.reals, name);
				if (reals === null || reals[0].layer !== layer) continue;
				if (reals.length > 1 && typeof getXattr(engine.descriptors.path(reals[0]), engine.xattr.redirect) !== "number") {
					redirects.set(recordOf(reals[1]).toString("hex"), recordOf(reals[0]));
					found++;
				}
				walk.push({ reals, path });
			} catch (error) {
				if (!(error instanceof OverlayError)) throw error;
				problems.push({ path, reason: error.message });
			}
		}
	}
	return { layer: layer.path, directories, redirects: found, problems };
}

function recordOf(real: Real): Buffer {
	return encodeRecord(real.layer.fileSystem.uuid, real.handle, false);
}

function subdirectories(engine: Engine, real: Real): Buffer[] {
	const fd = must(openAt(engine.descriptors.path(real), ".", O.rdonly | O.directory), "Cannot open a directory");
	const names: Buffer[] = [];
	const status = visitEntries(fd, (name, type) => {
		if (type === FileType.dir || type === 0) names.push(Buffer.from(name));
		return undefined;
	});
	close(fd);
	must(status, "Cannot read a directory");
	return names;
}

/** Opens the directory of a lower that takes another one along, and says which home it is of; null when none does. */
export function redirectingDirectory(engine: Engine, record: string): { readonly fd: number; readonly home: number } | null {
	const value = engine.redirects?.get(record) ?? null;
	if (value === null) return null;
	for (const home of engine.homes.values()) {
		const handle: FileHandle | null = home.isUpper ? null : decodeRecord(value, home.uuid);
		if (handle === null) continue;
		const fd = openByHandle(home.layers[0].root, handle, O.path);
		return fd < 0 ? null : { fd, home: home.number };
	}
	return null;
}
