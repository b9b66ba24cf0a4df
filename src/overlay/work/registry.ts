// The registry: identity, secrets and numbers of an export, kept for ever.

import { randomBytes } from "node:crypto";
import {
	closeSync,
	constants,
	existsSync,
	fsyncSync,
	linkSync,
	lstatSync,
	openSync,
	readFileSync,
	renameSync,
	rmSync,
	unlinkSync,
	writeSync,
} from "node:fs";
import { dirname, join } from "node:path";

/**
 * What an export remembers for ever: its id, its secrets, the numbers of homes and inode spaces, and which directories its
 * layers are. One file, mode 0600, written aside, flushed and renamed; it is made at the first serve and never on a read.
 */
export interface Registry {
	/** 32 bits, part of every handle. */
	readonly exportId: number;
	/** 16 bytes in hex, on the root of upper too, so that an upper is not served with the work folder of another. */
	readonly uuid: string;
	/** 16 bytes in hex: orders listings. It never changes. */
	readonly cookieSecret: string;
	/** Every one of them verifies. */
	readonly keys: readonly KeyRecord[];
	/** The key that signs: one for all handles, or an object would have two. */
	readonly signingKey: number;
	readonly homes: readonly HomeRecord[];
	readonly spaces: readonly SpaceRecord[];
	/** From the topmost down. */
	readonly lowers: readonly LayerRecord[];
	readonly upper: LayerRecord | null;
	/** Layers that hold only data. */
	readonly dataLowers?: readonly LayerRecord[];
	/** The overlay's own xattrs are `user.overlay.*`. */
	readonly userXattrs?: boolean;
	/** Where ids come from; absent: kernel handles. */
	readonly handles?: "portable";
	/** Why, as it was said at the first serve. */
	readonly handlesWhy?: string;
	/** It had kernel handles before (holdfast rebind), and what is from that time keeps them; 16 bytes in hex: the file system of upper then, or zeros. */
	readonly rebound?: string;
	/** The uuid of the export that this one was copied from (holdfast fork). */
	readonly forkedFrom?: string;
}

/** A byte of every handle; 0 is none. */
export const KEY_ID_MAX = 255;

export interface KeyRecord {
	/** 1 .. 255; no number that has signed handles is used again. */
	readonly id: number;
	/** 16 bytes in hex. */
	readonly secret: string;
	/** When it was made, as ISO 8601; keys of older exports do not say it. */
	readonly made?: string;
}

export interface HomeRecord {
	/** 1 .. 65535; numbers only rise. */
	readonly number: number;
	readonly kind: "file system" | "layer" | "upper generation";
	/** 16 bytes in hex: the file system's own uuid, or a random one. A lower is a home of its own with portable handles. */
	readonly uuid: string;
}

/** A space of inode numbers: a home, or one subvolume of a btrfs. */
export interface SpaceRecord {
	readonly number: number;
	readonly home: number;
	/** Hex of the subvolume's id on btrfs, else empty. */
	readonly subvolume: string;
}

export interface LayerRecord {
	readonly home: number;
	/** Type and bytes of the root's kernel handle, `type:hex`; with portable handles `names:hex`, a hash of the names in the root. */
	readonly root: string;
	/** A lower that once was an upper, and whose redirects have been noted. */
	readonly adopted?: boolean;
	/** How often its image was exchanged under it: which rows count (see RebaseRows). */
	readonly rebases?: number;
}

const FORMAT = 1;
const FILE_NAME = "registry";
/** Servers of a read-only export share a lock on it. It also says that there has been a registry. */
const LOCK_NAME = "lock";

/** The registry is damaged or was made by a newer holdfast. */
export class RegistryError extends Error {
	constructor(message: string) {
		super(message);
		this.name = "RegistryError";
	}
}

export function registryPath(folder: string): string {
	return join(folder, FILE_NAME);
}

export function keyLockPath(folder: string): string {
	return join(folder, LOCK_NAME);
}

/** Null when there is none. RegistryError when it cannot be understood: it holds the secrets, so a new one is never made in its place. */
export function readRegistry(folder: string): Registry | null {
	const path = registryPath(folder);
	let text: string;
	try {
		if (!lstatSync(path).isFile()) throw new Error("it is no file");
		text = readQuietly(path);
	} catch (error) {
		// only what is surely not there may be made: a link that leads nowhere, or a disk that fails, hides the secrets of an export
		if ((error as NodeJS.ErrnoException).code !== "ENOENT" || lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
			throw new RegistryError(`Cannot read ${path}: ${(error as Error).message}. ${RESTORE}`);
		}
		if (!existsSync(keyLockPath(folder))) return null;
		throw new RegistryError(
			`Cannot find ${path}: this export was served before, so its keys are lost. Restore that file from a backup; or, to begin anew, ` +
				`remove ${folder}: no handle that clients hold is good then.`,
		);
	}
	let parsed: { format?: unknown; registry?: Registry };
	try {
		parsed = JSON.parse(text);
	} catch {
		throw new RegistryError(`Cannot understand ${path}: it is damaged. ${RESTORE}`);
	}
	if (parsed === null || parsed.format !== FORMAT || !isRegistry(parsed.registry)) {
		throw new RegistryError(`Cannot understand ${path}: it is damaged, or of another holdfast. ${RESTORE}`);
	}
	const damage = damageOfKeys(parsed.registry);
	if (damage !== null) throw new RegistryError(`Cannot use the keys in ${path}: ${damage}. ${RESTORE}`);
	return parsed.registry;
}

/** Whoever only looks leaves no access time. */
function readQuietly(path: string): string {
	let file: number;
	try {
		file = openSync(path, constants.O_RDONLY | constants.O_NOATIME);
	} catch {
		// for its owner alone
		return readFileSync(path, "utf8");
	}
	try {
		return readFileSync(file, "utf8");
	} finally {
		closeSync(file);
	}
}

const RESTORE = "Restore it from a backup; without it no handle of this export is good.";

const hex16 = (text: unknown) => typeof text === "string" && /^[0-9a-f]{32}$/.test(text);

/** What is wrong with the keys, or null. No secret is told. */
function damageOfKeys({ keys, signingKey }: Registry): string | null {
	if (!Array.isArray(keys) || keys.length === 0) return "there are none";
	const ids = new Set<number>();
	for (const key of keys) {
		const id = key?.id;
		if (!Number.isInteger(id) || id < 1 || id > KEY_ID_MAX) return "one of them has no number of 1 to 255";
		if (ids.has(id)) return `there are two of number ${id}`;
		if (!hex16(key.secret)) return `the secret of key ${id} is not 16 bytes in hex`;
		ids.add(id);
	}
	return ids.has(signingKey) ? null : `the key that signs (${signingKey}) is not among them`;
}

function isRegistry(value: unknown): value is Registry {
	if (typeof value !== "object" || value === null) return false;
	const registry = value as Registry;
	return (
		Number.isInteger(registry.exportId) &&
		hex16(registry.uuid) &&
		hex16(registry.cookieSecret) &&
		Array.isArray(registry.homes) &&
		registry.homes.every((home) => Number.isInteger(home?.number) && hex16(home.uuid)) &&
		Array.isArray(registry.spaces) &&
		registry.spaces.every((space) => Number.isInteger(space?.number)) &&
		Array.isArray(registry.lowers) &&
		registry.lowers.every((lower) => typeof lower?.root === "string")
	);
}

/** Writes the registry of a new export. When another server was first, that one's is the right one: it is returned. */
export function createRegistry(folder: string, registry: Registry): Registry {
	const path = registryPath(folder);
	const aside = `${path}.${process.pid}`;
	writeDurably(aside, encodeRegistry(registry));
	try {
		// unlike rename(2), link(2) does not replace what somebody else wrote meanwhile
		linkSync(aside, path);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
	} finally {
		unlinkSync(aside);
	}
	flushFolder(folder);
	return readRegistry(folder) ?? registry;
}

/** Writes a file of mode 0600 aside, flushes it, renames it over its name and flushes the folder. */
export function writeDurably(path: string, content: Uint8Array): void {
	const aside = `${path}.new`;
	// never into what a link there leads to
	rmSync(aside, { force: true });
	const file = openSync(aside, "wx", 0o600);
	try {
		for (let at = 0; at < content.length; ) at += writeSync(file, content, at);
		fsyncSync(file);
	} finally {
		closeSync(file);
	}
	renameSync(aside, path);
	flushFolder(dirname(path));
}

/** Writes the registry of an export that has one. */
export function writeRegistry(folder: string, registry: Registry): void {
	writeDurably(registryPath(folder), encodeRegistry(registry));
}

function encodeRegistry(registry: Registry): Buffer {
	return Buffer.from(`${JSON.stringify({ format: FORMAT, registry }, null, "\t")}\n`);
}

/** Makes the names in a folder durable. */
export function flushFolder(path: string): void {
	const folder = openSync(path, "r");
	try {
		fsyncSync(folder);
	} finally {
		closeSync(folder);
	}
}

/** Identity and secrets of an export that is served for the first time. */
export function newSecrets(): Pick<Registry, "exportId" | "uuid" | "cookieSecret" | "keys" | "signingKey"> {
	return {
		exportId: randomBytes(4).readUInt32BE(0),
		uuid: randomBytes(16).toString("hex"),
		cookieSecret: randomBytes(16).toString("hex"),
		keys: [newKey(1)],
		signingKey: 1,
	};
}

export function newKey(id: number): KeyRecord {
	return { id, secret: randomBytes(16).toString("hex"), made: new Date().toISOString() };
}
