// Programs that ask at a terminal, and what they say to an answer.

import { spawnSync } from "node:child_process";

/** A server that was not refused is ended, and the test fails. */
export const RUN_MILLISECONDS = 5 * 60_000;

/** What a command says to somebody who gives that answer; needs script(1). */
export function atTerminal(command: readonly string[], answer: string): string {
	const options = { input: answer, encoding: "utf8", timeout: RUN_MILLISECONDS, cwd: "/" } as const;
	return spawnSync("script", ["-qec", `${command.map(quote).join(" ")} </dev/tty`, "/dev/null"], options).stdout;
}

/** A word as a shell reads it. */
export function quote(word: string): string {
	return `'${word.replaceAll("'", "'\\''")}'`;
}
