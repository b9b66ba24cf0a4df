// MOUNTPROC3_MNT: from the path of an export, or below it, to a file handle.

import type { Export } from "../exports/export.ts";
import { credentialsOf, type Exports } from "../exports/exports.ts";
import type { Caller } from "../rpc/caller.ts";
import type { Procedure } from "../rpc/program.ts";
import { AuthFlavor } from "../rpc/rpc-message.ts";
import { OverlayError } from "../vfs/errors.ts";
import { FileType, type OverlayObject, SUPERUSER } from "../vfs/operations.ts";
import type { MountList } from "./mount-list.ts";
import { MNT3_OK, MOUNT_STATUS, PATH_BYTES_MAX } from "./protocol.ts";

/** A client may send a longer path, within reason, and gets its status. */
const SENT_BYTES_MAX = 64 * 1024;
const SLASH = 0x2f;

/** Clients that mount without saying who they are, as some do, may walk anywhere; what they then do is checked each time. */

/** RFC 1813 section 5.2.1. A path below an export's name is walked, as by its own look-ups of the caller's. */
export function mnt(exports: Exports, mounts: MountList): Procedure {
	return {
		name: "MNT",
		remembered: false,
		run(caller, args, reply) {
			const path = args.opaque(SENT_BYTES_MAX);
			const results = reply.length;
			try {
				const { served, directory } = walk(exports, path, caller);
				reply.u32(MNT3_OK);
				reply.opaque(directory.handle);
				reply.u32(served.flavors.length);
				for (const flavor of served.flavors) reply.u32(flavor);
			} catch (error) {
				if (!(error instanceof OverlayError)) throw error;
				reply.rewind(results);
				reply.u32(MOUNT_STATUS[error.code]);
				return;
			}
			mounts.add(caller.peer.address, Buffer.from(path).toString("latin1"));
		},
	};
}

function walk(exports: Exports, path: Uint8Array, caller: Caller): { readonly served: Export; readonly directory: OverlayObject } {
	if (path.length > PATH_BYTES_MAX) throw new OverlayError("nametoolong", `A path of ${path.length} bytes`);
	const found = exports.byPath(path);
	// libnfs names the root of an export by an empty path
	if (found === null || (path.length > 0 && path[0] !== SLASH)) throw new OverlayError("noent", "No export has this name");
	const { export: served, names } = found;
	const admitted = credentialsOf(exports.admission(served, caller));
	const who = caller.flavor === AuthFlavor.none ? SUPERUSER : admitted;
	served.overlay.beginPass();
	let directory = served.overlay.root;
	for (const name of names) {
		const next = served.overlay.lookup(directory, name, who);
		if (next === null) throw new OverlayError("noent", "The path does not exist");
		directory = next;
	}
	if (directory.type !== FileType.dir) throw new OverlayError("notdir", "The path is no directory");
	return { served, directory };
}
