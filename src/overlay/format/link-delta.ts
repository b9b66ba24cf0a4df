// The value of an `nlink` xattr: how far the link count of a copied up object is from an inode's own.

/** "U%+d" or "L%+d": the difference, and whose own count it is added to, the upper or the lower inode's. Null for anything else. */
export function parseLinkCount(value: string): { readonly of: "upper" | "lower"; readonly delta: number } | null {
	const match = /^([UL])([+-]\d{1,9})$/.exec(value);
	return match === null ? null : { of: match[1] === "U" ? "upper" : "lower", delta: Number.parseInt(match[2], 10) };
}

/** The value that says how far the union's count is from the upper inode's own. */
export function nlinkValue(delta: number): Buffer {
	return Buffer.from(`U${delta < 0 ? "" : "+"}${delta}`);
}
