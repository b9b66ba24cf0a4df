import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The top of the working copy: this file runs from dist/test/support. */
export const repository = join(dirname(fileURLToPath(import.meta.url)), "../../..");

/** Volumes of the full campaign instead of those that fit a few minutes. */
export const full = process.env.HOLDFAST_TEST_FULL === "1";

/** A PATH that has the system administrator's programs, also for ordinary users. */
export function sbinPath(): string {
	return `${process.env.PATH ?? "/usr/bin:/bin"}:/usr/local/sbin:/usr/sbin:/sbin`;
}

/** Whether a program is not to be had here. */
export function missing(program: string): boolean {
	if ((process.env.HOLDFAST_TEST_MISSING ?? "").split(" ").includes(program)) return true;
	return !sbinPath()
		.split(":")
		.some((folder) => existsSync(join(folder, program)));
}

/** As the `skip` option of a test: false, or the reason. With CI=true scripts/test.mjs has failed before it comes to this. */
export function needs(...what: ("root" | "vm" | (string & {}))[]): string | false {
	for (const one of what) {
		if (one === "root") {
			if (process.getuid?.() !== 0) return "needs root";
		} else if (one === "vm") {
			if ((process.env.HOLDFAST_TEST_MISSING ?? "").split(" ").includes("vm")) return "needs the virtual machine";
			if (missing("apt-get") || process.arch !== "x64") return "the virtual machine runs on Debian, x86-64 only";
		} else if (missing(one)) {
			return `needs ${one}`;
		}
	}
	return false;
}
