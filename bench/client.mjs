import { spawn } from "node:child_process";
import { join } from "node:path";
import { runFolder } from "./host.mjs";

/** The clients of all servers: those of bench/nfsload, one process for each measurement. */

const LIMIT_MS = 120_000;

/**
 * Runs one load. `load` are options of nfsload, or of nfs41load on a server that is asked by version 4.1.
 * Resolves to what it printed; `failure` is set where calls failed or it could not run.
 */
export function nfsload(server, load) {
	const where = ["--port", server.port, "--mountport", server.mountPort, "--export", server.exportPath];
	return run(server.version === "4.1" ? "nfs41load" : "nfsload", [...where, "--server-pid", server.pid, ...load]);
}

/** Runs one load on a mount. What the kernel does for a mount of its own it does in the process that asks. */
export function mountload(server, load) {
	return run("mountload", server.pid === process.pid ? load : ["--server-pid", server.pid, ...load]);
}

function run(program, args) {
	return new Promise((resolve) => {
		const child = spawn(join(runFolder(), program), args.map(String), { timeout: LIMIT_MS, killSignal: "SIGKILL" });
		let stdout = "";
		let stderr = "";
		child.stdout.on("data", (chunk) => {
			stdout += chunk;
		});
		child.stderr.on("data", (chunk) => {
			stderr += chunk;
		});
		child.on("close", (code, signal) => {
			if (signal !== null) return resolve({ failure: `the client was not done after ${LIMIT_MS / 1000} s` });
			if (code === 1 || stdout === "")
				return resolve({
					failure: stderr
						.trim()
						.split("\n")
						.at(-1)
						.replace(/^[a-z0-9]+load: /, ""),
				});
			const result = JSON.parse(stdout);
			if (code === 2) result.failure = `${result.errors} of ${result.ops} calls failed, the first with status ${result.first_error}`;
			resolve(result);
		});
	});
}
