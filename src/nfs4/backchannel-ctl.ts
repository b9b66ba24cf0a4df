// BACKCHANNEL_CTL: the program and credential of callbacks change.

import { readSecurity } from "./channel-attributes.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.33. */
export const backchannelCtl: Operation = {
	number: Op.backchannelCtl,
	name: "BACKCHANNEL_CTL",
	resultBytesMax: 4,
	run(compound, args) {
		const program = args.u32();
		const security = readSecurity(args);
		const { session } = compound;
		session.callbackProgram = program;
		session.callbackSecurity = security;
		compound.context.claims.noteCallback(session);
		return Status.ok;
	},
};
