// Owners of opens and locks, on the wire (RFC 8881 section 3.3.10).

import type { XdrReader } from "../xdr/xdr-reader.ts";
import { OPAQUE_BYTES_MAX } from "./protocol.ts";

/** state_owner4. The client id is passed over: in minor version 1 an owner is of the session's client, whatever it says. */
export function readOwner(args: XdrReader): Uint8Array {
	args.fixed(8);
	return args.opaque(OPAQUE_BYTES_MAX);
}
