// Gives a copied upper an identity of its own.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { openDirectory, TRUSTED_XATTRS, USER_XATTRS } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { whyNot } from "../../linux/errno.ts";
import { close } from "../../linux/open.ts";
import { getXattr, setXattr } from "../../linux/xattr.ts";
import { workOf } from "../opening/export-paths.ts";
import { lockUpper, type UpperLock } from "../opening/upper-lock.ts";
import { newSecrets, type Registry, readRegistry, writeRegistry } from "../work/registry.ts";

/** Files that belong to the identity of an export, or of the server that served it, and are of no use to another one: clients must never take two servers for one. */
const OWN_FILES = ["replies", "answers", "requests", "nfs4"];

/**
 * Gives a copied upper an identity of its own: an export id and keys, so that no handle of the original is taken for one of the copy. May be
 * run again after a crash. Null for now: a dry run, which only says whether it can be done. LayerError where it cannot.
 */
export function forkExport(
	upper: string,
	work: string | undefined,
	isDryRun = false,
): { readonly before: number; readonly now: number | null } {
	const folder = join(workOf(upper, work), "holdfast");
	const fd = openDirectory(upper, "upper");
	let lock: UpperLock | null = null;
	try {
		const registry = readRegistry(folder);
		if (registry === null) throw new LayerError(`Cannot fork ${upper}: it has not been served with the work folder of ${folder}.`);
		if (registry.handles !== "portable") {
			throw new LayerError(
				`Cannot fork ${upper}: its handles are the kernel's, which name inodes of the original and not of a copy. Run holdfast rebind on ` +
					"the original before it is copied, or begin with a fresh work folder (holdfast adopt).",
			);
		}
		if (!isDryRun) {
			lock = lockUpper({ path: upper, root: fd, folder }, "holdfast fork");
			lock.keepFile();
		}
		const { identity } = registry.userXattrs ? USER_XATTRS : TRUSTED_XATTRS;
		const mark = getXattr(fd, identity);
		const owner = typeof mark === "number" ? "" : mark.toString("hex");
		const isHalfDone = registry.forkedFrom !== undefined && owner === registry.forkedFrom;
		if (!isHalfDone && owner !== registry.uuid) throw new LayerError(`Cannot fork ${upper}: ${folder} belongs to another upper.`);
		if (isDryRun) return { before: registry.exportId, now: null };
		const forked: Registry = isHalfDone
			? registry
			: { ...registry, ...newSecrets(), cookieSecret: registry.cookieSecret, forkedFrom: registry.uuid };
		for (const name of OWN_FILES) rmSync(join(folder, name), { recursive: true, force: true });
		writeRegistry(folder, forked);
		const status = setXattr(fd, identity, Buffer.from(forked.uuid, "hex"));
		if (status < 0) throw new LayerError(`Cannot mark the upper ${upper}: ${whyNot(status, upper)}.`);
		return { before: registry.exportId, now: forked.exportId };
	} finally {
		lock?.close();
		close(fd);
	}
}
