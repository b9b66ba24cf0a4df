// ACCESS: which of the asked permissions the caller has.

import { Access, FileType } from "../vfs/operations.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** The bits of NFSv3; those for extended attributes are of minor version 2. */
const KNOWN = Access.read | Access.lookup | Access.modify | Access.extend | Access.delete | Access.execute;
const CHANGES = Access.modify | Access.extend | Access.delete;

/** Writing to a device or a pipe changes nothing of the export. */
function isStored(type: FileType): boolean {
	return type === FileType.reg || type === FileType.dir || type === FileType.lnk;
}

/** What can be told of an object of this kind at all. */
function toldOf(type: FileType): number {
	return type === FileType.dir ? KNOWN & ~Access.execute : KNOWN & ~(Access.lookup | Access.delete);
}

/** RFC 8881 section 18.1. */
export const access: Operation = {
	number: Op.access,
	name: "ACCESS",
	resultBytesMax: 0,
	looks: true,
	run(compound, args, reply) {
		const asked = args.u32();
		const place = compound.here();
		const object = compound.object(place);
		const { readOnly } = compound.admission(place.served);
		const told = asked & toldOf(object.type);
		const mayGrant = readOnly && isStored(object.type) ? told & ~CHANGES : told;
		const granted = place.served.overlay.access(object, compound.who(place.served), mayGrant);
		reply.u64(told, granted);
		return Status.ok;
	},
};
