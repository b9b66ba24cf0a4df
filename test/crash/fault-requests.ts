/** Requests that are sent while a call fails: each to objects of a folder of its own, of which all are alike. */

import { linkSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FileType3, type Nfs3Client, Stable } from "../support/nfs3-client.ts";

/** Handles by the paths in the folder; "" is the folder itself. */
export type Handles = ReadonlyMap<string, Buffer>;
export type Send = (client: Nfs3Client, at: (path: string) => Buffer) => Promise<{ readonly status: number }>;

export interface FaultyRequest {
	readonly name: string;
	/** Requests without a fault before. */
	readonly prepare?: Send;
	readonly send: Send;
}

export const LARGE_BYTES = 2 * 1024 * 1024;

/** A lower with so many folders that are alike. */
export function plantFolders(lower: string, count: number): void {
	for (let i = 0; i < count; i++) {
		const folder = join(lower, `f${i}`);
		for (const path of ["dir/sub", "empty"]) mkdirSync(join(folder, path), { recursive: true });
		for (const path of ["file", "other", "one", "dir/inner"]) writeFileSync(join(folder, path), `${path} of a lower`);
		linkSync(join(folder, "one"), join(folder, "two"));
		symlinkSync("file", join(folder, "link"));
		writeFileSync(join(folder, "large"), "large");
		truncateSync(join(folder, "large"), LARGE_BYTES);
	}
}

const text = Buffer.from("written");
const verifier = Buffer.alloc(8);
const NOENT = 2;
/** No status of NFS: the answer tells of something that is not so. */
const WRONG = 1;

const create =
	(directory: string, name: string): Send =>
	(client, at) =>
		client.create(at(directory), name, { guarded: { mode: 0o640 } });
const write =
	(path: string, stable: number = Stable.fileSync): Send =>
	(client, at) =>
		client.write(at(path), 3n, text, stable);
const rename =
	(from: readonly [string, string], to: readonly [string, string]): Send =>
	(client, at) =>
		client.rename(at(from[0]), from[1], at(to[0]), to[1]);
const remove =
	(directory: string, name: string): Send =>
	(client, at) =>
		client.remove(at(directory), name);
const both =
	(first: Send, second: Send): Send =>
	async (client, at) => {
		const { status } = await first(client, at);
		return status === 0 ? second(client, at) : { status };
	};
/** Another object than it was is no answer. */
const lookup =
	(directory: string, name: string, path = `${directory}/${name}`): Send =>
	async (client, at) => {
		const reply = await client.lookup(at(directory), name);
		return reply.status === 0 && !reply.handle.equals(at(path)) ? { status: WRONG } : reply;
	};
const lookupOfNothing =
	(directory: string, name: string): Send =>
	async (client, at) => {
		const { status } = await client.lookup(at(directory), name);
		return { status: status === 0 ? WRONG : status === NOENT ? 0 : status };
	};
const list =
	(directory: string): Send =>
	async (client, at) => {
		const reply = await client.readdirplus(at(directory), 0n, verifier, 8192, 8192);
		if (reply.status !== 0) return reply;
		const prefix = directory === "" ? "" : `${directory}/`;
		// an entry may come without a handle
		const isWrong = reply.entries.some(({ name, handle }) => !name.startsWith(".") && handle !== null && !handle.equals(at(prefix + name)));
		return { status: isWrong ? WRONG : 0 };
	};
const replaced = (): Send =>
	both(
		both(remove("dir", "inner"), (client, at) => client.rmdir(at("dir"), "sub")),
		both(
			(client, at) => client.rmdir(at(""), "dir"),
			(client, at) => client.mkdir(at(""), "dir"),
		),
	);
const copiedUp: Send = (client, at) => client.setattr(at("file"), { mode: 0o600 });

export const REQUESTS: readonly FaultyRequest[] = [
	{ name: "GETATTR", send: (client, at) => client.getattr(at("file")) },
	{ name: "LOOKUP", send: lookup("dir", "inner") },
	{ name: "LOOKUP of nothing", send: lookupOfNothing("dir", "nothing") },
	{ name: "LOOKUP of what was removed", prepare: remove("dir", "inner"), send: lookupOfNothing("dir", "inner") },
	{ name: "LOOKUP in a directory that hides a lower one", prepare: replaced(), send: lookupOfNothing("dir", "inner") },
	{ name: "LOOKUP in a renamed directory", prepare: rename(["", "dir"], ["", "new"]), send: lookup("new", "inner") },
	{ name: "LOOKUP of a renamed directory", prepare: rename(["", "dir"], ["", "new"]), send: lookup("", "new", "new") },
	{ name: "LOOKUP of a copied up file", prepare: copiedUp, send: lookup("", "file", "file") },
	{ name: "LOOKUP of a copied up directory", prepare: create("dir", "new"), send: lookup("", "dir", "dir") },
	{ name: "LOOKUP of a file copied up in part", prepare: write("large"), send: lookup("", "large", "large") },
	{ name: "READDIRPLUS where something was removed", prepare: remove("dir", "inner"), send: list("dir") },
	{ name: "READDIRPLUS of a directory that hides a lower one", prepare: replaced(), send: list("dir") },
	{ name: "READDIRPLUS of copied up objects", prepare: both(copiedUp, create("dir", "new")), send: list("") },
	{ name: "ACCESS", send: (client, at) => client.access(at("file"), 1) },
	{ name: "READLINK", send: (client, at) => client.readlink(at("link")) },
	{ name: "READ", send: (client, at) => client.read(at("file"), 0n, 100) },
	{ name: "READ of a copied up file", prepare: copiedUp, send: (client, at) => client.read(at("file"), 0n, 100) },
	{ name: "READ of a file copied up in part", prepare: write("large"), send: (client, at) => client.read(at("large"), 0n, 70_000) },
	{ name: "READDIR", send: (client, at) => client.readdir(at(""), 0n, verifier, 4096) },
	{ name: "READDIRPLUS", send: list("") },
	{ name: "FSSTAT", send: (client, at) => client.fsstat(at("")) },
	{ name: "CREATE in a lower directory", send: create("dir", "new") },
	{ name: "CREATE in an upper directory", prepare: create("dir", "before"), send: create("dir", "new") },
	{ name: "CREATE over a whiteout", prepare: remove("", "file"), send: create("", "file") },
	{ name: "CREATE exclusive", send: (client, at) => client.create(at(""), "new", { exclusive: Buffer.from("verifier") }) },
	{ name: "MKDIR", send: (client, at) => client.mkdir(at("dir"), "new") },
	{ name: "SYMLINK", send: (client, at) => client.symlink(at("dir"), "new", "target") },
	{ name: "MKNOD", send: (client, at) => client.mknod(at("dir"), "new", FileType3.fifo) },
	{ name: "LINK of a lower file", send: (client, at) => client.link(at("file"), at("dir"), "new") },
	{ name: "LINK of a lower file of two names", send: (client, at) => client.link(at("one"), at("dir"), "new") },
	{ name: "WRITE to a lower file", send: write("file") },
	{ name: "WRITE to a lower file of two names", send: write("one") },
	{ name: "WRITE to a large lower file", send: write("large") },
	{ name: "WRITE to a file copied up in part", prepare: write("large"), send: (client, at) => client.write(at("large"), 1_000_000n, text) },
	{ name: "WRITE to a copied up file", prepare: copiedUp, send: write("file") },
	{
		name: "WRITE unstable, and COMMIT",
		prepare: copiedUp,
		send: both(write("file", Stable.unstable), (client, at) => client.commit(at("file"))),
	},
	{
		name: "COMMIT of a file copied up in part",
		prepare: write("large", Stable.unstable),
		send: (client, at) => client.commit(at("large")),
	},
	{ name: "SETATTR of the mode of a lower file", send: (client, at) => client.setattr(at("file"), { mode: 0o600 }) },
	{ name: "SETATTR of the mode of a large lower file", send: (client, at) => client.setattr(at("large"), { mode: 0o600 }) },
	{
		name: "SETATTR of the owner of a lower directory",
		send: (client, at) => client.setattr(at("dir/sub"), { uid: 7, gid: 8, mode: 0o711 }),
	},
	{ name: "SETATTR of the size of a lower file", send: (client, at) => client.setattr(at("file"), { size: 4n }) },
	{ name: "SETATTR of the size of a large lower file", send: (client, at) => client.setattr(at("large"), { size: 70_000n }) },
	{ name: "SETATTR of a larger size", prepare: copiedUp, send: (client, at) => client.setattr(at("file"), { size: 9000n, mode: 0o640 }) },
	{ name: "SETATTR of times", send: (client, at) => client.setattr(at("file"), { mtime: { sec: 5, nsec: 6 } }) },
	{ name: "RENAME of a lower file", send: rename(["", "file"], ["dir", "new"]) },
	{ name: "RENAME of a lower file of two names", send: rename(["", "one"], ["dir", "new"]) },
	{ name: "RENAME of a lower file over another", send: rename(["", "file"], ["", "other"]) },
	{ name: "RENAME of a lower file over one of two names", send: rename(["", "file"], ["", "two"]) },
	{ name: "RENAME of a lower directory", send: rename(["", "dir"], ["", "new"]) },
	{ name: "RENAME of a lower directory to another parent", send: rename(["dir", "sub"], ["empty", "new"]) },
	{ name: "RENAME of a lower directory over an empty one", send: rename(["", "dir"], ["", "empty"]) },
	{ name: "RENAME of a copied up file", prepare: copiedUp, send: rename(["", "file"], ["dir", "new"]) },
	{ name: "REMOVE of a lower file", send: remove("", "file") },
	{ name: "REMOVE of one of two names", send: remove("", "one") },
	{ name: "REMOVE of a copied up file", prepare: copiedUp, send: remove("", "file") },
	{ name: "REMOVE of one of two names of a copied up file", prepare: write("one"), send: remove("", "two") },
	{ name: "REMOVE of a file of upper", prepare: create("", "new"), send: remove("", "new") },
	{ name: "REMOVE of a file copied up in part", prepare: write("large"), send: remove("", "large") },
	{ name: "RMDIR of a lower directory", send: (client, at) => client.rmdir(at(""), "empty") },
	{
		name: "RMDIR of a directory with whiteouts",
		prepare: both(remove("dir", "inner"), (client, at) => client.rmdir(at("dir"), "sub")),
		send: (client, at) => client.rmdir(at(""), "dir"),
	},
];
