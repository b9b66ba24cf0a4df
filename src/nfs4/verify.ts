// VERIFY and NVERIFY: go on only if attributes are, or are not, as the client has them.

import type { XdrReader } from "../xdr/xdr-reader.ts";
import { readAndCompare } from "./attributes.ts";
import type { Compound } from "./compound.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { shownPlace } from "./shown.ts";
import { Status } from "./status.ts";

function isSame(compound: Compound, args: XdrReader): boolean {
	return readAndCompare(args, () => shownPlace(compound, compound.here()));
}

/** RFC 8881 section 18.31. */
export const verify: Operation = {
	number: Op.verify,
	name: "VERIFY",
	resultBytesMax: 0,
	looks: true,
	run: (compound, args) => (isSame(compound, args) ? Status.ok : Status.notSame),
};

/** Section 18.15. */
export const nverify: Operation = {
	number: Op.nverify,
	name: "NVERIFY",
	resultBytesMax: 0,
	looks: true,
	run: (compound, args) => (isSame(compound, args) ? Status.same : Status.ok),
};
