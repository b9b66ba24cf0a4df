// A command in the background: what was typed ends when the mount can be used, and shows until then what is said.

import { spawn } from "node:child_process";
import { writeSync } from "node:fs";
import { must } from "../linux/errno.ts";
import { close, setCloseOnExec } from "../linux/open.ts";
import { passOn } from "./print.ts";

/** Where the process in the background finds the pipe to the command that was typed. */
const READY = 3;
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/**
 * Starts a command with `words` in a session of its own. Resolves with 0 when it can be used, or with its exit status when it has ended before.
 * What it prints afterwards reaches nobody.
 */
export function startInBackground([command, ...first]: readonly string[], words: readonly string[]): Promise<number> {
	const child = spawn(command, [...first, `--background-of=${READY}`, ...words], {
		stdio: ["ignore", "pipe", "pipe", "pipe"],
		detached: true,
		cwd: "/",
	});
	child.stdout?.on("data", (bytes: Buffer) => passOn("stdout", bytes));
	child.stderr?.on("data", (bytes: Buffer) => passOn("stderr", bytes));
	// a session of its own gets no signals from this terminal
	const pass = (signal: NodeJS.Signals) => child.kill(signal);
	for (const signal of SIGNALS) process.on(signal, pass);
	const ended = new Promise<number>((resolve, reject) => {
		child.on("error", reject);
		child.on("close", (code) => resolve(code ?? 1));
		child.stdio[READY]?.once("data", () => {
			// what was printed before it lies in the other pipes already, and is read in this turn
			setImmediate(() => {
				child.unref();
				for (const stream of child.stdio) stream?.destroy();
				resolve(0);
			});
		});
	});
	return ended.finally(() => {
		for (const signal of SIGNALS) process.off(signal, pass);
	});
}

/** In the background: a function that tells the command that was typed, once, that this one can be used. `fd`: what --background-of gave. */
export function backgroundTeller(fd: number): () => void {
	must(setCloseOnExec(fd, true), "Cannot use the pipe to the command that was typed");
	let isTold = false;
	return () => {
		if (isTold) return;
		isTold = true;
		try {
			writeSync(fd, "\n");
		} catch {
			// it was ended meanwhile
		}
		close(fd);
	};
}
