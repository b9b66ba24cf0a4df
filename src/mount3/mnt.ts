// MOUNTPROC3_MNT: from the path of an export, or below it, to a file handle.

import type { Procedure } from "../rpc/program.ts";
import { AuthFlavor } from "../rpc/rpc-message.ts";
import { OverlayError } from "../vfs/errors.ts";
import { type Credentials, FileType, type OverlayObject, type OverlayOperations } from "../vfs/operations.ts";
import type { MountList } from "./mount-list.ts";
import { MNT3_OK, MOUNT_STATUS, PATH_BYTES_MAX } from "./protocol.ts";

/** An overlay and the path it is mounted by. */
export interface NamedOverlay {
	/** Absolute, such as "/" or "/golden". */
	readonly name: string;
	readonly overlay: OverlayOperations;
}

/** A client may send a longer path, within reason, and gets its status. */
const SENT_BYTES_MAX = 64 * 1024;
const SLASH = 0x2f;

/** Clients that mount without saying who they are, as some do, may walk anywhere; what they then do is checked each time. */
const SUPERUSER: Credentials = { uid: 0, gid: 0, gids: [] };

/** RFC 1813 section 5.2.1. A path below an export's name is walked, as by its own look-ups of the caller's. */
export function mnt(exports: readonly NamedOverlay[], mounts: MountList): Procedure {
	const named = exports.map(({ name, overlay }) => ({ components: components(Buffer.from(name)), overlay }));
	// The longest name first: "/a/b" before "/a" before "/".
	named.sort((a, b) => b.components.length - a.components.length);
	return {
		name: "MNT",
		remembered: false,
		run(caller, args, reply) {
			const path = args.opaque(SENT_BYTES_MAX);
			const results = reply.length;
			try {
				const who = caller.flavor === AuthFlavor.none ? SUPERUSER : caller.credentials;
				const directory = walk(named, path, who);
				reply.u32(MNT3_OK);
				reply.opaque(directory.handle);
				reply.u32(2);
				reply.u64(AuthFlavor.sys, AuthFlavor.none);
			} catch (error) {
				if (!(error instanceof OverlayError)) throw error;
				reply.rewind(results);
				reply.u32(MOUNT_STATUS[error.code]);
				return;
			}
			mounts.add(caller.address, Buffer.from(path).toString("latin1"));
		},
	};
}

interface ExportRoot {
	readonly components: readonly Uint8Array[];
	readonly overlay: OverlayOperations;
}

function walk(exports: readonly ExportRoot[], path: Uint8Array, who: Credentials): OverlayObject {
	if (path.length > PATH_BYTES_MAX) throw new OverlayError("nametoolong", `A path of ${path.length} bytes`);
	const names = components(path);
	const found = exports.find((root) => root.components.every((name, index) => sameBytes(name, names[index])));
	// libnfs names the root of an export by an empty path
	if (found === undefined || (path.length > 0 && path[0] !== SLASH)) throw new OverlayError("noent", "No export has this name");
	let object = found.overlay.root;
	for (const name of names.slice(found.components.length)) {
		const next = found.overlay.lookup(object, name, who);
		if (next === null) throw new OverlayError("noent", "The path does not exist");
		object = next;
	}
	if (object.type !== FileType.dir) throw new OverlayError("notdir", "The path is no directory");
	return object;
}

/** The names in a path: empty ones, from doubled and trailing slashes, are none. */
function components(path: Uint8Array): Uint8Array[] {
	const names: Uint8Array[] = [];
	let start = 0;
	for (let index = 0; index <= path.length; index++) {
		if (index < path.length && path[index] !== SLASH) continue;
		if (index > start) names.push(path.subarray(start, index));
		start = index + 1;
	}
	return names;
}

function sameBytes(a: Uint8Array, b: Uint8Array | undefined): boolean {
	return b !== undefined && Buffer.compare(a, b) === 0;
}
