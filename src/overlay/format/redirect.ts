// The value of a `redirect` xattr as names.

import { OverlayError } from "../../vfs/errors.ts";
import { isDot, isDotDot, NAME_BYTES_MAX } from "../../vfs/names.ts";

const SLASH = 0x2f;

/** A path from the root of the overlay, and no name beside the directory. */
export function isAbsolute(redirect: Uint8Array): boolean {
	return redirect[0] === SLASH;
}

/** The names in a redirect: one, or an absolute path from the overlay's root. Null for what no overlay wrote. */
export function parseRedirect(redirect: Buffer): Buffer[] | null {
	const names: Buffer[] = [];
	for (let at = isAbsolute(redirect) ? 1 : 0; at <= redirect.length; ) {
		const slash = redirect.indexOf(SLASH, at);
		const end = slash < 0 ? redirect.length : slash;
		const name = redirect.subarray(at, end);
		if (name.length === 0 || name.length > NAME_BYTES_MAX || isDot(name) || isDotDot(name) || name.includes(0)) return null;
		names.push(Buffer.from(name));
		at = end + 1;
	}
	return isAbsolute(redirect) || names.length === 1 ? names : null;
}

/** As parseRedirect; "io" for what no overlay wrote. */
export function redirectNames(redirect: Buffer): Buffer[] {
	const names = parseRedirect(redirect);
	if (names === null) throw new OverlayError("io", "A directory carries a redirect of overlayfs that leads nowhere");
	return names;
}
