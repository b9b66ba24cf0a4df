// Opens upper and work on one private mount, so that names can be moved between them and reading leaves no access times.

import { realpathSync, statSync } from "node:fs";
import { dirname, relative } from "node:path";
import { openDirectory, privateTree } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { whyNot } from "../../linux/errno.ts";
import { openPrivateTree } from "../../linux/file-system.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";

export interface SharedTree {
	/** A readable descriptor of a directory in it, by its path outside. LayerError. */
	open(path: string): number;
	close(): void;
}

export interface SharedTreeOptions {
	readonly isReadOnly: boolean;
	/** Without the privilege for a private mount the user's own is taken: an ordinary user makes none. */
	readonly isPrivateOnly: boolean;
}

/** Of the lowest folder that holds both: rename(2) does not leave a mount. LayerError. */
export function openSharedTree(upper: string, work: string, { isReadOnly, isPrivateOnly }: SharedTreeOptions): SharedTree {
	const [a, b] = [realpathSync(upper), realpathSync(work)];
	let base = a;
	while (base !== "/" && b !== base && !b.startsWith(`${base}/`)) base = dirname(base);
	const directory = openDirectory(base, "folder");
	let root = isPrivateOnly ? privateTree(directory, base, isReadOnly) : openPrivateTree(directory, isReadOnly);
	if (root < 0 && !isPrivateOnly) root = openAt(directory, ".", O.rdonly | O.directory);
	close(directory);
	if (root < 0) throw new LayerError(`Cannot make a private mount of ${base}: ${whyNot(root, base)}.`);
	return {
		open(path) {
			const inside = relative(base, realpathSync(path));
			const fd = openAt(root, inside === "" ? "." : inside, O.rdonly | O.directory);
			if (fd < 0) throw new LayerError(`Cannot open ${path}: ${whyNot(fd, path)}.`);
			const stat = new Stat();
			if (fstat(fd, stat) === 0 && String(stat.inoHi * 0x100000000 + stat.inoLo) === String(statSync(path).ino)) return fd;
			close(fd);
			throw new LayerError(`Cannot open ${path}: upper and work must be on the same file system and mount.`);
		},
		close: () => close(root),
	};
}
