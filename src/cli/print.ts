// The only way to stdout and stderr: what is printed upsets no terminal, whatever the names in it are.

import { writeSync } from "node:fs";
import { isatty } from "node:tty";
import { whyNot } from "../linux/errno.ts";
import { escapeForJson, showText } from "../vfs/names.ts";
import type { ServerLog } from "./server-log.ts";
import { UserError } from "./user-error.ts";

const [STDOUT, STDERR] = [1, 2];
const RETRY_MS = 10;

interface Logs {
	readonly stdout: ServerLog;
	readonly stderr: ServerLog;
}

let logs: Logs | null = null;

/** From here on nothing that is printed waits for who reads it, or is an error: see ServerLog. */
export function printToLogs(to: Logs): void {
	logs = to;
}

/** All of a text on stdout. UserError: it cannot be written, as on a full disk. */
function writeOut(text: string): void {
	if (logs !== null) {
		if (!logs.stdout.write(text)) complain("What is to be printed cannot be written to standard output.");
		return;
	}
	writeStdout(text);
}

function writeStdout(data: string | Buffer): void {
	try {
		writeAll(STDOUT, data);
	} catch (error) {
		throw new UserError(`Cannot write the output: ${whyNot((error as NodeJS.ErrnoException).errno ?? 0)}.`);
	}
}

/** A text on stderr. Where that cannot be, nobody is told: the exit status says it too. */
function writeError(text: string | Buffer): void {
	if (logs !== null) {
		logs.stderr.write(text.toString());
		return;
	}
	try {
		writeAll(STDERR, text);
	} catch {
		// see above
	}
}

function writeAll(fd: number, text: string | Buffer): void {
	const bytes = typeof text === "string" ? Buffer.from(text) : text;
	for (let done = 0; done < bytes.length; ) {
		try {
			done += writeSync(fd, bytes, done);
		} catch (error) {
			// who shares the pipe has made it non-blocking, and nobody reads at the moment
			if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
			Atomics.wait(sleeper, 0, 0, RETRY_MS);
		}
	}
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Lines on stdout, in one write. What is odd within a line, a newline too, is escaped. */
export function printLines(lines: readonly string[]): void {
	writeOut(joined(lines));
}

/** Rows on stdout, in columns but for what is last in each. */
export function printTable(rows: readonly (readonly string[])[]): void {
	const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
	printLines(rows.map((row) => row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]))).join("  ")));
}

/** One JSON document on stdout, on one line. */
export function printJson(value: unknown): void {
	writeOut(`${escapeForJson(JSON.stringify(value))}\n`);
}

/** Bytes that another program reads, as they are: refused at a terminal. UserError. */
export function printBytes(bytes: Buffer): void {
	if (isatty(STDOUT)) throw new UserError("What is to be printed is for another program: send it to a file or a pipe.");
	writeStdout(bytes);
}

/** What another process of this program has printed, as it is. */
export function passOn(to: "stdout" | "stderr", bytes: Buffer): void {
	if (to === "stdout") writeStdout(bytes);
	else writeError(bytes);
}

/** Lines that another program reads, and people too: at a terminal what is odd in them is escaped, but for tabs. */
export function printPatch(bytes: Buffer): void {
	writeStdout(isatty(STDOUT) ? bytes.toString().replace(/[^\n\t]+/g, showText) : bytes);
}

/** Help: a text of several lines, whose newlines are its own. */
export function printHelp(text: string): void {
	writeOut(shownLines(text));
}

/** Help on stderr, for who called a command in a wrong way. */
export function complainByHelp(text: string): void {
	writeError(shownLines(text));
}

/** One sentence on stderr, with the program's name before it. */
export function complain(sentence: string): void {
	writeError(joined([`holdfast: ${sentence}`]));
}

/** Lines on stderr, where stdout is another program's. */
export function noteLines(lines: readonly string[]): void {
	writeError(joined(lines));
}

/** A fault of the program's own on stderr: a sentence, what was thrown, and where. */
export function complainOfFault(sentence: string, thrown: unknown): void {
	const { name, message, stack = "" } = thrown instanceof Error ? thrown : new Error(String(thrown));
	// a stack begins with the message, which may have newlines of its own
	const frames = stack.slice(Math.max(0, stack.indexOf(message)) + message.length).split("\n");
	writeError(joined([`holdfast: ${sentence}: ${name}: ${message}`, ...frames.filter((frame) => /\S/.test(frame))]));
}

/** A question at the terminal, whose answer stands behind it. */
export function prompt(text: string): void {
	writeError(showText(text));
}

export const isAtTerminal = isatty(STDERR);

/** Draws a line at the terminal in place of the former one; empty: takes that away. */
export function redraw(text: string): void {
	writeError(`\r\x1b[K${showText(text)}`);
}

function shownLines(text: string): string {
	return text.split("\n").map(showText).join("\n");
}

function joined(lines: readonly string[]): string {
	return lines.map((line) => `${showText(line)}\n`).join("");
}
