import assert from "node:assert/strict";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import type { Credentials, OverlayObject } from "../../src/vfs/operations.ts";

/** For tests that have the overlay in their own process. */
export const ROOT: Credentials = { uid: 0, gid: 0, gids: [] };

/** The object at a path, name by name; every one must be there. */
export function walk(overlay: Overlay, path: string): OverlayObject {
	let object: OverlayObject = overlay.root;
	for (const name of path.split("/").filter(Boolean)) {
		const next = overlay.lookup(object, Buffer.from(name), ROOT);
		assert.ok(next, `${name} of ${path}`);
		object = next;
	}
	return object;
}
