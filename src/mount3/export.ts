// MOUNTPROC3_EXPORT: the list of exports.

import type { Procedure } from "../rpc/program.ts";
import type { NamedOverlay } from "./mnt.ts";

/** RFC 1813 section 5.2.5. No groups: everybody who reaches the server may mount. */
export function exportList(exports: readonly NamedOverlay[]): Procedure {
	const names = exports.map(({ name }) => Buffer.from(name));
	return {
		name: "EXPORT",
		remembered: false,
		run(_caller, _args, reply) {
			for (const name of names) {
				reply.bool(true);
				reply.opaque(name);
				reply.bool(false);
			}
			reply.bool(false);
		},
	};
}
