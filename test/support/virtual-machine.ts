import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { HANG_MILLISECONDS, repository } from "./requirements.ts";
import type { Scratch } from "./scratch.ts";

export interface VmResult {
	readonly status: number | null;
	/** Standard output and error of the script, as one text. */
	readonly output: string;
	readonly seconds: number;
}

export interface VmOptions {
	/** Handed over as environment variables. */
	readonly env?: Readonly<Record<string, string>>;
	/** Folders of the host that the script may write to; all others it sees, but its changes are lost. */
	readonly writable?: readonly string[];
	readonly memory?: string;
	/** Size of an empty disk, /dev/ubda. */
	readonly disk?: string;
	/** Each line of output, when it comes. */
	readonly onLine?: (line: string) => void;
}

/** Runs a script of test/vm under a real Linux kernel with an NFS client. `$VM_HOST` is the address of this host there. */
export function runVm(scratch: Scratch, script: string, options: VmOptions = {}): Promise<VmResult> {
	const started = Date.now();
	const child = spawn(join(repository, "test/vm/run-vm.sh"), [join(repository, "test/vm", script)], {
		cwd: "/",
		stdio: ["ignore", "pipe", "pipe"],
		env: {
			HOME: process.env.HOME ?? "/",
			// Version managers' shims would make every program start in the machine slow.
			PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			...(process.env.TMPDIR === undefined ? {} : { TMPDIR: process.env.TMPDIR }),
			...options.env,
			VM_ENV: Object.keys(options.env ?? {}).join(" "),
			VM_TIMEOUT: String(HANG_MILLISECONDS / 1000),
			VM_RW: (options.writable ?? []).join(":"),
			VM_MEM: options.memory ?? "1G",
			VM_DISK: options.disk ?? "",
		},
	});
	scratch.beforeRemoval(() => {
		if (child.exitCode === null) child.kill("SIGTERM");
	});
	let output = "";
	for (const stream of [child.stdout, child.stderr]) {
		createInterface({ input: stream }).on("line", (line) => {
			output += `${line}\n`;
			options.onLine?.(line);
		});
	}
	return new Promise((resolve, reject) => {
		child.on("error", reject);
		child.on("close", (status) => resolve({ status, output, seconds: (Date.now() - started) / 1000 }));
	});
}

/** What a script may print where nothing goes wrong are lines that begin with "@"; "@end WHAT MILLISECONDS" are told to who runs the tests. `stderr`: of the server. */
export function assertQuiet(t: TestContext, vm: VmResult, stderr: string): void {
	for (const [, what, milliseconds] of vm.output.matchAll(/^@end (.*) (\d+)$/gm))
		t.diagnostic(`${what}: ${(Number(milliseconds) / 1000).toFixed(1)} s`);
	assert.equal(vm.status, 0, `${vm.output}\n${stderr.slice(-2000)}`);
	assert.deepEqual(
		vm.output.split("\n").filter((line) => line !== "" && !line.startsWith("@")),
		[],
		"programs complained",
	);
}
