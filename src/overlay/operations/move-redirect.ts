// The redirect of a directory that moves: where its parts in lowers are found from now on.

import { ROOT_HOME } from "../../handle/wire-handle.ts";
import { SEPARATOR } from "../../layer/path-search.ts";
import type { Real } from "../../layer/real.ts";
import { ERRNO } from "../../linux/errno.ts";
import { removeXattr, setXattr } from "../../linux/xattr.ts";
import { must } from "../../vfs/system-errors.ts";
import { isAbsolute } from "../format/redirect.ts";
import { redirectOf, type StackContext } from "../lookup/stack-search.ts";
import type { Node } from "../nodes/node.ts";

/** One side of a rename: a name in a directory, and what it leads to. */
export interface Entry {
	readonly directory: Node;
	readonly name: Uint8Array;
}

/** XATTR_SIZE_MAX of Linux. */
const XATTR_BYTES_MAX = 65536;
/** What the xattrs of every file system hold: where one this short does not fit, the disk is full. */
const SHORT_BYTES_MAX = 512;

/**
 * Says on the directory where its parts in lowers are, as the kernel does: by the name there if the parent stays, else by their path. Of any
 * length. `upwards`: the directory and all above it, the root last.
 */
export function setRedirect(engine: StackContext, from: Entry, to: Entry, source: Node, upwards: Iterable<Node>): void {
	const fd = engine.descriptors.path(source.top);
	const known = redirectOf(engine, source.top.layer, fd);
	source.stat = null;
	const staysInside = from.directory === to.directory;
	if (known !== null && (staysInside || isAbsolute(known))) return;
	const redirect = staysInside ? Buffer.from(from.name) : lowerPath(engine, upwards);
	// finding its path has read the old one
	source.top.redirect = undefined;
	const status = redirect.length > XATTR_BYTES_MAX ? -ERRNO.E2BIG : setXattr(fd, engine.xattr.redirect, redirect);
	if (redirect.length <= SHORT_BYTES_MAX || (status !== -ERRNO.ENOSPC && status !== -ERRNO.E2BIG && status !== -ERRNO.ERANGE)) {
		must(status, "Cannot set the redirect of a directory");
		return;
	}
	engine.writable?.longRedirects.set(source.top.handle, redirect);
	if (known !== null) must(removeXattr(fd, engine.xattr.redirect), "Cannot replace the redirect of a directory");
}

/** Of each directory of upper it is read once: a path may have many. */
function knownRedirect(engine: StackContext, real: Real): Buffer | null {
	if (real.redirect === undefined) real.redirect = redirectOf(engine, real.layer, engine.descriptors.path(real));
	return real.redirect;
}

/** The path, from the root of the lowers, under which the lower parts of a directory are found. */
function lowerPath(engine: StackContext, upwards: Iterable<Node>): Buffer {
	const parts: Buffer[] = [];
	for (const at of upwards) {
		if (at.home === ROOT_HOME) break;
		const redirect = at.isUpper ? knownRedirect(engine, at.top) : null;
		if (redirect !== null && isAbsolute(redirect)) {
			parts.push(redirect);
			break;
		}
		parts.push(redirect ?? (at.name as Buffer), SEPARATOR);
	}
	return Buffer.concat(parts.reverse());
}
