// SETATTR: changes attributes of the current object.

import { FileType } from "../vfs/operations.ts";
import { readWanted, settled } from "./attributes.ts";
import { writeBitmap } from "./bitmap.ts";
import { contentRight } from "./content-right.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { readAnyStateid, readStateid } from "./stateid.ts";
import { Nfs4Error, Status } from "./status.ts";

/** RFC 8881 section 18.30. The stateid counts where the size is set. */
export const setattr: Operation = {
	number: Op.setattr,
	name: "SETATTR",
	resultBytesMax: 16,
	run(compound, args, reply) {
		const stateid = readStateid(args, compound.stateid);
		const wanted = readWanted(args, compound.context);
		const place = compound.here();
		const { served } = place;
		const object = compound.object(place);
		if (wanted.change.size !== undefined) {
			if (object.type !== FileType.reg) throw new Nfs4Error(Status.wrongType, "Only a regular file has a size to set");
			contentRight(compound, stateid, object, 2);
		}
		const change = wanted.maskedMode === null ? wanted.change : settled(wanted, served.overlay.getattr(object).mode);
		const key = compound.mayChange(served);
		served.overlay.setattr(object, compound.who(served), change, undefined, key);
		compound.changed(served);
		writeBitmap(reply, wanted.bitmap.words);
		return Status.ok;
	},
	again(compound, args, reply) {
		readAnyStateid(args);
		writeBitmap(reply, readWanted(args, compound.context).bitmap.words);
	},
	/** It sets all or nothing. */
	fail: (reply) => reply.u32(0),
};
