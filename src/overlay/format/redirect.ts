// The value of a `redirect` xattr as names.

import { OverlayError } from "../../vfs/errors.ts";
import { isDot, isDotDot, NAME_BYTES_MAX } from "../../vfs/names.ts";

/** The names in a redirect: one, or an absolute path from the overlay's root. Anything else was not written by an overlay. */
export function redirectNames(redirect: Buffer): Buffer[] {
	const isAbsolute = redirect[0] === SLASH;
	const names: Buffer[] = [];
	for (let at = isAbsolute ? 1 : 0; at <= redirect.length; ) {
		const slash = redirect.indexOf(SLASH, at);
		const end = slash < 0 ? redirect.length : slash;
		const name = redirect.subarray(at, end);
		if (name.length === 0 || name.length > NAME_BYTES_MAX || isDot(name) || isDotDot(name) || name.includes(0)) {
			throw new OverlayError("io", "A directory carries a redirect of overlayfs that leads nowhere");
		}
		names.push(Buffer.from(name));
		at = end + 1;
	}
	if (!isAbsolute && names.length !== 1) throw new OverlayError("io", "A directory carries a redirect of overlayfs that leads nowhere");
	return names;
}

export const SLASH = 0x2f;
