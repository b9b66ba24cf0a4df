// Who calls: credentials of AUTH_SYS, squashed and cached.

import type { Credentials } from "../vfs/operations.ts";
import { XdrError } from "../xdr/xdr-error.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { AuthFlavor } from "./rpc-message.ts";

const MACHINE_NAME_BYTES_MAX = 255;
const GIDS_MAX = 16;
const CALLERS_CACHED_MAX = 16;

/** Whom the server takes a remote user for, as in exports(5). */
export interface SquashOptions {
	/** Uid 0 and gid 0 become the anonymous ones. */
	readonly rootSquash: boolean;
	/** Everybody becomes anonymous. */
	readonly allSquash: boolean;
	readonly anonUid: number;
	readonly anonGid: number;
	/** Further groups of the anonymous user. */
	readonly anonGids?: readonly number[];
}

export const DEFAULT_SQUASH: SquashOptions = { rootSquash: false, allSquash: false, anonUid: 65534, anonGid: 65534 };

/** Who calls: the connection's peer and the user there, after squashing. */
export interface Caller {
	/** The peer's address without port, or "unix". */
	readonly address: string;
	/** RFC 5531 section 8.2. */
	readonly flavor: number;
	readonly credentials: Credentials;
}

/** The credentials a remote user gets; null is one who did not say who they are (AUTH_NONE). */
export function squash(user: Credentials | null, options: SquashOptions): Credentials {
	const { anonUid, anonGid } = options;
	if (user === null || options.allSquash) return { uid: anonUid, gid: anonGid, gids: options.anonGids ?? [] };
	if (!options.rootSquash) return user;
	const group = (gid: number): number => (gid === 0 ? anonGid : gid);
	return { uid: user.uid === 0 ? anonUid : user.uid, gid: group(user.gid), gids: user.gids.map(group) };
}

/** The body of an AUTH_SYS credential (RFC 5531 appendix A). Throws XdrError. */
function decodeAuthSys(reader: XdrReader): Credentials {
	reader.u32(); // The stamp: any number of the client's.
	reader.opaque(MACHINE_NAME_BYTES_MAX);
	const uid = reader.u32();
	const gid = reader.u32();
	const count = reader.u32();
	if (count > GIDS_MAX) throw new XdrError(`${count} groups where AUTH_SYS has at most ${GIDS_MAX}`);
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
	readonly #address: string;
	readonly #squash: SquashOptions;
	readonly #anonymous: Caller;
	readonly #cached: CachedCaller[] = [];
	#oldest = 0;
	#last: CachedCaller | null = null;

	constructor(address: string, squashOptions: SquashOptions) {
		this.#address = address;
		this.#squash = squashOptions;
		this.#anonymous = { address, flavor: AuthFlavor.none, credentials: squash(null, squashOptions) };
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
		const caller = { address: this.#address, flavor: AuthFlavor.sys, credentials: squash(user, this.#squash) };
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
