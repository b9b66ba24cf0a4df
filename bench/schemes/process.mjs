import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const LIMIT_MS = 600_000;

/** Runs a program of this folder, which prints JSON; resolves to that. */
export function work(program, ...args) {
	return new Promise((resolve, reject) => {
		const path = fileURLToPath(new URL(`${program}.mjs`, import.meta.url));
		// as the launcher does
		const child = spawn(process.execPath, ["--min-semi-space-size=16", path, ...args], {
			stdio: ["ignore", "pipe", "pipe"],
			timeout: LIMIT_MS,
		});
		let stdout = "";
		let stderr = "";
		child.stdout.on("data", (chunk) => {
			stdout += chunk;
		});
		child.stderr.on("data", (chunk) => {
			stderr += chunk;
		});
		child.on("close", (code) => {
			if (code === 0) resolve(JSON.parse(stdout));
			else reject(new Error(`${args[0]} ${args[1]}: ${/^\w*Error.*$/m.exec(stderr)?.[0] ?? stderr.slice(-300)}`));
		});
	});
}

/** Microseconds of time and of CPU since it was called, for each of some things. */
export function cost() {
	const begun = performance.now();
	const before = process.cpuUsage();
	return (count) => {
		const us = (performance.now() - begun) * 1000;
		const { user, system } = process.cpuUsage(before);
		return { us: us / count, cpu_us: (user + system) / count };
	};
}
