// Which boot of the host this is: what a process has written outlives the process, and may not outlive the host.

import { readFileNamed } from "../linux/read-file.ts";

const FILE = "/proc/sys/kernel/random/boot_id";

/** The same as long as the kernel runs. Tests set HOLDFAST_BOOT_ID to what it is to be. */
export function currentBootId(): string {
	return process.env.HOLDFAST_BOOT_ID ?? readFileNamed(FILE).toString().trim();
}
