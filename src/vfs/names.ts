// Names of files: the checks that all front ends share, and names as people see them.

import { OverlayError } from "./errors.ts";

/** Control and format characters, what turns a line round, breaks it or cannot be seen, and halves of surrogate pairs. */
const ODD = String.raw`\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}`;
const ODD_IN_NAMES = new RegExp(`[${ODD}\\\\]`, "gu");
const ODD_IN_TEXT = new RegExp(`[${ODD}]`, "gu");

/**
 * A name or path for people: what is no UTF-8, cannot be seen, or would upset a terminal or turn the line round, stands as \xNN for each
 * byte, and so does a backslash. Different names look different; `shownBytes` is the way back.
 */
export function showName(name: Uint8Array): string {
	const bytes = Buffer.from(name.buffer, name.byteOffset, name.length);
	const text = bytes.toString("utf8");
	if (!Buffer.from(text, "utf8").equals(bytes))
		return bytes.toString("latin1").replace(/[^\x20-\x5b\x5d-\x7e]/g, (one) => hex(one, "latin1"));
	return text.replace(ODD_IN_NAMES, (one) => hex(one, "utf8"));
}

/** The same of a path below some root, where the root itself is ".". */
export function showPath(path: Uint8Array): string {
	return path.length === 0 ? "." : showName(path);
}

/** The bytes of a name that `showName` has made. */
export function shownBytes(shown: string): Buffer {
	const parts = shown.split(/\\x([0-9a-f]{2})/);
	return Buffer.concat(parts.map((part, i) => Buffer.from(part, i % 2 === 0 ? "utf8" : "hex")));
}

/** A name in JSON: its text, or `{"base64": ...}` where its bytes are no UTF-8. `shown` is as `showName` has made it. */
export function nameInJson(shown: string): string | { readonly base64: string } {
	const bytes = shownBytes(shown);
	const text = bytes.toString("utf8");
	return Buffer.from(text, "utf8").equals(bytes) ? text : { base64: bytes.toString("base64") };
}

/** One line of a message, whatever it was put together of: what would upset a terminal, a newline too, stands as \xNN for each byte. */
export function showText(text: string): string {
	return text.replace(ODD_IN_TEXT, (one) => hex(one, "utf8"));
}

/** The same value as JSON with what would upset a terminal as \uNNNN. */
export function escapeForJson(json: string): string {
	return json.replace(ODD_IN_TEXT, (one) => [...Array(one.length).keys()].map((i) => unicode(one.charCodeAt(i))).join(""));
}

/** A word of a line that people paste into a shell: as it is, in quotes, or as $'...' where it has what a terminal must not see. */
export function quoteForShell(word: string): string {
	if (/^[\w@%+:,./-][\w@%+=:,./-]*$/.test(word)) return word;
	if (showText(word) === word) return `'${word.replaceAll("'", "'\\''")}'`;
	const escaped = word.replace(/['\\]/g, "\\$&").replace(ODD_IN_TEXT, (one) => octal(one));
	return `$'${escaped}'`;
}

function hex(character: string, encoding: "latin1" | "utf8"): string {
	return [...Buffer.from(character, encoding)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}

function unicode(unit: number): string {
	return `\\u${unit.toString(16).padStart(4, "0")}`;
}

/** Always three digits, so that a digit behind them is not taken for one more. */
function octal(character: string): string {
	return [...Buffer.from(character)].map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
}

/** NAME_MAX of every file system that a layer may lie on. */
export const NAME_BYTES_MAX = 255;
/** Names of one object: the least of the file systems that can be layers, ext4. */
export const LINKS_MAX = 65_000;
const SLASH = 0x2f;
const DOT = 0x2e;

export function isDot(name: Uint8Array): boolean {
	return name.length === 1 && name[0] === DOT;
}

export function isDotDot(name: Uint8Array): boolean {
	return name.length === 2 && name[0] === DOT && name[1] === DOT;
}

/** Refuses what can be no single name. "." and ".." are left to the caller. */
export function checkName(name: Uint8Array): void {
	if (name.length === 0) throw new OverlayError("inval", "A name must not be empty");
	if (name.length > NAME_BYTES_MAX) throw new OverlayError("nametoolong", `A name has at most ${NAME_BYTES_MAX} bytes`);
	for (let i = 0; i < name.length; i++) {
		if (name[i] === SLASH || name[i] === 0) throw new OverlayError("inval", "A name must not hold a slash or NUL");
	}
}

/** A name for an object that is to be made. */
export function checkNewName(name: Uint8Array): void {
	checkName(name);
	if (isDot(name) || isDotDot(name)) throw new OverlayError("exist", "The names . and .. exist in every directory");
}

/** A name that is to be removed or moved. */
export function checkOldName(name: Uint8Array): void {
	checkName(name);
	if (isDot(name) || isDotDot(name)) throw new OverlayError("inval", "The names . and .. cannot be removed or moved");
}
