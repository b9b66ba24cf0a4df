// All requests that the control socket takes.

import { diffRequest } from "./control-diff.ts";
import { discardRequest } from "./control-discard.ts";
import type { ControlRequest } from "./control-request.ts";

/** By their names. Another one is a file beside `control-diff.ts`, and a place here. */
export const CONTROL_REQUESTS: ReadonlyMap<string, ControlRequest> = new Map(
	[diffRequest, discardRequest].map((request) => [request.name, request]),
);
