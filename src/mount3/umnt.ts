// MOUNTPROC3_UMNT: takes one entry off the list of mounts.

import type { Procedure } from "../rpc/program.ts";
import type { MountList } from "./mount-list.ts";
import { PATH_BYTES_MAX } from "./protocol.ts";

/** RFC 1813 section 5.2.3. */
export function umnt(mounts: MountList): Procedure {
	return {
		name: "UMNT",
		remembered: false,
		run(caller, args) {
			mounts.remove(caller.peer.address, Buffer.from(args.opaque(PATH_BYTES_MAX)).toString("latin1"));
		},
	};
}
