// The file `server`: who this server is to its clients, the same for ever, and how often it has begun without what clients had.

import { randomBytes } from "node:crypto";
import type { ClaimFolder, FileForm } from "./claim-folder.ts";

const ID_BYTES = 16;

const SERVER_FILE: FileForm = {
	name: "server",
	magic: "HFNS",
	version: 1,
	remedy:
		"Restore it from a backup; or remove the folder that it is in: clients take this for another server then, and lose what they have open and locked.",
};

export interface ServerIdentity {
	/** Server owner and scope: random, so that no two servers share it (RFC 8881 section 2.10.4). */
	readonly id: Buffer;
	/** Stands in client ids and stateids: it grows whenever earlier ones stop being good. From 1 on. */
	readonly boot: number;
}

/** Made by the first start. */
export function readServer(folder: ClaimFolder): ServerIdentity {
	const bytes = folder.readForm(SERVER_FILE);
	if (bytes !== null) return { id: Buffer.from(bytes.subarray(0, ID_BYTES)), boot: bytes.readUInt32BE(ID_BYTES) };
	// not 1 for all: ids that another server gave are not to be found here
	const identity = { id: randomBytes(ID_BYTES), boot: 1 + (randomBytes(4).readUInt32BE(0) >>> 2) };
	writeServer(folder, identity);
	return identity;
}

/** It is on disk when this returns: ids of the new counter are given only then. */
export function writeServer(folder: ClaimFolder, { id, boot }: ServerIdentity): void {
	const bytes = Buffer.alloc(ID_BYTES + 4);
	id.copy(bytes);
	bytes.writeUInt32BE(boot, ID_BYTES);
	folder.replaceNow(SERVER_FILE, bytes);
}
