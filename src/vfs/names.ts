// Names of files: the checks that all front ends share, and names as people see them.

import { OverlayError } from "./errors.ts";

/** A name for people: what is no UTF-8, cannot be seen, or would upset a terminal or turn the line round, stands as \xNN for each byte. */
export function showName(name: Uint8Array): string {
	const bytes = Buffer.from(name.buffer, name.byteOffset, name.length);
	const text = bytes.toString("utf8");
	if (!Buffer.from(text, "utf8").equals(bytes))
		return bytes.toString("latin1").replace(/[^\x20-\x5b\x5d-\x7e]/g, (one) => hex(one, "latin1"));
	return text.replace(/[\p{C}\p{Zl}\p{Zp}\\]/gu, (one) => hex(one, "utf8"));
}

function hex(character: string, encoding: "latin1" | "utf8"): string {
	return [...Buffer.from(character, encoding)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}

/** NAME_MAX of every file system that a layer may lie on. */
export const NAME_BYTES_MAX = 255;
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
