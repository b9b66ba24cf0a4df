// The list's adapter for NFSv3: resolves paths, asks ACCESS before it opens, and names errors, as a client's kernel does.

import { Access3, type Attributes3, FileType3, type Nfs3Client, statusName } from "../support/nfs3-client.ts";
import {
	type Calls,
	type Errno,
	type FrontEnd,
	type NewTime,
	type ObjectType,
	type OpenFile,
	type PosixStat,
	Refusal,
	type Who,
} from "./front-end.ts";

export function nfs3FrontEnd(client: Nfs3Client, root: Buffer): FrontEnd {
	return {
		name: "NFSv3",
		keepsUnlinked: false,
		as: ({ uid, gid, gids = [] }: Who, folder: string) => new Nfs3Calls(client.as(uid, gid, gids), root, folder),
	};
}

/** Statuses whose name is not that of the error in lower case. */
const ERRNOS: Readonly<Record<string, Errno>> = { acces: "EACCES", dquot: "EDQUOT", notsupp: "EOPNOTSUPP" };

function errnoOf(status: number): Errno {
	const name = statusName(status);
	return ERRNOS[name] ?? `E${name.toUpperCase()}`;
}

type Ok<T> = Extract<T, { readonly status: 0 }>;

/** The reply, if it is a success. */
async function done<T extends { readonly status: number }>(what: string, reply: Promise<T>): Promise<Ok<T>> {
	const answer = await reply;
	if (answer.status !== 0) throw new Refusal(errnoOf(answer.status), what);
	return answer as Ok<T>;
}

const TYPES: Readonly<Record<number, ObjectType>> = {
	[FileType3.reg]: "file",
	[FileType3.dir]: "directory",
	[FileType3.lnk]: "symlink",
	[FileType3.fifo]: "fifo",
	[FileType3.sock]: "socket",
	[FileType3.chr]: "character",
	[FileType3.blk]: "block",
};
const NODES = { fifo: FileType3.fifo, socket: FileType3.sock, character: FileType3.chr, block: FileType3.blk } as const;

function statOf(attributes: Attributes3): PosixStat {
	const nanoseconds = ({ sec, nsec }: { sec: number; nsec: number }) => BigInt(sec) * 1_000_000_000n + BigInt(nsec);
	return {
		type: TYPES[attributes.type] as ObjectType,
		mode: attributes.mode & 0o7777,
		nlink: attributes.nlink,
		uid: attributes.uid,
		gid: attributes.gid,
		size: attributes.size,
		ino: attributes.fileid,
		atime: nanoseconds(attributes.atime),
		mtime: nanoseconds(attributes.mtime),
		ctime: nanoseconds(attributes.ctime),
		rdev: attributes.rdev,
	};
}

function timeOf(time: NewTime): { sec: number; nsec: number } | "server" | undefined {
	if (time === null) return undefined;
	return time === "now" ? "server" : { sec: Number(time / 1_000_000_000n), nsec: Number(time % 1_000_000_000n) };
}

class Nfs3Calls implements Calls {
	readonly #client: Nfs3Client;
	readonly #root: Buffer;
	readonly #folder: string;

	constructor(client: Nfs3Client, root: Buffer, folder: string) {
		this.#client = client;
		this.#root = root;
		this.#folder = folder;
	}

	async #find(path: string): Promise<Buffer> {
		let handle = this.#root;
		for (const name of `${this.#folder}/${path}`.split("/").filter((part) => part !== "")) {
			handle = (await done(`LOOKUP ${name} of ${path}`, this.#client.lookup(handle, name))).handle;
		}
		return handle;
	}

	/** The directory that holds the last name of a path, and that name. */
	async #parent(path: string): Promise<[directory: Buffer, name: string]> {
		const slash = path.lastIndexOf("/");
		return [await this.#find(path.slice(0, Math.max(slash, 0))), path.slice(slash + 1)];
	}

	async #demand(handle: Buffer, wanted: number, what: string): Promise<void> {
		const { granted } = await done(what, this.#client.access(handle, wanted));
		if ((granted & wanted) !== wanted) throw new Refusal("EACCES", what);
	}

	async stat(path: string): Promise<PosixStat> {
		return statOf((await done(`stat ${path}`, this.#client.getattr(await this.#find(path)))).attributes);
	}

	async list(path: string): Promise<string[]> {
		const handle = await this.#find(path);
		await this.#demand(handle, Access3.read, `list ${path}`);
		return (await this.#client.list(handle, { dots: false })).map(({ name }) => name).sort();
	}

	async readlink(path: string): Promise<string> {
		return (await done(`readlink ${path}`, this.#client.readlink(await this.#find(path)))).target;
	}

	async create(path: string, mode = 0o644): Promise<void> {
		const [directory, name] = await this.#parent(path);
		await done(`create ${path}`, this.#client.create(directory, name, { guarded: { mode } }));
	}

	async open(path: string, write: boolean): Promise<OpenFile> {
		const handle = await this.#find(path);
		const what = `open ${path}`;
		const { attributes } = await done(what, this.#client.getattr(handle));
		if (attributes.type === FileType3.lnk) throw new Refusal("ELOOP", what);
		if (attributes.type === FileType3.dir && write) throw new Refusal("EISDIR", what);
		await this.#demand(handle, Access3.read | (write ? Access3.modify : 0), what);
		const client = this.#client;
		return {
			read: async () => {
				const { data } = await done("READ", client.read(handle, 0n, 1 << 20));
				return data.toString();
			},
			write: async (offset, text) => void (await done("WRITE", client.write(handle, BigInt(offset), Buffer.from(text)))),
			stat: async () => statOf((await done("GETATTR", client.getattr(handle))).attributes),
			close: async () => {},
		};
	}

	async mkdir(path: string, mode = 0o755): Promise<void> {
		const [directory, name] = await this.#parent(path);
		await done(`mkdir ${path}`, this.#client.mkdir(directory, name, { mode }));
	}

	async symlink(target: string, path: string): Promise<void> {
		const [directory, name] = await this.#parent(path);
		await done(`symlink ${path}`, this.#client.symlink(directory, name, target));
	}

	async mknod(path: string, type: keyof typeof NODES, mode: number, major = 0, minor = 0): Promise<void> {
		const [directory, name] = await this.#parent(path);
		await done(`mknod ${path}`, this.#client.mknod(directory, name, NODES[type], { mode }, [major, minor]));
	}

	async link(from: string, to: string): Promise<void> {
		const handle = await this.#find(from);
		const [directory, name] = await this.#parent(to);
		await done(`link ${from} ${to}`, this.#client.link(handle, directory, name));
	}

	async unlink(path: string): Promise<void> {
		const [directory, name] = await this.#parent(path);
		await done(`unlink ${path}`, this.#client.remove(directory, name));
	}

	async rmdir(path: string): Promise<void> {
		const [directory, name] = await this.#parent(path);
		await done(`rmdir ${path}`, this.#client.rmdir(directory, name));
	}

	async rename(from: string, to: string): Promise<void> {
		const [source, old] = await this.#parent(from);
		const [target, name] = await this.#parent(to);
		await done(`rename ${from} ${to}`, this.#client.rename(source, old, target, name));
	}

	async chmod(path: string, mode: number): Promise<void> {
		await done(`chmod ${path}`, this.#client.setattr(await this.#find(path), { mode }));
	}

	async chown(path: string, uid: number | null, gid: number | null): Promise<void> {
		const change = { ...(uid === null ? {} : { uid }), ...(gid === null ? {} : { gid }) };
		await done(`chown ${path}`, this.#client.setattr(await this.#find(path), change));
	}

	async truncate(path: string, size: bigint): Promise<void> {
		const handle = await this.#find(path);
		const { attributes } = await done(`truncate ${path}`, this.#client.getattr(handle));
		if (attributes.type === FileType3.dir) throw new Refusal("EISDIR", `truncate ${path}`);
		await this.#demand(handle, Access3.modify, `truncate ${path}`);
		await done(`truncate ${path}`, this.#client.setattr(handle, { size }));
	}

	async utimes(path: string, atime: NewTime, mtime: NewTime): Promise<void> {
		const times = { atime: timeOf(atime), mtime: timeOf(mtime) };
		const change = Object.fromEntries(Object.entries(times).filter(([, time]) => time !== undefined));
		await done(`utimes ${path}`, this.#client.setattr(await this.#find(path), change));
	}
}
