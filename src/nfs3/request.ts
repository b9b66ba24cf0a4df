// One NFSv3 request in work: its caller, and the objects that its handles name.

import type { Export } from "../exports/export.ts";
import { credentialsOf, Exports } from "../exports/exports.ts";
import { PageCache } from "../exports/page-cache.ts";
import type { Caller } from "../rpc/caller.ts";
import { OverlayError, Pending } from "../vfs/errors.ts";
import type { Attributes, ChangeKey, Credentials, OverlayObject, OverlayOperations } from "../vfs/operations.ts";

const NOBODY: Credentials = { uid: 65534, gid: 65534, gids: [] };
const NO_EXPORTS = new Exports([]);

/**
 * One pass of one NFS request: whose it is and the objects it names, so that a failure can still tell their attributes.
 * One instance serves all requests of a server, since a pass is synchronous.
 */
export class Nfs3Request {
	/** Of all exports: a page is found by a handle, which names its export. */
	readonly pages = new PageCache();
	readonly #exports: Exports;
	#caller: Caller | null = null;
	/** Of the handle that was decoded last. */
	#export: Export | null = null;
	/** Of the one change that it may make; null where a repetition does no harm. */
	key: ChangeKey | null = null;
	/** The caller as the export takes them; known from the first handle on. */
	who: Credentials = NOBODY;
	/** The export is not for this caller to change. */
	readOnly = true;
	/** The object of the first handle, or the only one; null until it is found. */
	first: OverlayObject | null = null;
	/** Its attributes before the change, where the procedure makes one. */
	firstBefore: Attributes | null = null;
	second: OverlayObject | null = null;
	secondBefore: Attributes | null = null;
	/** The overlay was changed: the pass must not be run again. */
	changed = false;

	constructor(exports: Exports = NO_EXPORTS) {
		this.#exports = exports;
	}

	reset(caller: Caller, key: ChangeKey | null = null): this {
		this.#caller = caller;
		this.#export = null;
		this.who = NOBODY;
		this.readOnly = true;
		this.key = key;
		this.first = null;
		this.firstBefore = null;
		this.second = null;
		this.secondBefore = null;
		this.changed = false;
		return this;
	}

	get overlay(): OverlayOperations {
		return this.served.overlay;
	}

	get served(): Export {
		return this.#export as Export;
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
		this.#refuseReadOnly();
		return object;
	}

	/** The object of the second handle, about to be changed; it must be of the same export. */
	changeSecond(handle: Uint8Array): OverlayObject {
		const served = this.#export;
		const object = this.#decode(handle);
		if (this.#export !== served) {
			// what follows of the reply tells of the first object
			this.#export = served;
			throw new OverlayError("xdev", "The two objects are of different exports");
		}
		this.second = object;
		this.secondBefore = this.attributes(object);
		this.#refuseReadOnly();
		return object;
	}

	/** Attributes for a reply; null when they cannot be had, which no reply fails for. */
	attributes(object: OverlayObject | null): Attributes | null {
		if (object === null) return null;
		try {
			return this.overlay.getattr(object, false);
		} catch (error) {
			if (error instanceof OverlayError || (error instanceof Pending && this.changed)) return null;
			throw error;
		}
	}

	#refuseReadOnly(): void {
		if (this.readOnly) throw new OverlayError("rofs", "The export is read-only for this client");
	}

	/** The export that the handle names, as far as it is for this caller; then the object. */
	#decode(handle: Uint8Array): OverlayObject {
		const found = this.#exports.byHandle(handle);
		if (found === null) throw new OverlayError("badhandle", "This is no handle of any export");
		const admission = this.#exports.admission(found, this.#caller as Caller);
		const who = credentialsOf(admission);
		if (this.#export !== found) found.overlay.beginPass();
		const object = found.overlay.decode(handle);
		this.#export = found;
		this.who = who;
		this.readOnly = admission.readOnly;
		return object;
	}
}
