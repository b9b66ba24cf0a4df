// LINK: gives the saved object another name in the current directory.

import { OverlayError } from "../vfs/errors.ts";
import { FileType } from "../vfs/operations.ts";
import { CHANGE_INFO_BYTES, changeOf, writeChangeAgain, writeChangeInfo } from "./change-info.ts";
import { directory } from "./kinds.ts";
import { checkComponent, readComponent } from "./names.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.9. */
export const link: Operation = {
	number: Op.link,
	name: "LINK",
	resultBytesMax: CHANGE_INFO_BYTES,
	run(compound, args) {
		const name = readComponent(args);
		const [source, target] = [compound.savedPlace(), compound.here()];
		const object = compound.object(source);
		const to = directory(compound.object(target));
		if (object.type === FileType.dir) throw new OverlayError("isdir", "A directory cannot have a second name");
		checkComponent(name);
		const { served } = target;
		if (source.served !== served) throw new OverlayError("xdev", "The object and the directory are of different exports");
		const before = changeOf(compound, target);
		const key = compound.mayChange(served);
		served.overlay.link(object, to, name, compound.who(served), key);
		compound.changed(served);
		return (reply) => {
			writeChangeInfo(compound, reply, before, changeOf(compound, target));
			return Status.ok;
		};
	},
	again(compound, args, reply) {
		readComponent(args);
		writeChangeAgain(compound, reply, compound.here());
	},
};
