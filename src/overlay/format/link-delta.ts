/** The difference in a link count, and whose own count it is added to; null where it cannot be understood. */
export function parseLinkCount(value: string): { readonly of: "upper" | "lower"; readonly delta: number } | null {
	const match = /^([UL])([+-]\d{1,9})$/.exec(value);
	return match === null ? null : { of: match[1] === "U" ? "upper" : "lower", delta: Number.parseInt(match[2], 10) };
}

/** What the `nlink` xattr says. */
export function nlinkValue(delta: number): Buffer {
	return Buffer.from(`U${delta < 0 ? "" : "+"}${delta}`);
}
