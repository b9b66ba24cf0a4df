// PUTROOTFH and PUTPUBFH: the root of all exports becomes the current handle.

import type { Compound } from "./compound.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

function run(compound: Compound): Status {
	const { served, root } = compound.context.namespace.root;
	// it has no other error that says so
	if (compound.admission(served).who === null) return Status.wrongsec;
	compound.enter(served);
	compound.moveTo(compound.placeOf(served, root));
	return Status.ok;
}

/** RFC 8881 section 18.21. */
export const putrootfh: Operation = { number: Op.putrootfh, name: "PUTROOTFH", resultBytesMax: 0, run };

/** Section 18.20: nothing is published otherwise. */
export const putpubfh: Operation = { number: Op.putpubfh, name: "PUTPUBFH", resultBytesMax: 0, run };
