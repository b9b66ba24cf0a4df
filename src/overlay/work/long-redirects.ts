// Redirects that are too long for an xattr, as files in work.

import { lstatSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { Layer } from "../../layer/layer.ts";
import { seal, unseal } from "../../layer/sealed-record.ts";
import { hasEntries } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { makeDirectory } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { readFileNamed } from "../../linux/read-file.ts";
import { tellDamage } from "../../vfs/damage.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { attempt, failed, must, ofSystem } from "../../vfs/system-errors.ts";

const FOLDER = "long-redirects";
/** Deeper trees than anyone has. */
const REDIRECT_BYTES_MAX = 16 * 1024 * 1024;

/** The redirect that a file of them holds; OverlayError for a damaged one. */
export function redirectIn(path: string, kept: Buffer): Buffer {
	const redirect = unseal(basename(path), kept);
	if (redirect === null || redirect[0] !== 0x2f) {
		const what = `The redirect in ${path} is damaged`;
		tellDamage(() => `${what}, and its directory is not answered. Stop the server, and run holdfast check`);
		throw new OverlayError("io", what);
	}
	return redirect;
}

/**
 * Redirects too long for an xattr of upper's file system (ext4 ends below 4 KiB): a file for each in `work/holdfast`, named by the
 * kernel handle of the upper directory. Its generation number keeps a later directory of the same inode number from taking one over.
 */
export class LongRedirects {
	readonly #path: string;
	readonly #upper: Layer;
	#hasAny: boolean;

	constructor(own: number, ownPath: string, upper: Layer) {
		this.#upper = upper;
		const status = makeDirectory(own, FOLDER, 0o700);
		if (status !== -ERRNO.EEXIST) must(status, "Cannot make the folder of long redirects");
		this.#path = join(ownPath, FOLDER);
		const folder = must(openAt(own, FOLDER, O.rdonly | O.directory), "Cannot open the folder of long redirects");
		const found = hasEntries(folder);
		close(folder);
		this.#hasAny = must(found, "Cannot read the folder of long redirects") === 1;
	}

	/** Whether some directory has one: if none has, look-ups need not ask. */
	get hasAny(): boolean {
		return this.#hasAny;
	}

	/** The redirect of the upper directory behind a descriptor, or null. */
	get(fd: number): Buffer | null {
		if (!this.#hasAny) return null;
		const handle = this.#upper.handles.of(fd);
		if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
		const path = this.#file(handle);
		const stat = lstatSync(path, { throwIfNoEntry: false });
		if (stat === undefined) return null;
		if (!stat.isFile() || stat.size > REDIRECT_BYTES_MAX) throw new OverlayError("io", `${path} is no redirect`);
		return redirectIn(path, readFileNamed(path));
	}

	set(handle: FileHandle, redirect: Uint8Array): void {
		this.#hasAny = true;
		const path = this.#file(handle);
		const aside = `${path}.new`;
		try {
			// never into what a link there leads to
			rmSync(aside, { force: true });
			writeFileSync(aside, seal(basename(path), redirect), { mode: 0o600, flag: "wx", flush: true });
			renameSync(aside, path);
		} catch (error) {
			attempt(() => rmSync(aside, { force: true }));
			throw ofSystem(error);
		}
	}

	#file(handle: FileHandle): string {
		return join(this.#path, `${handle.type}-${handle.bytes.toString("hex")}`);
	}
}
