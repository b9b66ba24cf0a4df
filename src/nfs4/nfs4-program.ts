// The NFS version 4 program: NULL, and COMPOUND with its operations.

import { NULL_PROCEDURE, type Procedure, type Program } from "../rpc/program.ts";
import { CompoundRun } from "./compound-run.ts";
import type { Nfs4Context } from "./context.ts";
import { NFS_PROGRAM, NFS_VERSION_4 } from "./protocol.ts";

/** NFS version 4, minor version 1 (RFC 8881). Retries are known by their slots, so the dispatcher remembers nothing. */
export function nfs4Program(context: Nfs4Context): Program {
	const compound: Procedure = {
		name: "COMPOUND",
		remembered: false,
		run: (caller, args, reply, _identity, channel) => new CompoundRun(context, caller, channel, args).run(reply),
	};
	return { number: NFS_PROGRAM, name: "NFS", versions: new Map([[NFS_VERSION_4, [NULL_PROCEDURE, compound]]]) };
}
