// What front ends share of listing a directory.

import { OverlayError } from "./errors.ts";
import type { ListCursor, OverlayObject } from "./operations.ts";

/** The object of an entry; null for one that cannot be looked up, which is listed by its name alone. */
export function objectAt(cursor: ListCursor): OverlayObject | null {
	try {
		return cursor.object();
	} catch (error) {
		if (error instanceof OverlayError) return null;
		throw error;
	}
}
