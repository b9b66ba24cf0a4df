// Operations that are not served, with the errors that clients expect of such a server.

import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

function refused(number: number, name: string, status: Status): Operation {
	return { number, name, resultBytesMax: 0, run: () => status };
}

/** Its result has the number of an illegal operation, whatever was asked for (RFC 8881 section 18.52). */
export const ILLEGAL: Operation = refused(Op.illegal, "ILLEGAL", Status.opIllegal);

export const UNSUPPORTED: readonly Operation[] = [
	// of minor version 0 (section 16.2.3, table 13)
	refused(Op.openConfirm, "OPEN_CONFIRM", Status.notsupp),
	refused(Op.renew, "RENEW", Status.notsupp),
	refused(Op.setclientid, "SETCLIENTID", Status.notsupp),
	refused(Op.setclientidConfirm, "SETCLIENTID_CONFIRM", Status.notsupp),
	refused(Op.releaseLockowner, "RELEASE_LOCKOWNER", Status.notsupp),
	// no delegations, named attributes, pNFS and SSV
	refused(Op.delegpurge, "DELEGPURGE", Status.notsupp),
	refused(Op.delegreturn, "DELEGRETURN", Status.badStateid),
	refused(Op.openattr, "OPENATTR", Status.notsupp),
	refused(Op.getDirDelegation, "GET_DIR_DELEGATION", Status.notsupp),
	refused(Op.wantDelegation, "WANT_DELEGATION", Status.notsupp),
	refused(Op.getDeviceInfo, "GETDEVICEINFO", Status.notsupp),
	refused(Op.getDeviceList, "GETDEVICELIST", Status.notsupp),
	refused(Op.layoutCommit, "LAYOUTCOMMIT", Status.notsupp),
	refused(Op.layoutGet, "LAYOUTGET", Status.notsupp),
	refused(Op.layoutReturn, "LAYOUTRETURN", Status.notsupp),
	// no client has been given that protection (section 18.47.3)
	refused(Op.setSsv, "SET_SSV", Status.inval),
];
