// Records which files `holdfast rebase` has found changed, or unchanged, against what their attributes say.

import { whyNot } from "../linux/errno.ts";
import { makeSymlink } from "../linux/names.ts";
import { close, O, openPath } from "../linux/open.ts";
import { LayerError } from "./layer-error.ts";
import { CHECK_BYTES, HASH_BYTES } from "./portable-id.ts";
import { recordOrNone, seal } from "./sealed-record.ts";

const ROW = new RegExp(`^[0-9a-f]{${2 * CHECK_BYTES}}:[0-9a-f]{${2 * CHECK_BYTES}}$`);

/**
 * Files that a new image has changed without telling by their attributes, or has not changed though those say so: a folder with a symlink
 * for each, named by the first bytes of its id in hex, with what its id shows (4 bytes in hex) and the check that its attributes
 * give for a target. Where these are others again, the row says nothing.
 */
export class RebaseRows {
	readonly #fd: number;

	constructor(folder: string) {
		this.#fd = openPath(folder, O.rdonly | O.directory);
		if (this.#fd < 0) throw new LayerError(`Cannot open ${folder}: ${whyNot(this.#fd, folder)}.`);
	}

	/** What the id of a file shows whose attributes give this check. */
	shown(id: Buffer, check: Buffer): Buffer {
		const text = recordOrNone(this.#fd, id.toString("hex", 0, HASH_BYTES), (text) => ROW.test(text));
		if (text?.slice(2 * CHECK_BYTES + 1) !== check.toString("hex")) return check;
		return Buffer.from(text.slice(0, 2 * CHECK_BYTES), "hex");
	}

	/** Notes a row in a folder that is not in use yet. */
	add(id: Buffer, shown: Buffer, check: Buffer): void {
		const name = id.toString("hex", 0, HASH_BYTES);
		const status = makeSymlink(seal(name, Buffer.from(`${shown.toString("hex")}:${check.toString("hex")}`)), this.#fd, name);
		if (status < 0) throw new LayerError(`Cannot note a row of a rebase: ${whyNot(status)}.`);
	}

	close(): void {
		close(this.#fd);
	}
}
