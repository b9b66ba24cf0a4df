// The only way to stdout and stderr: what is printed upsets no terminal, whatever the names in it are.

import { escapeForJson, showText } from "../vfs/names.ts";

/** Lines on stdout, in one write. What is odd within a line, a newline too, is escaped. */
export function printLines(lines: readonly string[]): void {
	process.stdout.write(joined(lines));
}

/** One JSON document on stdout, on one line. */
export function printJson(value: unknown): void {
	process.stdout.write(`${escapeForJson(JSON.stringify(value))}\n`);
}

/** Help: a text of several lines, whose newlines are its own. */
export function printHelp(text: string): void {
	process.stdout.write(shownLines(text));
}

/** Help on stderr, for who called a command in a wrong way. */
export function complainByHelp(text: string): void {
	process.stderr.write(shownLines(text));
}

/** One sentence on stderr, with the program's name before it. */
export function complain(sentence: string): void {
	process.stderr.write(joined([`holdfast: ${sentence}`]));
}

/** A fault of the program's own on stderr: a sentence, what was thrown, and where. */
export function complainOfFault(sentence: string, thrown: unknown): void {
	const { name, message, stack = "" } = thrown instanceof Error ? thrown : new Error(String(thrown));
	// a stack begins with the message, which may have newlines of its own
	const frames = stack.slice(Math.max(0, stack.indexOf(message)) + message.length).split("\n");
	process.stderr.write(joined([`holdfast: ${sentence}: ${name}: ${message}`, ...frames.filter((frame) => /\S/.test(frame))]));
}

export const isAtTerminal = process.stderr.isTTY === true;

/** Draws a line at the terminal in place of the former one; empty: takes that away. */
export function redraw(text: string): void {
	process.stderr.write(`\r\x1b[K${showText(text)}`);
}

function shownLines(text: string): string {
	return text.split("\n").map(showText).join("\n");
}

function joined(lines: readonly string[]): string {
	return lines.map((line) => `${showText(line)}\n`).join("");
}
