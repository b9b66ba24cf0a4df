// The registry: identity, secrets and numbers of an export, kept for ever.

import { createHash, randomBytes } from "node:crypto";
import {
	closeSync,
	constants,
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
import { whyNot } from "../../linux/errno.ts";
import { pathExists } from "../../linux/read-file.ts";
import { damageOf, damageOfKeys, type KeyRecord, type Registry } from "./registry-shape.ts";

export type { HomeRecord, KeyRecord, LayerRecord, Registry, SpaceRecord } from "./registry-shape.ts";
export { KEY_ID_MAX } from "./registry-shape.ts";

/** With a digest of the registry beside it. */
const FORMAT = 2;
/** Without one: read, and written anew by who may write. */
const FORMAT_BEFORE = 1;
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
	return readWithFormat(folder)?.registry ?? null;
}

/** Writes a registry of an earlier format anew, so that damage to it is found from now on. */
export function renewRegistry(folder: string): void {
	const found = readWithFormat(folder);
	if (found !== null && found.format !== FORMAT) writeRegistry(folder, found.registry);
}

function readWithFormat(folder: string): { readonly format: number; readonly registry: Registry } | null {
	const path = registryPath(folder);
	let bytes: Buffer;
	try {
		if (!lstatSync(path).isFile()) throw new Error("it is no file");
		bytes = readQuietly(path);
	} catch (error) {
		// only what is surely not there may be made: a link that leads nowhere, or a disk that fails, hides the secrets of an export
		if ((error as NodeJS.ErrnoException).code !== "ENOENT" || lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
			const { errno, message } = error as NodeJS.ErrnoException;
			const reason = errno === undefined ? message : whyNot(errno, path);
			throw new RegistryError(`Cannot read ${path}: ${reason}. ${RESTORE}`);
		}
		if (!pathExists(keyLockPath(folder))) return null;
		throw new RegistryError(
			`Cannot find ${path}: this export was served before, so its keys are lost. Restore that file from a backup; or, to begin anew, ` +
				`remove ${folder}: no handle that clients hold is good then.`,
		);
	}
	return decodeRegistry(path, bytes);
}

/** The same of bytes that were read there. */
export function decodeRegistry(path: string, bytes: Buffer): { readonly format: number; readonly registry: Registry } {
	let parsed: { readonly format?: unknown; readonly digest?: unknown; readonly registry?: unknown } | null;
	try {
		parsed = JSON.parse(bytes.toString("utf8"));
	} catch {
		throw new RegistryError(`Cannot understand ${path}: it is damaged. ${RESTORE}`);
	}
	const format = parsed?.format;
	if (typeof parsed !== "object" || parsed === null || (format !== FORMAT && format !== FORMAT_BEFORE)) {
		throw new RegistryError(`Cannot understand ${path}: it is damaged, or of another holdfast. ${RESTORE}`);
	}
	const { registry, ...around } = parsed;
	const expected = format === FORMAT ? ["format", "digest"] : ["format"];
	const isKeyed = typeof registry === "object" && registry !== null && Object.keys(registry).length > 0;
	const ofKeys = isKeyed ? damageOfKeys(registry as Registry) : null;
	if (ofKeys !== null) throw new RegistryError(`Cannot use the keys in ${path}: ${ofKeys}. ${RESTORE}`);
	const stray = Object.keys(around).find((name) => !expected.includes(name));
	const damage = stray !== undefined ? `the field "${stray}" is unknown` : damageOf(registry);
	if (damage !== null) throw new RegistryError(`Cannot understand ${path}: it is damaged, or of another holdfast: ${damage}. ${RESTORE}`);
	// byte for byte, so that no field counts that stands there twice, and none that was altered
	if (format === FORMAT && !bytes.equals(encodeRegistry(registry as Registry))) {
		throw new RegistryError(`Cannot use ${path}: it is damaged, for it does not have the digest that was written with it. ${RESTORE}`);
	}
	if (format === FORMAT_BEFORE && !bytes.equals(encodeFormer(registry as Registry))) refuseRepeated(path, bytes);
	return { format: format as number, registry: registry as Registry };
}

/** Written by somebody else, perhaps in another form: of a field that stands there twice the last would count. */
function refuseRepeated(path: string, bytes: Buffer): void {
	const names: Set<string>[] = [];
	const tokens = /"((?:[^"\\]|\\.)*)"(\s*:)?|[{}]/g;
	for (const [token, name, colon] of bytes.toString("utf8").matchAll(tokens)) {
		if (token === "{") names.push(new Set());
		else if (token === "}") names.pop();
		else if (colon !== undefined) {
			if (names.at(-1)?.has(name)) throw new RegistryError(`Cannot understand ${path}: the field "${name}" stands there twice. ${RESTORE}`);
			names.at(-1)?.add(name);
		}
	}
}

/** Whoever only looks leaves no access time. */
function readQuietly(path: string): Buffer {
	let file: number;
	try {
		file = openSync(path, constants.O_RDONLY | constants.O_NOATIME);
	} catch {
		// for its owner alone
		return readFileSync(path);
	}
	try {
		return readFileSync(file);
	} finally {
		closeSync(file);
	}
}

const RESTORE = "Restore it from a backup; without it no handle of this export is good.";

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
	} catch (error) {
		// of a descriptor the error says none
		throw Object.assign(error as Error, { path });
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
	const digest = createHash("sha256").update(JSON.stringify(registry)).digest("hex");
	return Buffer.from(`${JSON.stringify({ format: FORMAT, digest, registry }, null, "\t")}\n`);
}

function encodeFormer(registry: Registry): Buffer {
	return Buffer.from(`${JSON.stringify({ format: FORMAT_BEFORE, registry }, null, "\t")}\n`);
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
