// READLINK: the target of a symlink.

import { FileType } from "../vfs/operations.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

/** RFC 8881 section 18.24. */
export const readlink: Operation = {
	number: Op.readlink,
	name: "READLINK",
	resultBytesMax: 0,
	looks: true,
	run(compound, _args, reply) {
		const place = compound.here();
		const object = compound.object(place);
		if (object.type !== FileType.lnk) throw new Nfs4Error(Status.wrongType, "This is not a symlink");
		reply.opaque(place.served.overlay.readlink(object));
		return Status.ok;
	},
};
