// The terminal goes back to a process whose child had it and has ended.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { needs } from "../../test/support/requirements.ts";
import { ERRNO } from "./errno.ts";
import { takeTerminal } from "./terminal.ts";

/** The group that has the terminal, behind that of the process itself (proc(5)). */
const GROUPS = 'const [, , own, , , has] = readFileSync("/proc/self/stat", "latin1").split(") ").at(-1).split(" ")';

test("takeTerminal makes this process's group the foreground one again after a group that took it has ended", {
	skip: needs("script", "bash"),
}, () => {
	const module = fileURLToPath(new URL("./terminal.js", import.meta.url));
	const program = `
		import { spawnSync } from "node:child_process";
		import { readFileSync } from "node:fs";
		import { takeTerminal } from "${module}";
		const same = () => { ${GROUPS}; return own === has; };
		const before = same();
		// a job that has the terminal, and whose shell cannot take it back
		spawnSync("bash", ["-c", "set -m; sh -c 'kill -9 $PPID'; true"], { stdio: "inherit" });
		const lost = same();
		const taken = takeTerminal(0);
		console.log(["result", before, lost, taken, same()].join(" "));`;
	const command = `'${process.execPath}' --input-type=module -e '${program.replaceAll("'", "'\\''")}' </dev/tty`;
	const { stdout } = spawnSync("script", ["-qec", command, "/dev/null"], { encoding: "utf8" });
	assert.match(stdout, /result true false 0 true/);
});

test("takeTerminal says EBADF of a descriptor that is not open", () => {
	const status = takeTerminal(-1);
	assert.equal(status, -ERRNO.EBADF);
});
