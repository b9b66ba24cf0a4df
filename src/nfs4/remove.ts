// REMOVE: removes a name, of a directory too.

import { FileType } from "../vfs/operations.ts";
import { CHANGE_INFO_BYTES, changeOf, writeChangeAgain, writeChangeInfo } from "./change-info.ts";
import { directory } from "./kinds.ts";
import { checkComponent, readComponent } from "./names.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.25. */
export const remove: Operation = {
	number: Op.remove,
	name: "REMOVE",
	resultBytesMax: CHANGE_INFO_BYTES,
	run(compound, args) {
		const name = readComponent(args);
		const place = compound.here();
		const { served } = place;
		const { overlay } = served;
		const from = directory(compound.object(place));
		checkComponent(name);
		const who = compound.who(served);
		const before = changeOf(compound, place);
		const key = compound.mayChange(served);
		const found = overlay.lookup(from, name, who);
		if (found?.type === FileType.dir) overlay.rmdir(from, name, who, key);
		else overlay.remove(from, name, who, key);
		compound.changed(served);
		return (reply) => {
			writeChangeInfo(compound, reply, before, changeOf(compound, place));
			return Status.ok;
		};
	},
	again(compound, args, reply) {
		readComponent(args);
		writeChangeAgain(compound, reply, compound.here());
	},
};
