// A program of its own, run inside a user namespace: mounts there, and sends the descriptor to whoever holds the other end of socket 3.

import { writeSync } from "node:fs";
import { sendDescriptor } from "../linux/descriptor-passing.ts";
import { whyNot } from "../linux/errno.ts";
import { mountHere } from "./mount-here.ts";

/** `REASONS`: a pipe to whoever has started this, as unshare(1)'s own reasons go. */
const [REASONS, SOCKET] = [2, 3];
const mounted = mountHere(JSON.parse(process.argv[2] ?? ""));
const failure = typeof mounted === "string" ? mounted : sendDescriptor(SOCKET, mounted);
if (failure !== 0) {
	writeSync(REASONS, `${typeof failure === "string" ? failure : whyNot(failure)}\n`);
	process.exitCode = 1;
}
