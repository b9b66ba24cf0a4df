// Names of components in arguments: the errors that version 4 has for them.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import { isDot, isDotDot, NAME_BYTES_MAX } from "../vfs/names.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { Nfs4Error, Status } from "./status.ts";

const SLASH = 0x2f;

/** A component4, as a view of the arguments. It is checked by `checkComponent` when all arguments are read. */
export function readComponent(args: XdrReader): Uint8Array {
	return args.opaque(RECORD_BYTES_MAX);
}

/** Any bytes make a name, but for what no name can be (RFC 8881 sections 14.5, 15.1.7). */
export function checkComponent(name: Uint8Array): void {
	if (name.length === 0) throw new Nfs4Error(Status.inval, "A name must not be empty");
	if (name.length > NAME_BYTES_MAX) throw new Nfs4Error(Status.nametoolong, `A name has at most ${NAME_BYTES_MAX} bytes`);
	if (name.includes(SLASH) || name.includes(0)) throw new Nfs4Error(Status.badchar, "A name must not hold a slash or NUL");
	if (isDot(name) || isDotDot(name)) throw new Nfs4Error(Status.badname, "The names . and .. are not known in version 4");
}
