import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { must, repository, runFolder } from "./host.mjs";

/** The virtual machine of test/vm/run-vm.sh, inside the namespaces of a run. */

const program = join(repository, "test/vm/run-vm.sh");
/** Where the machine's packages are unpacked, for the tests too. */
const cache = process.env.VMDIR ?? join(tmpdir(), `run-vm-cache-${process.getuid()}`);
/** To the process inside: why there is no machine. */
const MISSING = "HOLDFAST_BENCH_NO_VM";

/** Downloads the machine's packages if they are not there. Outside, since there is no network inside. */
export function prepareMachine() {
	const { status, stderr } = spawnSync(program, ["--build"], { encoding: "utf8", env: { ...process.env, VMDIR: cache } });
	if (status !== 0) process.env[MISSING] = stderr.trim().split("\n").at(-1) || `run-vm.sh: exit status ${status}`;
}

/** Its packages at a place of this run, so that all that a machine leaves goes with the run. */
export function openMachine() {
	if (process.env[MISSING] !== undefined) throw new Error(`not run: no virtual machine: ${process.env[MISSING]}`);
	const folder = join(runFolder(), "vm");
	if (existsSync(folder)) return folder;
	mkdirSync(folder);
	for (const name of readdirSync(cache)) {
		if (name.startsWith("ready-")) writeFileSync(join(folder, name), "");
		if (!name.startsWith("img-")) continue;
		mkdirSync(join(folder, name));
		must("mount", "--bind", join(cache, name), join(folder, name));
	}
	return folder;
}

/**
 * Runs a script there with these variables. `disk` is the size of its /dev/ubda.
 * Resolves to the lines that it printed, and why it did not come to its end, if it did not.
 */
export function runMachine(script, variables, { disk = "", seconds }) {
	const folder = openMachine();
	const child = spawn(program, [script], {
		cwd: "/",
		stdio: ["ignore", "pipe", "pipe"],
		env: {
			HOME: "/",
			// Version managers' shims would make every program start in the machine slow.
			PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			...variables,
			VMDIR: folder,
			VM_ENV: Object.keys(variables).join(" "),
			VM_TIMEOUT: String(seconds),
			VM_MEM: "1536M",
			VM_DISK: disk,
		},
	});
	let output = "";
	let complaints = "";
	child.stdout.on("data", (chunk) => {
		output += chunk;
	});
	child.stderr.on("data", (chunk) => {
		complaints += chunk;
	});
	return new Promise((resolve, reject) => {
		child.on("error", reject);
		child.on("close", (status) => {
			const last = complaints.trim().split("\n").at(-1);
			resolve({ lines: output.split("\n"), failure: status === 0 ? null : last || `the virtual machine ended with ${status}` });
		});
	});
}
