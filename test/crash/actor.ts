import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type Attributes3, FileType3, type Nfs3Client, type Nfs3Status, Stable, statusName } from "../support/nfs3-client.ts";
import { generator } from "../support/random.ts";

type Kind = "reg" | "dir" | "lnk" | "fifo";
type StatusName = keyof typeof Nfs3Status;

/** What an actor knows of one object: the reply to each of its requests follows from it. */
interface Known {
	readonly type: Kind;
	/** In hex; null until the server has told it. */
	handle: string | null;
	/** Null until it was seen. */
	fileid: bigint | null;
	content: Buffer;
	mode: number;
	/** Names that lie outside the actor's folder. */
	readonly otherLinks: number;
}

/** What lies in the folder of an actor. */
interface State {
	/** By path; "" is the actor's own folder. */
	readonly names: Map<string, Known>;
	/** Handles of objects that are gone. */
	readonly gone: string[];
}

export interface Answered {
	readonly status: number;
	readonly handle?: Buffer | null;
	readonly count?: number;
}

/** What changes something: an Nfs3Client, or a client of another version that answers as that does. */
export interface Changes {
	create(directory: Buffer, name: string, how: { guarded: { mode: number } } | { unchecked: { size: bigint } }): Promise<Answered>;
	mkdir(directory: Buffer, name: string, initial: { mode: number }): Promise<Answered>;
	symlink(directory: Buffer, name: string, target: string): Promise<Answered>;
	mknod(directory: Buffer, name: string, type: number, initial: { mode: number }): Promise<Answered>;
	link(object: Buffer, directory: Buffer, name: string): Promise<Answered>;
	remove(directory: Buffer, name: string): Promise<Answered>;
	rmdir(directory: Buffer, name: string): Promise<Answered>;
	rename(from: Buffer, fromName: string, to: Buffer, toName: string): Promise<Answered>;
	write(object: Buffer, offset: bigint, data: Uint8Array, stable: number): Promise<Answered>;
	commit(object: Buffer): Promise<unknown>;
	setattr(object: Buffer, change: { mode: number }): Promise<Answered>;
}

/** One request: what it is to be answered, and what it makes of the folder. */
interface Change {
	readonly what: string;
	readonly expected: StatusName;
	/** What it is answered where it was made before, and that is not known any more. */
	readonly repeated: StatusName | null;
	readonly send: () => Promise<Answered>;
	/** `reply` is null as long as there is none. */
	readonly apply: (state: State, reply: Answered | null) => void;
	/** The path of what it makes. */
	readonly makes?: string;
	/** The path of what it writes to: a kill may leave a part of that. */
	readonly writes?: string;
}

export interface ActorOptions {
	/** There may be no room: a change may be refused for that, and then has not happened. */
	readonly mayBeFull?: boolean;
	/** Of a WRITE. */
	readonly writeBytesMax?: number;
	/** WRITEs that are not stable, and COMMITs. */
	readonly hasUnstable?: boolean;
	/** By whom changes are made; default: the client. */
	readonly changes?: Changes;
	/** A rename onto an object of another kind is EXIST, as in version 4. */
	readonly kindsExist?: boolean;
}

const NAMES = 12;
/** Longer ones are compared by their digest. */
const SHOWN_BYTES_MAX = 200;
const GONE_ASKED_MAX = 200;
const NOTHING = Buffer.alloc(0);

/**
 * A program that works in a folder of its own, one request after another, and knows what is to come of each.
 * Every change is done exactly once, or its reply or the tree is another one.
 */
export class Actor {
	readonly #client: Nfs3Client;
	readonly #changes: Changes;
	readonly #random: (below: number) => number;
	readonly #options: ActorOptions;
	readonly #state: State = { names: new Map(), gone: [] };
	readonly #log: string[] = [];
	/** Sent, or about to be, and not answered. */
	#pending: Change | null = null;
	/** Whether a check has seen that the pending change was made, and the handle of what it has made. */
	#seen: { readonly isMade: boolean; readonly handle: string | null } | null = null;
	requests = 0;
	/** Changes that were answered with success. */
	acknowledged = 0;
	/** Refused for want of room, by procedure. */
	readonly refused: Record<string, number> = {};
	/** Changes that were made, and then answered as if they had not been, by procedure. */
	readonly unkept: Record<string, number> = {};

	constructor(client: Nfs3Client, seed: number, options: ActorOptions = {}) {
		this.#client = client;
		this.#changes = options.changes ?? client;
		this.#random = generator(seed);
		this.#options = options;
	}

	/** Takes what lies in the folder for what is known. */
	async learn(folder: Buffer): Promise<void> {
		const { names } = this.#state;
		names.set("", { ...known("dir", folder, (await this.#client.attributesOf(folder)).mode), fileid: null });
		const objects = new Map<string, Known>();
		const tree = await this.#client.tree(folder);
		for (const [path, { handle, attributes }] of tree) {
			const key = handle.toString("hex");
			const type = attributes.type === FileType3.dir ? "dir" : attributes.type === FileType3.lnk ? "lnk" : "reg";
			const others = [...tree.values()].filter((other) => other.handle.equals(handle)).length;
			const object = objects.get(key) ?? {
				type,
				handle: key,
				fileid: attributes.fileid,
				content: type === "reg" ? await this.#client.readFile(handle) : NOTHING,
				mode: attributes.mode,
				otherLinks: attributes.nlink - others,
			};
			objects.set(key, object);
			names.set(path, object);
		}
	}

	/** One request. */
	async step(): Promise<void> {
		const change = this.#choose();
		this.requests++;
		if (change === null) return;
		this.#pending = change;
		this.#seen = null;
		const reply = await change.send();
		this.#answered(change, reply);
		this.#pending = null;
	}

	#answered(change: Change, reply: Answered): void {
		const { what, expected, repeated } = change;
		const status = statusName(reply.status);
		this.#log.push(
			`${what}: ${status}${this.#seen === null ? "" : this.#seen.isMade ? " (was seen to be made)" : " (was seen not to be made)"}`,
		);
		const { mayBeFull = false } = this.#options;
		if (mayBeFull && this.#seen?.isMade && (status === repeated || status === "nospc")) {
			// without room no answer is kept over a kill; that of a WRITE never is
			if (change.writes === undefined) count(this.unkept, what);
			change.apply(this.#state, null);
			if (change.makes !== undefined) (this.#state.names.get(change.makes) as Known).handle = this.#seen.handle;
			return;
		}
		if (mayBeFull && status === "nospc") {
			count(this.refused, what);
			assert.ok(!this.#seen?.isMade, this.#told(`${what}: refused, but it was seen to be made`));
			return;
		}
		if (status !== expected) assert.fail(this.#told(`${what}: answered ${status} and not ${expected}`));
		if (status !== "ok") return;
		this.acknowledged++;
		change.apply(this.#state, reply);
		if (change.makes === undefined) return;
		assert.ok(reply.handle, `no handle for ${change.makes}`);
		if (this.#seen?.isMade)
			assert.equal(reply.handle.toString("hex"), this.#seen.handle, this.#told("the handle in the answer to a repetition"));
	}

	#told(what: string): string {
		return `${what}\n${this.#log.slice(-12).join("\n")}`;
	}

	#choose(): Change | null {
		const kind = this.#random(100);
		const path = this.#freshPath();
		const there = this.#state.names.get(path);
		if (there === undefined) {
			if (kind < 30) return this.#create(path);
			if (kind < 45) return this.#mkdir(path);
			if (kind < 52) return this.#symlink(path);
			if (kind < 57) return this.#mknod(path);
			if (kind < 75) return this.#link(path);
			return this.#rename(path);
		}
		if (there.type === "dir") {
			if (kind < 40) return this.#rmdir(path);
			if (kind < 70) return this.#rename(path);
			if (kind < 80) return this.#mkdir(path);
			return this.#setattr(path, there);
		}
		if (kind < 25) return this.#remove(path);
		if (kind < 45) return this.#rename(path);
		if (kind < 52) return this.#create(path);
		if (kind < 60 && there.type === "reg") return this.#cut(path);
		if (kind < 80 && there.type === "reg") return this.#write(path, there);
		return there.type === "lnk" ? null : this.#setattr(path, there);
	}

	#freshPath(): string {
		const directories = [...this.#state.names].filter(([, { type }]) => type === "dir").map(([path]) => path);
		const directory = directories[this.#random(directories.length)] as string;
		if (directory.split("/").length > 4) return this.#join("", this.#name());
		return this.#join(directory, this.#name());
	}

	#name(): string {
		const names = ["one", "two", "three", "dir", "sub", "file"];
		const number = this.#random(NAMES);
		return names[number] ?? `n${number}`;
	}

	#join(directory: string, name: string): string {
		return directory === "" ? name : `${directory}/${name}`;
	}

	#at(path: string): Buffer {
		return Buffer.from(this.#state.names.get(path)?.handle as string, "hex");
	}

	#place(path: string): [directory: Buffer, name: string] {
		const parts = path.split("/");
		const name = parts.pop() as string;
		return [this.#at(parts.join("/")), name];
	}

	#make(procedure: string, path: string, type: Kind, mode: number, send: () => Promise<Answered>): Change {
		if (this.#state.names.has(path)) return { what: `${procedure} ${path}`, expected: "exist", repeated: null, send, apply: () => {} };
		const apply = ({ names }: State, reply: Answered | null) => names.set(path, known(type, reply?.handle ?? null, mode));
		return { what: `${procedure} ${path}`, expected: "ok", repeated: "exist", send, apply, makes: path };
	}

	#create(path: string): Change {
		const [directory, name] = this.#place(path);
		return this.#make("CREATE", path, "reg", 0o640, () => this.#changes.create(directory, name, { guarded: { mode: 0o640 } }));
	}

	#mkdir(path: string): Change {
		const [directory, name] = this.#place(path);
		return this.#make("MKDIR", path, "dir", 0o750, () => this.#changes.mkdir(directory, name, { mode: 0o750 }));
	}

	#symlink(path: string): Change {
		const [directory, name] = this.#place(path);
		return this.#make("SYMLINK", path, "lnk", 0o777, () => this.#changes.symlink(directory, name, "target"));
	}

	#mknod(path: string): Change {
		const [directory, name] = this.#place(path);
		return this.#make("MKNOD", path, "fifo", 0o600, () => this.#changes.mknod(directory, name, FileType3.fifo, { mode: 0o600 }));
	}

	#link(path: string): Change | null {
		const files = [...this.#state.names].filter(([, { type }]) => type !== "dir");
		if (files.length === 0) return null;
		const [from] = files[this.#random(files.length)] as [string, Known];
		const [object, place] = [this.#at(from), this.#place(path)];
		return {
			what: `LINK ${from} ${path}`,
			expected: "ok",
			repeated: "exist",
			send: () => this.#changes.link(object, ...place),
			apply: ({ names }) => names.set(path, names.get(from) as Known),
		};
	}

	#remove(path: string): Change {
		const place = this.#place(path);
		const send = () => this.#changes.remove(...place);
		return { what: `REMOVE ${path}`, expected: "ok", repeated: "noent", send, apply: (state) => lose(state, path) };
	}

	#isEmpty(path: string): boolean {
		return ![...this.#state.names.keys()].some((other) => other.startsWith(`${path}/`));
	}

	#rmdir(path: string): Change {
		const place = this.#place(path);
		const send = () => this.#changes.rmdir(...place);
		const isEmpty = this.#isEmpty(path);
		const apply = (state: State) => {
			if (isEmpty) lose(state, path);
		};
		return { what: `RMDIR ${path}`, expected: isEmpty ? "ok" : "notempty", repeated: isEmpty ? "noent" : null, send, apply };
	}

	/** Something onto this path. */
	#rename(to: string): Change | null {
		const all = [...this.#state.names].filter(([path]) => path !== "");
		if (all.length === 0) return null;
		const [from, source] = all[this.#random(all.length)] as [string, Known];
		const target = this.#state.names.get(to);
		const isDirectory = source.type === "dir";
		const { kindsExist = false } = this.#options;
		let expected: StatusName = "ok";
		if (source !== target) {
			if (isDirectory && `${to}/`.startsWith(`${from}/`)) expected = "inval";
			else if (target !== undefined && isDirectory && target.type !== "dir") expected = kindsExist ? "exist" : "notdir";
			else if (target !== undefined && !isDirectory && target.type === "dir") expected = kindsExist ? "exist" : "isdir";
			else if (target?.type === "dir" && !this.#isEmpty(to)) expected = "notempty";
		}
		const isChange = expected === "ok" && source !== target;
		const apply = (state: State) => {
			if (!isChange) return;
			if (target !== undefined) lose(state, to);
			for (const [path, object] of [...state.names]) {
				if (path !== from && !path.startsWith(`${from}/`)) continue;
				state.names.delete(path);
				state.names.set(to + path.slice(from.length), object);
			}
		};
		const places = [...this.#place(from), ...this.#place(to)] as [Buffer, string, Buffer, string];
		return {
			what: `RENAME ${from} ${to}`,
			expected,
			repeated: isChange ? "noent" : null,
			send: () => this.#changes.rename(...places),
			apply,
		};
	}

	/** As open(2) with O_CREAT and O_TRUNC does. */
	#cut(path: string): Change {
		const place = this.#place(path);
		return {
			what: `CREATE unchecked ${path}`,
			expected: "ok",
			repeated: null,
			send: () => this.#changes.create(...place, { unchecked: { size: 0n } }),
			apply: ({ names }, reply) => {
				const object = names.get(path) as Known;
				object.content = NOTHING;
				if (reply !== null) assert.equal(reply.handle?.toString("hex"), object.handle, `handle of ${path} by CREATE unchecked`);
			},
		};
	}

	#write(path: string, { content }: Known): Change {
		const { writeBytesMax = 0, hasUnstable = false } = this.#options;
		const text = Buffer.from(`${path} ${this.#random(1e9)}`);
		const data = writeBytesMax === 0 || this.#random(3) > 0 ? text : Buffer.alloc(1 + this.#random(writeBytesMax), text);
		const offset = this.#random(Math.max(40, Math.min(content.length, 1 << 20)));
		const object = this.#at(path);
		const isStable = !hasUnstable || this.#random(3) > 0;
		const send = async () => {
			const reply = await this.#changes.write(object, BigInt(offset), data, isStable ? Stable.fileSync : Stable.unstable);
			if (!isStable && reply.status === 0 && this.#random(2) === 0) await this.#changes.commit(object);
			return reply;
		};
		const apply = ({ names }: State, reply: Answered | null) => {
			const written = data.subarray(0, reply?.count ?? data.length);
			const file = names.get(path) as Known;
			const next = Buffer.alloc(Math.max(file.content.length, offset + written.length));
			file.content.copy(next);
			written.copy(next, offset);
			file.content = next;
		};
		return { what: `WRITE ${path} ${offset}+${data.length}`, expected: "ok", repeated: null, send, apply, writes: path };
	}

	#setattr(path: string, { handle }: Known): Change {
		const mode = this.#random(0o1000) | 0o700;
		const object = Buffer.from(handle as string, "hex");
		const apply = ({ names }: State) => {
			(names.get(path) as Known).mode = mode;
		};
		return { what: `SETATTR ${path}`, expected: "ok", repeated: null, send: () => this.#changes.setattr(object, { mode }), apply };
	}

	/**
	 * What is wrong with the folder as it is now. While a request waits for its answer it may be as before it or as after it, and which of
	 * them it was the answer must agree with. Handles are asked first: after a start, nothing else has found their objects yet.
	 */
	async check(client: Nfs3Client = this.#client): Promise<void> {
		const byHandle = await this.#askHandles(client);
		const tree = await client.tree(this.#at(""));
		const found = await describeTree(client, tree);
		const before = this.#state;
		if (this.#pending === null || this.#pending.expected !== "ok") {
			assert.deepEqual(found, describeState(before, tree), this.#told("the tree"));
			this.#compareHandles(byHandle, before, tree);
			return;
		}
		const after = copyOf(before);
		this.#pending.apply(after, null);
		const { what, makes, writes } = this.#pending;
		if (writes !== undefined) await this.#learnPart(client, writes, after, tree);
		const isMade = isDeepEqual(found, describeState(after, tree));
		if (!isMade) assert.deepEqual(found, describeState(before, tree), this.#told(`the tree, neither as before ${what} nor as after it`));
		const isSame = isMade && isDeepEqual(found, describeState(before, tree));
		this.#compareHandles(byHandle, isMade ? after : before, tree);
		if (!isSame) this.#seen = { isMade, handle: makes === undefined || !isMade ? null : (tree.get(makes)?.handle.toString("hex") ?? null) };
	}

	/** A kill may end a write(2) between two pages. What is there then is what was there before. */
	async #learnPart(client: Nfs3Client, path: string, after: State, tree: Tree): Promise<void> {
		const file = this.#state.names.get(path) as Known;
		const there = tree.get(path);
		if (there === undefined) return;
		const whole = (after.names.get(path) as Known).content;
		const part = await client.readFile(there.handle);
		if (part.equals(whole) || part.length < file.content.length || part.length > whole.length) return;
		if (part.every((byte, at) => byte === whole[at] || byte === (file.content[at] ?? 0))) file.content = part;
	}

	/** What each handle finds that was ever given out, of gone objects the last ones. */
	async #askHandles(client: Nfs3Client): Promise<Map<string, bigint | null>> {
		const { names, gone } = this.#state;
		const handles = new Set([...gone.slice(-GONE_ASKED_MAX), ...[...names.values()].map(({ handle }) => handle as string)]);
		const answers = await Promise.all(
			[...handles].map(async (handle): Promise<[string, bigint | null]> => {
				const reply = await client.getattr(Buffer.from(handle, "hex"));
				if (reply.status === 0) return [handle, reply.attributes.fileid];
				assert.equal(statusName(reply.status), "stale", this.#told("an old handle"));
				return [handle, null];
			}),
		);
		return new Map(answers);
	}

	#compareHandles(byHandle: ReadonlyMap<string, bigint | null>, { names, gone }: State, tree: Tree): void {
		for (const [path, object] of names) {
			if (object.handle === null) continue;
			const fileid = byHandle.get(object.handle);
			assert.notEqual(fileid, null, this.#told(`the handle of ${path} is stale`));
			if (path !== "") assert.equal(fileid, tree.get(path)?.attributes.fileid, this.#told(`the object that the handle of ${path} finds`));
			assert.ok(object.fileid === null || object.fileid === fileid, this.#told(`${path} has another fileid than before`));
			object.fileid = fileid ?? null;
		}
		for (const handle of gone.slice(-GONE_ASKED_MAX)) {
			assert.equal(byHandle.get(handle) ?? null, null, this.#told("a handle of what was removed"));
		}
	}
}

function count(counts: Record<string, number>, what: string): void {
	const [procedure] = what.split(" ");
	counts[procedure] = (counts[procedure] ?? 0) + 1;
}

type Tree = ReadonlyMap<string, { readonly handle: Buffer; readonly attributes: Attributes3 }>;

function known(type: Kind, handle: Buffer | null, mode: number): Known {
	return { type, handle: handle?.toString("hex") ?? null, fileid: null, content: NOTHING, mode, otherLinks: 0 };
}

function lose({ names, gone }: State, path: string): void {
	const object = names.get(path) as Known;
	names.delete(path);
	if (object.otherLinks > 0 || [...names.values()].includes(object)) return;
	gone.push(object.handle as string);
}

function copyOf({ names, gone }: State): State {
	const copies = new Map<Known, Known>();
	for (const object of names.values()) copies.set(object, { ...object });
	return { names: new Map([...names].map(([path, object]) => [path, copies.get(object) as Known])), gone: [...gone] };
}

function describe(path: string, handle: string, type: Kind, mode: number, nlink: number, content: Buffer): string {
	const shown =
		content.length <= SHOWN_BYTES_MAX
			? content.toString("latin1")
			: `${content.length} ${createHash("sha1").update(content).digest("hex")}`;
	return `${path} ${type} ${handle} ${mode.toString(8)} ${type === "dir" ? "-" : nlink} ${shown}`;
}

const KINDS: Readonly<Record<number, Kind>> = {
	[FileType3.reg]: "reg",
	[FileType3.dir]: "dir",
	[FileType3.lnk]: "lnk",
	[FileType3.fifo]: "fifo",
};

async function describeTree(client: Nfs3Client, tree: Tree): Promise<string[]> {
	const lines = [...tree].map(async ([path, { handle, attributes }]) => {
		const content = attributes.type === FileType3.reg ? await client.readFile(handle) : NOTHING;
		return describe(path, handle.toString("hex"), KINDS[attributes.type], attributes.mode, attributes.nlink, content);
	});
	return (await Promise.all(lines)).sort();
}

/** Handles that are not known yet are taken from the tree. */
function describeState({ names }: State, tree: Tree): string[] {
	const counts = new Map<Known, number>();
	for (const object of names.values()) counts.set(object, (counts.get(object) ?? 0) + 1);
	return [...names]
		.filter(([path]) => path !== "")
		.map(([path, object]) => {
			const handle = object.handle ?? tree.get(path)?.handle.toString("hex") ?? "";
			return describe(path, handle, object.type, object.mode, (counts.get(object) as number) + object.otherLinks, object.content);
		})
		.sort();
}

function isDeepEqual(a: readonly string[], b: readonly string[]): boolean {
	return a.length === b.length && a.every((line, index) => line === b[index]);
}
