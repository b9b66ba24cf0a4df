// One NFSv3 request in work: its caller, and the objects that its handles name.

import { OverlayError, Pending } from "../vfs/errors.ts";
import type { Attributes, ChangeRequest, Credentials, OverlayObject, OverlayOperations } from "../vfs/operations.ts";

/** An overlay that is served, with its file system number (fsid, RFC 1813 section 2.6). */
export interface ServedOverlay {
	readonly overlay: OverlayOperations;
	readonly fsidHi: number;
	readonly fsidLo: number;
}

/** The number is drawn from the root's handle, so that it stays the same over restarts and differs between exports. */
export function serveOverlay(overlay: OverlayOperations): ServedOverlay {
	let hi = 0x811c9dc5;
	let lo = 0x2545f491;
	for (const byte of overlay.root.handle) {
		hi = Math.imul(hi ^ byte, 0x01000193);
		lo = Math.imul(((lo << 5) | (lo >>> 27)) ^ byte, 0x9e3779b1);
	}
	return { overlay, fsidHi: hi >>> 0, fsidLo: lo >>> 0 };
}

const NOBODY: Credentials = { uid: 65534, gid: 65534, gids: [] };

/**
 * One pass of one NFS request: whose it is and the objects it names, so that a failure can still tell their attributes.
 * One instance serves all requests of a server, since a pass is synchronous.
 */
export class Nfs3Request {
	readonly #served: readonly ServedOverlay[];
	#current: ServedOverlay;
	/** What the overlay is told of a request that must not be done twice. */
	#change: ChangeRequest | null = null;
	who: Credentials = NOBODY;
	/** The object of the first handle, or the only one; null until it is found. */
	first: OverlayObject | null = null;
	/** Its attributes before the change, where the procedure makes one. */
	firstBefore: Attributes | null = null;
	second: OverlayObject | null = null;
	secondBefore: Attributes | null = null;
	/** The overlay was changed: the pass must not be run again. */
	changed = false;

	constructor(served: readonly ServedOverlay[]) {
		this.#served = served;
		this.#current = served[0] as ServedOverlay;
	}

	reset(who: Credentials, change: ChangeRequest | null = null): this {
		this.who = who;
		this.#change = change;
		this.first = null;
		this.firstBefore = null;
		this.second = null;
		this.secondBefore = null;
		this.changed = false;
		return this;
	}

	get overlay(): OverlayOperations {
		return this.#current.overlay;
	}

	get served(): ServedOverlay {
		return this.#current;
	}

	/** The object of the only, or first, handle. */
	open(handle: Uint8Array): OverlayObject {
		this.first = this.#decode(handle);
		return this.first;
	}

	/** The same for an object that is about to be changed. */
	change(handle: Uint8Array): OverlayObject {
		const object = this.open(handle);
		this.firstBefore = this.attributes(object);
		return object;
	}

	/** The object of the second handle, about to be changed; it must be of the same export. */
	changeSecond(handle: Uint8Array): OverlayObject {
		const served = this.#current;
		const object = this.#decode(handle);
		if (this.#current !== served) throw new OverlayError("xdev", "The two objects are of different exports");
		this.second = object;
		this.secondBefore = this.attributes(object);
		return object;
	}

	/** Attributes for a reply; null when they cannot be had, which no reply fails for. */
	attributes(object: OverlayObject | null): Attributes | null {
		if (object === null) return null;
		try {
			return this.#current.overlay.getattr(object);
		} catch (error) {
			if (error instanceof OverlayError || (error instanceof Pending && this.changed)) return null;
			throw error;
		}
	}

	#decode(handle: Uint8Array): OverlayObject {
		const object = this.#find(handle);
		this.#current.overlay.request = this.#change;
		return object;
	}

	#find(handle: Uint8Array): OverlayObject {
		const served = this.#served;
		for (let index = 0; index < served.length - 1; index++) {
			this.#current = served[index];
			try {
				return this.#current.overlay.decode(handle);
			} catch (error) {
				if (!(error instanceof OverlayError && error.code === "badhandle")) throw error;
			}
		}
		this.#current = served[served.length - 1];
		return this.#current.overlay.decode(handle);
	}
}
