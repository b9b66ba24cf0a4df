// MOUNTPROC3_UMNTALL: takes all entries of a client off the list of mounts.

import type { Procedure } from "../rpc/program.ts";
import type { MountList } from "./mount-list.ts";

/** RFC 1813 section 5.2.4. */
export function umntall(mounts: MountList): Procedure {
	return {
		name: "UMNTALL",
		remembered: false,
		run(caller) {
			mounts.removeAll(caller.peer.address);
		},
	};
}
