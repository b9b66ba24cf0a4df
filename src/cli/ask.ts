// Questions to whoever sits at the terminal, before something is done that a slip of the pen may have asked for.

import { readFileSync, readSync } from "node:fs";
import { isatty } from "node:tty";
import { prompt } from "./print.ts";
import { UserError } from "./user-error.ts";

const [STDIN, STDERR] = [0, 2];
const ANSWER_BYTES_MAX = 256;

/** Whether there is somebody to answer: a job in the background would be stopped as soon as it read from its terminal. */
export function isAnybodyThere(): boolean {
	if (!isatty(STDIN) || !isatty(STDERR)) return false;
	try {
		// behind the name, which may hold anything: state, ppid, pgrp, session, tty_nr, tpgid (proc(5))
		const [, , group, , , foreground] = (readFileSync("/proc/self/stat", "latin1").split(") ").at(-1) ?? "").split(" ");
		return group === foreground;
	} catch {
		return false;
	}
}

/**
 * Asks whether to go on. UserError where the answer is not yes, and where nobody can be asked: `otherwise` then says, after the doubt, how to go
 * on without a question.
 */
export function confirm(doubt: string, question: string, otherwise: string): void {
	if (!isAnybodyThere()) throw new UserError(`${doubt} ${otherwise}`);
	prompt(`holdfast: ${doubt} ${question} [y/N] `);
	const answer = Buffer.alloc(ANSWER_BYTES_MAX);
	const length = readSync(STDIN, answer, 0, ANSWER_BYTES_MAX, null);
	if (!/^\s*y(es)?\s*$/i.test(answer.toString("utf8", 0, length))) throw new UserError("Nothing was done.");
}
