import assert from "node:assert/strict";
import { FileType3, type Nfs3Client, Nfs3Status, statusName } from "../support/nfs3-client.ts";

/** What an actor knows of one object: the reply to each of its requests follows from it. */
interface Known {
	readonly type: "reg" | "dir" | "lnk" | "fifo";
	readonly handle: string;
	content: Buffer;
	mode: number;
	/** Names that lie outside the actor's folder. */
	readonly otherLinks: number;
}

/** Reproducible numbers (mulberry32). */
export function generator(seed: number): (below: number) => number {
	let state = seed >>> 0;
	return (below) => {
		state = (state + 0x6d2b79f5) >>> 0;
		let mixed = Math.imul(state ^ (state >>> 15), state | 1);
		mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
		return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
	};
}

const NAMES = 12;

/**
 * A program that works in a folder of its own, one request after another, and knows what is to come of each.
 * Every change is done exactly once, or its reply or the tree is another one.
 */
export class Actor {
	readonly #client: Nfs3Client;
	readonly #random: (below: number) => number;
	/** By path; "" is the actor's own folder. */
	readonly #names = new Map<string, Known>();
	/** Handles of objects that are gone. */
	readonly #gone: string[] = [];
	readonly #log: string[] = [];
	requests = 0;

	constructor(client: Nfs3Client, seed: number) {
		this.#client = client;
		this.#random = generator(seed);
	}

	/** Takes what lies in the folder for what is known. */
	async learn(folder: Buffer): Promise<void> {
		const attributes = await this.#client.attributesOf(folder);
		this.#names.set("", { type: "dir", handle: folder.toString("hex"), content: Buffer.alloc(0), mode: attributes.mode, otherLinks: 0 });
		const objects = new Map<string, Known>();
		const tree = await this.#client.tree(folder);
		for (const [path, { handle, attributes }] of tree) {
			const key = handle.toString("hex");
			const type = attributes.type === FileType3.dir ? "dir" : attributes.type === FileType3.lnk ? "lnk" : "reg";
			const names = [...tree.values()].filter((other) => other.handle.equals(handle)).length;
			const known = objects.get(key) ?? {
				type,
				handle: key,
				content: type === "reg" ? await this.#client.readFile(handle) : Buffer.alloc(0),
				mode: attributes.mode,
				otherLinks: attributes.nlink - names,
			};
			objects.set(key, known);
			this.#names.set(path, known);
		}
	}

	/** One request. */
	async step(): Promise<void> {
		const kind = this.#random(100);
		const path = this.#freshPath();
		const known = this.#names.get(path);
		this.requests++;
		if (known === undefined) {
			if (kind < 30) await this.#create(path);
			else if (kind < 45) await this.#mkdir(path);
			else if (kind < 52) await this.#symlink(path);
			else if (kind < 57) await this.#mknod(path);
			else if (kind < 75) await this.#link(path);
			else await this.#rename(path);
			return;
		}
		if (known.type === "dir") {
			if (kind < 40) await this.#rmdir(path);
			else if (kind < 70) await this.#rename(path);
			else if (kind < 80) await this.#mkdir(path);
			else await this.#setattr(path, known);
			return;
		}
		if (kind < 25) await this.#remove(path);
		else if (kind < 45) await this.#rename(path);
		else if (kind < 52) await this.#create(path);
		else if (kind < 60 && known.type === "reg") await this.#cut(path, known);
		else if (kind < 80 && known.type === "reg") await this.#write(path, known);
		else if (known.type !== "lnk") await this.#setattr(path, known);
	}

	#freshPath(): string {
		const directories = [...this.#names].filter(([, known]) => known.type === "dir").map(([path]) => path);
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
		return Buffer.from((this.#names.get(path) as Known).handle, "hex");
	}

	#place(path: string): [directory: Buffer, name: string] {
		const parts = path.split("/");
		const name = parts.pop() as string;
		return [this.#at(parts.join("/")), name];
	}

	#expect(what: string, status: number, expected: keyof typeof Nfs3Status): void {
		this.#log.push(`${what}: ${statusName(status)}`);
		if (status === Nfs3Status[expected]) return;
		assert.fail(`${what}: answered ${statusName(status)} and not ${expected}\n${this.#log.slice(-12).join("\n")}`);
	}

	#add(path: string, handle: Buffer | null, type: Known["type"], mode: number): void {
		assert.ok(handle, `no handle for ${path}`);
		this.#names.set(path, { type, handle: handle.toString("hex"), content: Buffer.alloc(0), mode, otherLinks: 0 });
	}

	#lose(path: string): void {
		const known = this.#names.get(path) as Known;
		this.#names.delete(path);
		if (known.otherLinks > 0 || [...this.#names.values()].includes(known)) return;
		this.#gone.push(known.handle);
	}

	async #create(path: string): Promise<void> {
		const reply = await this.#client.create(...this.#place(path), { guarded: { mode: 0o640 } });
		this.#expect(`CREATE ${path}`, reply.status, this.#names.has(path) ? "exist" : "ok");
		if (reply.status === 0) this.#add(path, reply.handle, "reg", 0o640);
	}

	async #mkdir(path: string): Promise<void> {
		const reply = await this.#client.mkdir(...this.#place(path), { mode: 0o750 });
		this.#expect(`MKDIR ${path}`, reply.status, this.#names.has(path) ? "exist" : "ok");
		if (reply.status === 0) this.#add(path, reply.handle, "dir", 0o750);
	}

	async #symlink(path: string): Promise<void> {
		const reply = await this.#client.symlink(...this.#place(path), "target");
		this.#expect(`SYMLINK ${path}`, reply.status, "ok");
		if (reply.status === 0) this.#add(path, reply.handle, "lnk", 0o777);
	}

	async #mknod(path: string): Promise<void> {
		const reply = await this.#client.mknod(...this.#place(path), FileType3.fifo, { mode: 0o600 });
		this.#expect(`MKNOD ${path}`, reply.status, "ok");
		if (reply.status === 0) this.#add(path, reply.handle, "fifo", 0o600);
	}

	async #link(path: string): Promise<void> {
		const files = [...this.#names].filter(([, known]) => known.type !== "dir");
		if (files.length === 0) return;
		const [from, known] = files[this.#random(files.length)] as [string, Known];
		const reply = await this.#client.link(this.#at(from), ...this.#place(path));
		this.#expect(`LINK ${from} ${path}`, reply.status, "ok");
		this.#names.set(path, known);
	}

	async #remove(path: string): Promise<void> {
		const reply = await this.#client.remove(...this.#place(path));
		this.#expect(`REMOVE ${path}`, reply.status, "ok");
		this.#lose(path);
	}

	#isEmpty(path: string): boolean {
		return ![...this.#names.keys()].some((other) => other.startsWith(`${path}/`));
	}

	async #rmdir(path: string): Promise<void> {
		const reply = await this.#client.rmdir(...this.#place(path));
		this.#expect(`RMDIR ${path}`, reply.status, this.#isEmpty(path) ? "ok" : "notempty");
		if (reply.status === 0) this.#lose(path);
	}

	/** Something onto this path. */
	async #rename(to: string): Promise<void> {
		const all = [...this.#names].filter(([path]) => path !== "");
		if (all.length === 0) return;
		const [from, source] = all[this.#random(all.length)] as [string, Known];
		const target = this.#names.get(to);
		const reply = await this.#client.rename(...this.#place(from), ...this.#place(to));
		const isDirectory = source.type === "dir";
		let expected: keyof typeof Nfs3Status = "ok";
		if (source !== target) {
			if (isDirectory && `${to}/`.startsWith(`${from}/`)) expected = "inval";
			else if (target !== undefined && isDirectory && target.type !== "dir") expected = "notdir";
			else if (target !== undefined && !isDirectory && target.type === "dir") expected = "isdir";
			else if (target?.type === "dir" && !this.#isEmpty(to)) expected = "notempty";
		}
		this.#expect(`RENAME ${from} ${to}`, reply.status, expected);
		if (reply.status !== 0 || source === target) return;
		if (target !== undefined) this.#lose(to);
		for (const [path, known] of all) {
			if (path !== from && !path.startsWith(`${from}/`)) continue;
			this.#names.delete(path);
			this.#names.set(to + path.slice(from.length), known);
		}
	}

	/** As open(2) with O_CREAT and O_TRUNC does. */
	async #cut(path: string, known: Known): Promise<void> {
		const reply = await this.#client.create(...this.#place(path), { unchecked: { size: 0n } });
		this.#expect(`CREATE unchecked ${path}`, reply.status, "ok");
		known.content = Buffer.alloc(0);
		assert.equal((reply as { handle: Buffer | null }).handle?.toString("hex"), known.handle, `handle of ${path} by CREATE unchecked`);
	}

	async #write(path: string, known: Known): Promise<void> {
		const data = Buffer.from(`${path} ${this.#random(1e9)}`);
		const offset = this.#random(40);
		const reply = await this.#client.write(this.#at(path), BigInt(offset), data);
		this.#expect(`WRITE ${path}`, reply.status, "ok");
		const content = Buffer.alloc(Math.max(known.content.length, offset + data.length));
		known.content.copy(content);
		data.copy(content, offset);
		known.content = content;
	}

	async #setattr(path: string, known: Known): Promise<void> {
		const mode = this.#random(0o1000) | 0o700;
		const reply = await this.#client.setattr(this.#at(path), { mode });
		this.#expect(`SETATTR ${path}`, reply.status, "ok");
		known.mode = mode;
	}

	/** What is wrong with the folder as it is now. */
	async check(): Promise<void> {
		const tree = await this.#client.tree(this.#at(""));
		const describe = (handle: string, mode: number, nlink: number | string, content: string) =>
			`${handle} ${mode.toString(8)} ${nlink} ${content}`;
		const found: string[] = [];
		for (const [path, { handle, attributes }] of tree) {
			assert.equal(attributes.type === FileType3.dir, this.#names.get(path)?.type === "dir", `type of ${path}`);
			const content = attributes.type === FileType3.reg ? (await this.#client.readFile(handle)).toString("latin1") : "";
			const nlink = attributes.type === FileType3.dir ? "-" : attributes.nlink;
			found.push(`${path} ${describe(handle.toString("hex"), attributes.mode, nlink, content)}`);
		}
		const wanted = [...this.#names]
			.filter(([path]) => path !== "")
			.map(([path, known]) => {
				const names = [...this.#names.values()].filter((other) => other === known).length;
				const nlink = known.type === "dir" ? "-" : names + known.otherLinks;
				return `${path} ${describe(known.handle, known.mode, nlink, known.content.toString("latin1"))}`;
			});
		assert.deepEqual(found.sort(), wanted.sort(), `the tree\n${this.#log.slice(-20).join("\n")}`);
		for (const handle of this.#gone.slice(-200)) {
			const { status } = await this.#client.getattr(Buffer.from(handle, "hex"));
			assert.equal(statusName(status), "stale", "a handle of what was removed");
		}
	}
}
