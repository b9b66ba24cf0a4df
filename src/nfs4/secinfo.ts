// SECINFO and SECINFO_NO_NAME: by which flavors of authentication an object may be reached.

import type { Export } from "../exports/export.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import type { Compound } from "./compound.ts";
import { findName } from "./find-name.ts";
import { directory } from "./kinds.ts";
import { parentOf } from "./lookupp.ts";
import { checkComponent, readComponent } from "./names.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

const Style = { current: 0, parent: 1 } as const;

/** Uses the current handle up (RFC 8881 section 2.6.3.1.1.8). */
function writeFlavors(compound: Compound, reply: XdrWriter, { flavors }: Export): Status {
	reply.u32(flavors.length);
	for (const flavor of flavors) reply.u32(flavor);
	compound.current = null;
	compound.stateid = null;
	return Status.ok;
}

/** Section 18.29. */
export const secinfo: Operation = {
	number: Op.secinfo,
	name: "SECINFO",
	resultBytesMax: 0,
	looks: true,
	run(compound, args, reply) {
		const name = readComponent(args);
		const place = compound.here();
		directory(compound.object(place));
		checkComponent(name);
		const found = findName(compound, place, name);
		return found === null ? Status.noent : writeFlavors(compound, reply, found.served);
	},
};

/** Section 18.45. */
export const secinfoNoName: Operation = {
	number: Op.secinfoNoName,
	name: "SECINFO_NO_NAME",
	resultBytesMax: 0,
	looks: true,
	run(compound, args, reply) {
		const style = args.enumeration(Style.parent);
		const place = compound.here();
		if (style === Style.current) return writeFlavors(compound, reply, place.served);
		directory(compound.object(place));
		const found = parentOf(compound, place);
		return found === null ? Status.noent : writeFlavors(compound, reply, found.served);
	},
};
