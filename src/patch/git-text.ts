// How git writes names and hunks of text in a patch.

import { type Edit, editsBetween } from "./edit-script.ts";

/** Letters that stand behind a backslash for a byte. */
const ESCAPES = new Map([
	[0x07, "a"],
	[0x08, "b"],
	[0x09, "t"],
	[0x0a, "n"],
	[0x0b, "v"],
	[0x0c, "f"],
	[0x0d, "r"],
	[0x22, '"'],
	[0x5c, "\\"],
]);

/** A name as git writes it: in quotes where a byte of it is no printable ASCII, a quote or a backslash. */
export function quoteForGit(name: Uint8Array): string {
	let isOdd = false;
	let text = "";
	for (const byte of name) {
		const letter = ESCAPES.get(byte);
		if (letter !== undefined) text += `\\${letter}`;
		else if (byte < 0x20 || byte > 0x7e) text += `\\${byte.toString(8).padStart(3, "0")}`;
		else text += String.fromCharCode(byte);
		isOdd ||= letter !== undefined || byte < 0x20 || byte > 0x7e;
	}
	return isOdd ? `"${text}"` : text;
}

const TAB = 0x09;
const SPACE = 0x20;

/** The name in a line that begins with "---" or "+++": a tab tells where it ends if it has spaces. */
export function headerName(prefix: string, name: Uint8Array): string {
	const quoted = quoteForGit(Buffer.concat([Buffer.from(prefix), name]));
	return name.includes(SPACE) && !name.includes(TAB) ? `${quoted}\t` : quoted;
}

/** Lines of context around what has changed. */
const CONTEXT = 3;
const NEWLINE = 0x0a;
const NO_NEWLINE = Buffer.from("\n\\ No newline at end of file\n");

/** git takes what has a NUL within this for no text. */
const LOOKED_AT = 8000;

export function isBinary(content: Buffer): boolean {
	return content.subarray(0, LOOKED_AT).includes(0);
}

/** The hunks from one text to another; none where they are equal. */
export function* hunksOf(old: Buffer, now: Buffer): Generator<Buffer> {
	const [oldLines, newLines] = [linesOf(old), linesOf(now)];
	const numbers = new Map<string, number>();
	const edits = editsBetween(numbered(oldLines, numbers), numbered(newLines, numbers));
	for (let first = 0; first < edits.length; ) {
		let last = first;
		while (last + 1 < edits.length && edits[last + 1].at - (edits[last].at + edits[last].count) <= 2 * CONTEXT) last++;
		yield* hunk(oldLines, newLines, edits.slice(first, last + 1));
		first = last + 1;
	}
}

function* hunk(old: readonly Buffer[], now: readonly Buffer[], edits: readonly Edit[]): Generator<Buffer> {
	const [first, last] = [edits[0], edits[edits.length - 1]];
	const before = Math.min(CONTEXT, first.at);
	const after = Math.min(CONTEXT, old.length - (last.at + last.count));
	const start = first.at - before;
	const end = last.at + last.count + after;
	const newStart = first.newAt - before;
	const newEnd = last.newAt + last.newCount + after;
	yield Buffer.from(`@@ -${range(start, end)} +${range(newStart, newEnd)} @@\n`);
	let at = start;
	for (const edit of edits) {
		yield* lines(" ", old, at, edit.at);
		yield* lines("-", old, edit.at, edit.at + edit.count);
		yield* lines("+", now, edit.newAt, edit.newAt + edit.newCount);
		at = edit.at + edit.count;
	}
	yield* lines(" ", old, at, end);
}

function range(start: number, end: number): string {
	const count = end - start;
	// an empty one is told by the line before it
	const line = count === 0 ? start : start + 1;
	return count === 1 ? `${line}` : `${line},${count}`;
}

function* lines(sign: string, of: readonly Buffer[], from: number, to: number): Generator<Buffer> {
	for (let i = from; i < to; i++) {
		yield Buffer.from(sign);
		yield of[i];
		if (of[i].at(-1) !== NEWLINE) yield NO_NEWLINE;
	}
}

/** With their newlines; the last may have none. */
function linesOf(text: Buffer): Buffer[] {
	const lines: Buffer[] = [];
	for (let at = 0; at < text.length; ) {
		const newline = text.indexOf(NEWLINE, at);
		const end = newline < 0 ? text.length : newline + 1;
		lines.push(text.subarray(at, end));
		at = end;
	}
	return lines;
}

/** Equal lines have equal numbers. */
function numbered(lines: readonly Buffer[], numbers: Map<string, number>): Uint32Array {
	return Uint32Array.from(lines, (line) => {
		const text = line.toString("latin1");
		const known = numbers.get(text);
		if (known !== undefined) return known;
		numbers.set(text, numbers.size);
		return numbers.size - 1;
	});
}
