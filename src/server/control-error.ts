// Why a request at the control socket is not done.

import type { ControlErrorCode } from "./control-protocol.ts";

/** The message is a sentence for people. */
export class ControlError extends Error {
	override readonly name = "ControlError";
	readonly code: ControlErrorCode;

	constructor(message: string, code: ControlErrorCode = "refused") {
		super(message);
		this.code = code;
	}
}
