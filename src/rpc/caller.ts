// Who calls: credentials of AUTH_SYS, cached.

import type { Credentials } from "../vfs/operations.ts";
import { XdrError } from "../xdr/xdr-error.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { AUTH_SYS_GIDS_MAX, AUTH_SYS_NAME_BYTES_MAX, AuthFlavor } from "./rpc-message.ts";

const CALLERS_CACHED_MAX = 16;

/** The other end of a connection: one object for as long as that lasts, so that a room above can keep by it what belongs to the connection. */
export interface Peer {
	/** Without port, or "unix". */
	readonly address: string;
	/** Only who is root on its host can be there: its port is below 1024, or it is root's own. */
	readonly isPrivileged: boolean;
	/** It belongs to a user of this host who is neither the server's nor root, or nobody can tell whose it is. */
	readonly isOtherUser: boolean;
}

/** Trusted with nothing. */
export const STRANGER: Peer = { address: "", isPrivileged: false, isOtherUser: true };

/** Who calls: the user at the other end, as they say. What an export takes them for is its own matter. */
export interface Caller {
	readonly peer: Peer;
	/** RFC 5531 section 8.2. */
	readonly flavor: number;
	/** Null: they do not say who they are (AUTH_NONE). */
	readonly user: Credentials | null;
}

/** The body of an AUTH_SYS credential (RFC 5531 appendix A). Throws XdrError. */
function decodeAuthSys(reader: XdrReader): Credentials {
	reader.u32(); // The stamp: any number of the client's.
	reader.opaque(AUTH_SYS_NAME_BYTES_MAX);
	const uid = reader.u32();
	const gid = reader.u32();
	const count = reader.u32();
	if (count > AUTH_SYS_GIDS_MAX) throw new XdrError(`${count} groups where AUTH_SYS has at most ${AUTH_SYS_GIDS_MAX}`);
	const gids: number[] = [];
	for (let index = 0; index < count; index++) gids.push(reader.u32());
	if (reader.remaining > 0) throw new XdrError("Bytes behind an AUTH_SYS credential");
	return { uid, gid, gids };
}

interface CachedCaller {
	/** The body of the credential without its stamp, which may differ from call to call. */
	readonly body: Uint8Array;
	readonly caller: Caller;
}

/** The callers of one connection, found by the bytes of their credential so that a call decodes and allocates nothing. */
export class CallerCache {
	readonly #peer: Peer;
	readonly #anonymous: Caller;
	readonly #cached: CachedCaller[] = [];
	#oldest = 0;
	#last: CachedCaller | null = null;

	constructor(peer: Peer) {
		this.#peer = peer;
		this.#anonymous = { peer, flavor: AuthFlavor.none, user: null };
	}

	anonymous(): Caller {
		return this.#anonymous;
	}

	/** The caller of an AUTH_SYS credential whose body lies at `start`; null when it is none. */
	sys(bytes: Uint8Array, view: DataView, start: number, length: number): Caller | null {
		if (this.#last !== null && sameBody(this.#last.body, bytes, start, length)) return this.#last.caller;
		for (const entry of this.#cached) {
			if (sameBody(entry.body, bytes, start, length)) {
				this.#last = entry;
				return entry.caller;
			}
		}
		let user: Credentials;
		try {
			user = decodeAuthSys(new XdrReader().reset(bytes, view, start, start + length));
		} catch (error) {
			if (error instanceof XdrError) return null;
			throw error;
		}
		const caller = { peer: this.#peer, flavor: AuthFlavor.sys, user };
		const entry = { body: new Uint8Array(bytes.subarray(start + 4, start + length)), caller };
		this.#cached[this.#oldest] = entry;
		this.#oldest = (this.#oldest + 1) % CALLERS_CACHED_MAX;
		this.#last = entry;
		return caller;
	}
}

function sameBody(body: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean {
	if (body.length !== length - 4) return false;
	const from = start + 4;
	for (let index = 0; index < body.length; index++) {
		if (body[index] !== bytes[from + index]) return false;
	}
	return true;
}
