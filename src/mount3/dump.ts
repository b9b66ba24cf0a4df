// MOUNTPROC3_DUMP: who has mounted what.

import type { Procedure } from "../rpc/program.ts";
import type { MountList } from "./mount-list.ts";

/** RFC 1813 section 5.2.2. */
export function dump(mounts: MountList): Procedure {
	return {
		name: "DUMP",
		remembered: false,
		run(_caller, _args, reply) {
			for (const { host, path } of mounts.entries()) {
				reply.bool(true);
				reply.opaque(Buffer.from(host));
				reply.opaque(Buffer.from(path, "latin1"));
			}
			reply.bool(false);
		},
	};
}
