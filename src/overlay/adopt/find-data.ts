// Finds the data of a metacopy file by its path, as the kernel does.

import type { Layer } from "../../layer/layer.ts";
import type { Real } from "../../layer/real.ts";
import { ERRNO } from "../../linux/errno.ts";
import { close, O, openAt, openBeneath, RESOLVE } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { ifThere, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import type { Engine } from "../engine/engine.ts";
import { isAbsolute, redirectNames } from "../format/redirect.ts";
import { findInStack } from "../lookup/stack-search.ts";
import { realOf } from "../nodes/reals.ts";

/**
 * What a metacopy file takes its data from, by its path as the kernel does: `layer` is its own, `parents` are the parts of its
 * directory in the layers below, `fd` is the file. It may be a metacopy file again. Null when there is nothing.
 */
export function findData(engine: Engine, layer: Layer, parents: readonly Real[], name: Uint8Array, fd: number): Real | null {
	const redirect = xattrOrNone(fd, engine.xattr.redirect, "Cannot read where the data of a file is");
	if (redirect === null) return regular(findInStack(engine, parents, name));
	const names = redirectNames(redirect);
	if (!isAbsolute(redirect)) return regular(findInStack(engine, parents, names[0]));
	const roots = engine.nodes.root.reals.slice(engine.layers.indexOf(layer) + 1);
	return followPath(engine, roots, names) ?? inDataLayers(engine, names);
}

function regular(found: { readonly reals: readonly Real[]; readonly stat: Stat } | null): Real | null {
	return found !== null && found.stat.type === FileType.reg ? found.reals[0] : null;
}

function followPath(engine: Engine, roots: readonly Real[], names: readonly Buffer[]): Real | null {
	let parents = roots;
	for (const name of names.slice(0, -1)) {
		const found = findInStack(engine, parents, name);
		if (found === null || found.stat.type !== FileType.dir) return null;
		parents = found.reals;
	}
	return regular(findInStack(engine, parents, names[names.length - 1]));
}

function inDataLayers(engine: Engine, names: readonly Buffer[]): Real | null {
	const stat = new Stat();
	for (const layer of engine.dataFiles.layers) {
		let fd = must(openAt(layer.root, ".", O.path | O.directory), "Cannot open a data layer");
		for (const name of names) {
			if (fd < 0) break;
			const next = openBeneath(fd, name, O.path | O.nofollow, RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev);
			close(fd);
			fd = next;
		}
		// through a symlink or a mount it does not lead
		if (fd === -ERRNO.ELOOP || fd === -ERRNO.EXDEV || ifThere(fd, "Cannot open a file of a data layer") < 0) continue;
		try {
			must(fstat(fd, stat), "Cannot read a file of a data layer");
			if (stat.type === FileType.reg) return realOf(layer, fd, stat);
		} finally {
			close(fd);
		}
	}
	return null;
}
