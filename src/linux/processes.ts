// Asks for other processes.

import { readFileSync } from "node:fs";

/** Whether there is a process of this number, whoever's it is. */
export function isRunning(pid: number): boolean {
	try {
		process.kill(pid, 0);
		return true;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === "EPERM";
	}
}

/** Its bit in a mask of signals, as /proc shows it: the first signal has the lowest. */
const SIGKILL_BIT = 1n << 8n;

/** Whether a thread is about to end for good: SIGKILL waits for it, which is what becomes of every signal that ends a process. False where it cannot be seen. */
export function isDying(thread: number): boolean {
	try {
		const pending = /^SigPnd:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${thread}/status`, "latin1"))?.[1] ?? "0";
		return (BigInt(`0x${pending}`) & SIGKILL_BIT) !== 0n;
	} catch {
		return false;
	}
}

/** The living children of a process: first what it has started, then the orphans that it took in. Empty where it has ended, and where the kernel does not tell. */
export function childrenOf(pid: number): number[] {
	try {
		return readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1")
			.split(" ")
			.map(Number)
			.filter((child) => child > 0);
	} catch {
		return [];
	}
}
