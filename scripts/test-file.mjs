// Runs one test file in a process of its own, and tells how it ended: its tests, those that failed, and the exit code or signal.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const EVENTS = join(dirname(fileURLToPath(import.meta.url)), "test-events.mjs");
const COUNTS = ["tests", "suites", "pass", "fail", "cancelled", "skipped", "todo"];

/**
 * `compiled` runs below `root` without `node --test`, which hides how a process ended, and takes exit(0) in the middle for a success.
 * `apart` is a command that it runs within; processes are in `running` as long as they live. The shell tells the time of all processes below it.
 */
export function runTestFile(compiled, { root, apart = [], env = {}, hangMinutes, running = new Set() }) {
	const from = Date.now();
	const folder = mkdtempSync(join(tmpdir(), "holdfast-events-"));
	const events = join(folder, "events");
	const reporters = ["spec", EVENTS].flatMap((name) => [`--test-reporter=${name}`, "--test-reporter-destination=stdout"]);
	const command = [...apart, process.execPath, ...reporters, compiled];
	const child = spawn("/bin/sh", ["-c", '"$@" 4>&-; status=$?; times >&4; exit $status', "sh", ...command], {
		cwd: root,
		// a group of its own, so that whatever it started ends with it
		detached: true,
		stdio: ["ignore", "pipe", "pipe", "ignore", "pipe"],
		// a test of this one is not a part of it
		env: { ...process.env, NODE_TEST_CONTEXT: undefined, HOLDFAST_TEST_EVENTS: events, ...env },
	});
	running.add(child);
	let output = "";
	let times = "";
	for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
	child.stdio[4].setEncoding("utf8").on("data", (text) => (times += text));
	let isHanging = false;
	const timer = setTimeout(() => {
		isHanging = true;
		killGroup(child, "SIGTERM");
		setTimeout(() => killGroup(child, "SIGKILL"), 20_000).unref();
	}, hangMinutes * 60_000);
	return new Promise((resolve) => {
		child.on("error", (error) => (output += `${error.message}\n`));
		child.on("close", (code, signal) => {
			clearTimeout(timer);
			running.delete(child);
			const counts = countsOf(output);
			const { failed, open } = readEvents(events);
			rmSync(folder, { recursive: true, force: true });
			const where = open.length > 0 ? `, in: ${open.join(", ")}` : "";
			const failure = isHanging ? `hangs: not done after ${hangMinutes} minutes${where}` : failureOf(counts, endOf(code, signal), where);
			resolve({ output, counts, failure, failed, seconds: (Date.now() - from) / 1000, processorSeconds: processorSecondsOf(times) });
		});
	});
}

export function killGroup(child, signal) {
	try {
		process.kill(-child.pid, signal);
	} catch {
		// it has ended
	}
}

/** How the process ended, in words; null for exit code 0. A shell tells a signal by a code above 128. */
function endOf(code, signal) {
	const number = code === null ? 0 : code - 128;
	const name = signal ?? Object.keys(constants.signals).find((each) => constants.signals[each] === number);
	return name !== undefined && name !== null ? `ended by ${name}` : code === 0 ? null : `ended with exit code ${code}`;
}

/** What is wrong with a file, in words; null if nothing is. */
function failureOf(counts, end, where) {
	if (counts !== null && counts.fail + counts.cancelled > 0) return end === null ? "has failed tests, and exit code 0" : end;
	if (counts !== null && end === null) return counts.tests === 0 ? "has no test" : null;
	return `${end ?? "ended with exit code 0"}${counts === null ? ` before its tests were done${where}` : " after its tests"}`;
}

/** The tests that failed, each with the first lines of its error, and the innermost of those that had begun and not ended. */
function readEvents(path) {
	const failed = [];
	const open = [];
	let text = "";
	try {
		text = readFileSync(path, "utf8");
	} catch {
		// it did not come to its first test
	}
	for (const line of text.split("\n").slice(0, -1)) {
		const { began, ended, error } = JSON.parse(line);
		if (began !== undefined) open.push(began);
		else if (open.includes(ended)) open.splice(open.lastIndexOf(ended), 1);
		if (error !== undefined) failed.push({ name: ended, error });
	}
	return { failed, open: open.filter((name) => !open.some((other) => other.startsWith(`${name} > `))) };
}

/** From the closing lines of node's runner; null where there are none. */
function countsOf(output) {
	const counts = {};
	for (const name of COUNTS) {
		const found = [...output.matchAll(new RegExp(`^(?:\u2139|#) ${name} (\\d+)$`, "gm"))].at(-1);
		if (found === undefined) return null;
		counts[name] = Number(found[1]);
	}
	return counts;
}

/** Of the second line of `times`: user and system time of all children. */
function processorSecondsOf(times) {
	const line = times.trim().split("\n")[1] ?? "";
	return [...line.matchAll(/(\d+)m([\d.]+)s/g)].reduce((sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds), 0);
}
