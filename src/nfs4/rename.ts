// RENAME: moves a name from the saved directory to the current one.

import { OverlayError } from "../vfs/errors.ts";
import { CHANGE_INFO_BYTES, changeOf, writeChangeAgain, writeChangeInfo } from "./change-info.ts";
import { directory } from "./kinds.ts";
import { checkComponent, readComponent } from "./names.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

/** RFC 8881 section 18.26. */
export const rename: Operation = {
	number: Op.rename,
	name: "RENAME",
	resultBytesMax: 2 * CHANGE_INFO_BYTES,
	run(compound, args) {
		const fromName = readComponent(args);
		const toName = readComponent(args);
		const [source, target] = [compound.savedPlace(), compound.here()];
		const from = directory(compound.object(source));
		const to = directory(compound.object(target));
		checkComponent(fromName);
		checkComponent(toName);
		const { served } = target;
		if (source.served !== served) throw new OverlayError("xdev", "The two directories are of different exports");
		const [fromBefore, toBefore] = [changeOf(compound, source), changeOf(compound, target)];
		const key = compound.mayChange(served);
		try {
			served.overlay.rename(from, fromName, to, toName, compound.who(served), key);
		} catch (error) {
			throw error instanceof OverlayError ? ofTarget(error) : error;
		}
		compound.changed(served);
		return (reply) => {
			writeChangeInfo(compound, reply, fromBefore, changeOf(compound, source));
			writeChangeInfo(compound, reply, toBefore, changeOf(compound, target));
			return Status.ok;
		};
	},
	again(compound, args, reply) {
		readComponent(args);
		readComponent(args);
		writeChangeAgain(compound, reply, compound.savedPlace());
		writeChangeAgain(compound, reply, compound.here());
	},
};

/** Both directories are directories: so it is the kinds of source and target that do not go together. */
function ofTarget(error: OverlayError): Error {
	const isKind = error.code === "isdir" || error.code === "notdir";
	return isKind ? new Nfs4Error(Status.exist, error.message) : error;
}
