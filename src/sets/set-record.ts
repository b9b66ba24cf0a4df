// The file in the folder of a set that says which tree it belongs to.

import { createHash } from "node:crypto";
import { join } from "node:path";
import { whyNot } from "../linux/errno.ts";
import { readFileNamed } from "../linux/read-file.ts";
import { writeDurably } from "../overlay/work/registry.ts";
import type { TreeIdentity } from "./tree-identity.ts";

export const RECORD_FILE = "set.json";

const FORMAT = 1;

export interface SetRecord {
	/** As it was when the set was served last. */
	readonly tree: TreeIdentity;
	readonly made: string;
	/** When a server had it last; null: none has yet. */
	readonly served: string | null;
	/** Found by its tree alone, where several sets belong to that: no name was asked for when it was made. */
	readonly isDefault: boolean;
	/** Goes with its server. */
	readonly isEphemeral: boolean;
}

/** The record of a set is not as it was written: the message is a sentence. */
export class RecordError extends Error {
	/** It may be whole: its disk, or this process, failed. */
	readonly isUnread: boolean;

	constructor(message: string, isUnread = false) {
		super(message);
		this.isUnread = isUnread;
	}
}

/** Null: there is none, as in a set of an earlier version. RecordError. */
export function readRecord(folder: string): SetRecord | null {
	const path = join(folder, RECORD_FILE);
	let bytes: Buffer;
	try {
		bytes = readFileNamed(path);
	} catch (error) {
		const { code, errno = 0 } = error as NodeJS.ErrnoException;
		if (code === "ENOENT") return null;
		throw new RecordError(`Cannot read ${path}: ${whyNot(errno, path)}.`, code !== "EACCES" && code !== "ENXIO");
	}
	const record = parse(bytes);
	if (record === null) throw new RecordError(`Cannot use ${path}: it is damaged, or of another holdfast.`);
	return record;
}

/** Byte for byte, so that a field that was altered, or stands there twice, is noticed. */
function parse(bytes: Buffer): SetRecord | null {
	try {
		const { set } = JSON.parse(bytes.toString("utf8")) as { readonly set: SetRecord };
		return hasShape(set) && bytes.equals(encode(set)) ? set : null;
	} catch {
		return null;
	}
}

/** Root reads records that others wrote. */
function hasShape({ tree, made, served, isDefault, isEphemeral }: SetRecord): boolean {
	const isText = (value: unknown) => typeof value === "string";
	return (
		[tree.path, tree.device, tree.inode, made].every(isText) &&
		/^\d+$/.test(tree.inode) &&
		[tree.uuid, tree.handle, tree.birth, tree.names, served].every((value) => value === null || isText(value)) &&
		typeof isDefault === "boolean" &&
		typeof isEphemeral === "boolean"
	);
}

export function writeRecord(folder: string, record: SetRecord): void {
	writeDurably(join(folder, RECORD_FILE), encode(record));
}

function encode(set: SetRecord): Buffer {
	const digest = createHash("sha256").update(JSON.stringify(set)).digest("hex");
	return Buffer.from(`${JSON.stringify({ format: FORMAT, digest, set }, null, "\t")}\n`);
}
