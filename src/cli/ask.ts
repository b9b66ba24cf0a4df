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
	if (!/^\s*y(es)?\s*$/i.test(answerTo(`holdfast: ${doubt} ${question} [y/N] `) ?? "")) throw new UserError("Nothing was done.");
}

/** Asks which of some words, by the first letters of one; an empty answer is the first word, and what is none of them is asked again. */
export function choose<Word extends string>(question: string, words: readonly [Word, ...Word[]]): Word {
	for (;;) {
		const answer = answerTo(`holdfast: ${question} [${words.join(", ")}] `);
		const chosen = answer === null ? words[0] : words.find((word) => word.startsWith(answer.trim().toLowerCase()));
		if (chosen !== undefined) return chosen;
	}
}

/** Null: the terminal has gone, or says that there is no answer. */
function answerTo(question: string): string | null {
	prompt(question);
	const answer = Buffer.alloc(ANSWER_BYTES_MAX);
	try {
		const length = readSync(STDIN, answer, 0, ANSWER_BYTES_MAX, null);
		return length === 0 ? null : answer.toString("utf8", 0, length);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "EIO") return null;
		throw error;
	}
}
