// A mount as its operations see it: the overlay, the node ids, and on whose behalf requests are run.

import type { HostLockOperations } from "../claims/operations.ts";
import { type Credentials, type OverlayObject, type OverlayOperations, SUPERUSER } from "../vfs/operations.ts";
import type { NodeTable } from "./node-table.ts";
import type { Notifications } from "./notifications.ts";
import type { FuseRequest } from "./request.ts";
import type { Validity } from "./validity.ts";

/** Root: who a request comes from has been asked by the kernel already, which knows all of their groups (default_permissions). */
/** Whoever it is, they lose what setuid and setgid give when they write. */
const UNPRIVILEGED: Credentials = { uid: 65534, gid: 65534, gids: [] };

export interface MountOptions {
	readonly overlay: OverlayOperations;
	readonly table: NodeTable;
	readonly notifications: Notifications;
	/** Of all who lock the same files; null: the kernel alone does. */
	readonly locks: HostLockOperations | null;
	/** As whom everything is done that comes through this mount, where the export can do it as nobody else; null: as the superuser. */
	readonly actsAs: Credentials | null;
	readonly validity: Validity;
	/** Programs write to the kernel's page cache, which keeps sizes and times of change of files, and writes back later. */
	readonly writesBack: boolean;
	/** The kernel knows no ids there but the user and the group of this process: see `shown`. */
	readonly isOneUser: boolean;
}

/** Of an object, as the kernel is told. */
export interface Ownership {
	readonly uid: number;
	readonly gid: number;
	readonly mode: number;
}

export class FuseMount {
	readonly overlay: OverlayOperations;
	readonly table: NodeTable;
	readonly notifications: Notifications;
	readonly locks: HostLockOperations | null;
	readonly actsAs: Credentials | null;
	readonly writesBack: boolean;
	/** Ids that the kernel knows; null: all. */
	readonly #only: { readonly uid: number; readonly gid: number; readonly groups: ReadonlySet<number> } | null;
	/** INIT decides it. */
	validity: Validity;
	/** INIT flags that both sides have taken. */
	flags = 0;
	/** Node ids counted by the reply that is being written, the same one as often as it was counted. */
	readonly counted: number[] = [];

	constructor({ overlay, table, notifications, locks, actsAs, validity, writesBack, isOneUser }: MountOptions) {
		this.overlay = overlay;
		this.table = table;
		this.notifications = notifications;
		this.locks = locks;
		this.actsAs = actsAs;
		this.validity = validity;
		this.writesBack = writesBack;
		const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
		this.#only = isOneUser ? { uid, gid, groups: new Set([gid, ...(process.getgroups?.() ?? [])]) } : null;
	}

	/**
	 * Owner, group and mode as the kernel is told. An id that its user namespace does not have would be nobody's there, and the kernel lets no inode of
	 * nobody be renamed, removed or written: there all is the one user's, who as its owner may do what they may do as who they are.
	 */
	shown({ uid, gid, mode }: Ownership): Ownership {
		const only = this.#only;
		if (only === null || (uid === only.uid && gid === only.gid)) return { uid, gid, mode };
		if (uid === only.uid) return { uid, gid: only.gid, mode };
		const rights = only.groups.has(gid) ? (mode >> 3) & 7 : mode & 7;
		return { uid: only.uid, gid: only.gid, mode: (mode & ~0o700) | (rights << 6) };
	}

	/** Who acts on what exists. */
	get who(): Credentials {
		return this.actsAs ?? SUPERUSER;
	}

	/** Who writes without the privilege to keep the privileges of a file. */
	get unprivileged(): Credentials {
		return this.actsAs ?? UNPRIVILEGED;
	}

	/** Who makes something: the superuser in the group of the request, which a setgid directory overrules. */
	maker(request: FuseRequest): Credentials {
		return this.actsAs ?? { uid: 0, gid: request.gid, gids: [] };
	}

	/** The attributes of what a request makes: its owner is the user of the request, where the export can give it to them. */
	birth(request: FuseRequest, mode?: number, umask?: number): { mode?: number; umask?: number; uid?: number } {
		return {
			...(mode === undefined ? {} : { mode: mode & 0o7777 }),
			...(umask === undefined ? {} : { umask: umask & 0o777 }),
			...(this.actsAs === null ? { uid: request.uid } : {}),
		};
	}

	/** OverlayError "stale" for a node id that was not given out, or whose object is gone. */
	object(id: number): OverlayObject {
		return this.overlay.decode(this.table.handle(id));
	}

	/** The id of an object for the reply that is being written, which counts as a look-up of it. */
	lookUp(object: OverlayObject): number {
		const id = this.table.lookUp(object);
		this.counted.push(id);
		return id;
	}

	/** The kernel has not got the reply: nothing of it counts. */
	uncount(): void {
		for (const id of this.counted) this.forget(id, 1);
		this.counted.length = 0;
	}

	/** The kernel knows an object so many times less. */
	forget(id: number, count: number): void {
		const held = this.table.forget(id, count);
		if (held !== null) this.overlay.letGo(held);
	}
}
