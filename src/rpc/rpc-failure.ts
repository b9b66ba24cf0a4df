// The diagnostics channel for what a procedure throws and should not.

import { channel } from "node:diagnostics_channel";

/** What is published on `holdfast:rpc:failure` when a procedure throws what it should not. The server lives on. */
export interface RpcFailure {
	readonly error: unknown;
	/** Empty when it happened outside any procedure. */
	readonly program: string;
	readonly procedure: string;
}

const failures = channel("holdfast:rpc:failure");

export function publishFailure(error: unknown, program: string, procedure: string): void {
	failures.publish({ error, program, procedure } satisfies RpcFailure);
}
