// The terminal of this process: which of its process groups has it.

import { declare, result } from "./libc.ts";

const tcsetpgrpCall = declare("tcsetpgrp", "int", ["int", "int"]);
const getpgrpCall = declare("getpgrp", "int", []);
const signalCall = declare("signal", "int64_t", ["int", "int64_t"]);

const SIGTTOU = 22;
const SIG_IGN = 1;

/**
 * Makes this process's group the foreground one of a terminal, also where another one is that has ended. From here on this process may write to the
 * terminal from the background too. 0, or the negated error number.
 */
export function takeTerminal(fd: number): number {
	// a process of the background that takes the terminal would be stopped
	signalCall(SIGTTOU, SIG_IGN);
	return result(tcsetpgrpCall(fd, getpgrpCall()));
}
