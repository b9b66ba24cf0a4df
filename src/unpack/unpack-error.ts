/** Why an archive cannot be unpacked: the end of a sentence that begins with its name. */
export class UnpackError extends Error {
	constructor(reason: string) {
		super(reason);
		this.name = "UnpackError";
	}
}

/** Why one entry cannot be unpacked. `entry` is its name, or null for the entry that is being unpacked. */
export class EntryError extends UnpackError {
	readonly entry: Buffer | null;

	constructor(reason: string, entry: Buffer | null = null) {
		super(reason);
		this.name = "EntryError";
		this.entry = entry;
	}
}

/** A name out of an archive as it may be printed: in quotes, with bytes that are no text, or that a terminal would obey, escaped. */
export function quoteName(name: Uint8Array): string {
	let text = "";
	for (const character of Buffer.from(name).toString("utf8")) {
		if (character === "\ufffd") return `"${quoteBytes(name)}"`;
		text += /[\p{C}\p{Zl}\p{Zp}"\\]/u.test(character) ? quoteBytes(Buffer.from(character)) : character;
	}
	return `"${text}"`;
}

function quoteBytes(bytes: Uint8Array): string {
	let text = "";
	for (const byte of bytes) {
		if (byte === 0x22 || byte === 0x5c) text += `\\${String.fromCharCode(byte)}`;
		else text += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
	}
	return text;
}
