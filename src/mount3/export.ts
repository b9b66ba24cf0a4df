// MOUNTPROC3_EXPORT: the list of exports.

import type { Exports } from "../exports/exports.ts";
import type { Procedure } from "../rpc/program.ts";

/** RFC 1813 section 5.2.5. No groups: everybody who reaches the server may mount. */
export function exportList(exports: Exports): Procedure {
	const entries = exports.all.map(({ name, clients }) => ({
		name: Buffer.from(name),
		groups: clients.rules.map((rule) => Buffer.from(rule.clients)),
	}));
	return {
		name: "EXPORT",
		remembered: false,
		run(_caller, _args, reply) {
			for (const { name, groups } of entries) {
				reply.bool(true);
				reply.opaque(name);
				for (const group of groups) {
					reply.bool(true);
					reply.opaque(group);
				}
				reply.bool(false);
			}
			reply.bool(false);
		},
	};
}
