// Adds, rotates and drops the keys that sign handles.

import { ERRNO, whyNot } from "../../linux/errno.ts";
import { tryLock } from "../../linux/file-system.ts";
import { close, O, openPath } from "../../linux/open.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { lockUpper } from "../opening/upper-lock.ts";
import { KEY_ID_MAX, keyLockPath, newKey, type Registry, readRegistry, writeDurably, writeRegistry } from "../work/registry.ts";

/** A change of the keys that cannot be made, or not now: one sentence for the user. */
export class KeyError extends Error {
	constructor(message: string) {
		super(message);
		this.name = "KeyError";
	}
}

/** `waits`: it was made and has signed nothing yet. `verifies`: what it has signed is still good. */
export type KeyUse = "signs" | "verifies" | "waits";

/** What may be told of a key. */
export interface KeyDescription {
	readonly id: number;
	readonly use: KeyUse;
	/** ISO 8601. */
	readonly made: string | null;
}

/** By their numbers. No secrets. */
export function listKeys({ keys, signingKey }: Registry): KeyDescription[] {
	return keys
		.map(({ id, made }) => ({ id, use: id === signingKey ? "signs" : id < signingKey ? "verifies" : "waits", made: made ?? null }) as const)
		.sort((a, b) => a.id - b.id);
}

/**
 * With a new key that verifies and does not sign: whatever handles a client holds, the bytes of each object's stay the same.
 * Ids only grow. An id is reused only if its key was dropped before it ever signed.
 */
export function withNewKey(registry: Registry): Registry {
	const id = Math.max(...registry.keys.map((key) => key.id)) + 1;
	if (id <= KEY_ID_MAX) return { ...registry, keys: [...registry.keys, newKey(id)] };
	const waiting = registry.signingKey < KEY_ID_MAX;
	throw new KeyError(
		`Cannot make a further key: its number is one byte of a handle, numbers are not used again, and ${KEY_ID_MAX} is taken. ` +
			(waiting
				? `Drop key ${KEY_ID_MAX}, which has signed nothing, or sign with it (holdfast key rotate --now).`
				: "Only an export that is made anew, with a fresh upper and work, begins with key 1."),
	);
}

/** Signs with the newest key, a new one if none waits: the bytes of every handle change, and the former ones stay good. */
export function withNewestSigning(registry: Registry): Registry {
	const hasWaiting = registry.keys.some(({ id }) => id > registry.signingKey);
	const { keys } = hasWaiting ? registry : withNewKey(registry);
	return { ...registry, keys, signingKey: Math.max(...keys.map(({ id }) => id)) };
}

/** Without a key: what it has signed is a bad handle. */
export function withoutKey(registry: Registry, id: number): Registry {
	if (!registry.keys.some((key) => key.id === id)) {
		const there = listKeys(registry).map((key) => key.id);
		throw new KeyError(
			`Cannot drop key ${id}: there is no such key. ${there.length === 1 ? "There is" : "There are"} ${there.join(", ")}.`,
		);
	}
	if (id === registry.signingKey) {
		throw new KeyError(
			`Cannot drop key ${id}: it signs the handles of this export. Let another one sign first (holdfast key rotate --now), and mount the ` +
				"clients again.",
		);
	}
	return { ...registry, keys: registry.keys.filter((key) => key.id !== id) };
}

/**
 * Changes the keys of an export that was opened to inspect it, while no server serves it: a server reads them when it starts. KeyError,
 * LayerError: one runs. A dry run gives what would be written, whether one runs or not.
 */
export function changeKeys(opened: OpenedOverlay, change: (registry: Registry) => Registry, isDryRun = false): Registry {
	const { folder } = opened;
	if (isDryRun) return change(readRegistry(folder) as Registry);
	const upper = opened.overlay.engine.layers.find((layer) => layer.isUpper);
	const lock =
		upper === undefined ? lockReadOnly(folder, false) : lockUpper({ path: upper.path, root: upper.root, folder }, "holdfast key");
	try {
		// what was read before the lock may be older
		const changed = change(readRegistry(folder) as Registry);
		writeRegistry(folder, changed);
		return changed;
	} finally {
		lock.close();
	}
}

/**
 * For a server of a read-only export, which may have several servers: nobody changes its keys until the returned function is
 * called, or the process ends.
 */
export function holdKeys({ folder, registry }: OpenedOverlay): () => void {
	const lock = lockReadOnly(folder, true);
	const now = readRegistry(folder);
	if (JSON.stringify(now) === JSON.stringify(registry)) return () => lock.close();
	lock.close();
	throw new KeyError(`Cannot serve with the keys in ${folder}: they were changed at this moment. Start the server again.`);
}

/** An upper has one server, which locks that; without an upper this file is locked. */
function lockReadOnly(folder: string, isShared: boolean): { close(): void } {
	const path = keyLockPath(folder);
	let file = openPath(path, O.rdonly);
	if (file === -ERRNO.ENOENT) {
		writeDurably(path, Buffer.alloc(0));
		file = openPath(path, O.rdonly);
	}
	if (file < 0) throw new KeyError(`Cannot open ${path}: ${whyNot(file, path)}.`);
	const status = tryLock(file, isShared);
	if (status === 0) return { close: () => close(file) };
	close(file);
	if (status !== -ERRNO.EWOULDBLOCK) throw new KeyError(`Cannot lock ${path}: ${whyNot(status, path)}.`);
	throw new KeyError(
		isShared
			? `Cannot serve with the keys in ${folder}: they are being changed at this moment. Start the server again.`
			: "Cannot change the keys of this read-only export: it is being served. Stop every server of it first.",
	);
}
