// NFS version 4 as a server runs it: its program, the claims of its clients, and the clock of their leases.

import type { ClaimHooks, ClaimOperations } from "../claims/operations.ts";
import type { Exports } from "../exports/exports.ts";
import { Namespace } from "../exports/namespace.ts";
import { PageCache } from "../exports/page-cache.ts";
import type { Program } from "../rpc/program.ts";
import { showText } from "../vfs/names.ts";
import type { OverlayOperations } from "../vfs/operations.ts";
import { BackChannels } from "./back-channels.ts";
import { nfs4Program } from "./nfs4-program.ts";
import { Owners } from "./owners.ts";

const TICK_MILLISECONDS = 1000;
/** Of clients of one name that throw each other out. */
const REPLACEMENT_TOLD_EVERY_MILLISECONDS = 60_000;

export interface Nfs4Options {
	/** Makes the claims, or opens them. */
	readonly claims: (hooks: ClaimHooks) => ClaimOperations;
	readonly owners?: Owners;
}

export class Nfs4Service {
	readonly program: Program;
	readonly claims: ClaimOperations;
	readonly #exports: Exports;
	#timer: NodeJS.Timeout | undefined;
	#replacementTold = Number.NEGATIVE_INFINITY;
	#isClosed = false;

	constructor(exports: Exports, options: Nfs4Options, now: () => number, warn: (sentence: string) => void) {
		this.#exports = exports;
		const channels = new BackChannels();
		this.claims = options.claims({
			now,
			defer: (work) => void setImmediate(work),
			hold: (handle) => this.#overlayOf(handle)?.hold(handle),
			letGo: (handle) => this.#overlayOf(handle)?.letGo(handle),
			endOfRestore: () => {
				for (const { overlay } of exports.all) overlay.endOfRestore();
			},
			mayBeGranted: (client, owner, handle) => channels.notifyLock(client, owner, handle),
			sessionRemoved: (session) => channels.forget(session),
			clientReplaced: (ownerId, from, to) => this.#tellReplacement(ownerId, from, to, now, warn),
			warn,
		});
		channels.attach(this.claims);
		const context = {
			namespace: new Namespace(exports),
			claims: this.claims,
			owners: options.owners ?? new Owners(),
			channels,
			pages: new PageCache(),
			now,
		};
		this.program = nfs4Program(context);
	}

	/** Before any request is taken: what was open before the start stays. */
	start(): void {
		const held = new Map<OverlayOperations, Uint8Array[]>(this.#exports.all.map(({ overlay }) => [overlay, []]));
		for (const handle of this.claims.heldHandles()) {
			const overlay = this.#overlayOf(handle);
			if (overlay !== undefined) held.get(overlay)?.push(handle);
		}
		for (const [overlay, handles] of held) overlay.restoreHolds(handles);
		this.claims.tick();
		this.#timer = setInterval(() => this.claims.tick(), TICK_MILLISECONDS).unref();
	}

	/** No request comes any more. */
	close(): void {
		if (this.#isClosed) return;
		this.#isClosed = true;
		clearInterval(this.#timer);
		this.claims.shutDown();
	}

	/** Nothing is called any more, and nothing is said to be done. */
	stop(): void {
		clearInterval(this.#timer);
	}

	#overlayOf(handle: Uint8Array): OverlayOperations | undefined {
		return this.#exports.byHandle(handle)?.overlay;
	}

	#tellReplacement(ownerId: Uint8Array, from: string, to: string, now: () => number, warn: (sentence: string) => void): void {
		if (from === to || now() - this.#replacementTold < REPLACEMENT_TOLD_EVERY_MILLISECONDS) return;
		this.#replacementTold = now();
		const name = showText(Buffer.from(ownerId).toString("latin1"));
		warn(`The client ${name} at ${to} takes the place of one of the same name at ${from}: two machines need two names (nfs4_unique_id).`);
	}
}
