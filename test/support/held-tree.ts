import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { plant, type TreeDescription } from "./lower-tree.ts";
import { FileType3, type Nfs3Client, ok, statusName } from "./nfs3-client.ts";
import type { Scratch } from "./scratch.ts";
import { type OrdinaryUser, type ServerProcess, startServer } from "./server-process.ts";

/** What a client keeps of an object, and what it knows of it. */
export interface Held {
	readonly handle: Buffer;
	readonly fileid: bigint;
	readonly type: number;
	/** Of a regular file, or where a symlink leads. */
	contents: string;
	/** Names that are not in the export. */
	outside: number;
}

/**
 * How a server ends before it starts again. "plain" is not at all; "cold" is SIGKILL, and the file system of the layers is
 * unmounted and mounted again, so that the kernel too has forgotten every name.
 */
export type Ending = "plain" | "SIGTERM" | "SIGKILL" | "cold";

export interface HeldTreeOptions {
	readonly inUpper?: TreeDescription;
	readonly args?: readonly string[];
	/** For "cold". */
	readonly remount?: () => void;
	/** Makes what a description cannot say, before the first serve. */
	readonly prepare?: (lowers: readonly string[]) => void;
	/** Who the server runs as; all layers are given to that user before the first serve. */
	readonly user?: OrdinaryUser;
}

/** An export of which every object is known: the paths that must be there, and the handles that must find them. */
export class HeldTree {
	server: ServerProcess;
	readonly upper: string;
	readonly root: Buffer;
	readonly #remount: (() => void) | undefined;
	client: Nfs3Client;
	/** By path from the root of the export, which itself is not in it. */
	readonly objects = new Map<string, Held>();
	/** Objects that are gone, by the path that they had, and how many were gone before. */
	readonly gone = new Map<string, Held>();

	private constructor(server: ServerProcess, upper: string, client: Nfs3Client, root: Buffer, remount: (() => void) | undefined) {
		this.server = server;
		this.upper = upper;
		this.client = client;
		this.root = root;
		this.#remount = remount;
	}

	static async start(made: Scratch, base: string, trees: readonly TreeDescription[], options: HeldTreeOptions = {}): Promise<HeldTree> {
		const upper = plant(join(base, "upper"), { "./": "", ...options.inUpper });
		const lowers = trees.map((tree, index) => plant(join(base, `lower${index}`), { "./": "", ...tree }));
		options.prepare?.(lowers);
		const state = made.folder("state");
		if (options.user !== undefined) giveTo(options.user, base, state);
		const server = await startServer(made, {
			lowers,
			upper,
			args: ["--async", "--state-dir", state, ...(options.args ?? [])],
			...(options.user === undefined ? {} : { user: options.user }),
		});
		const client = await server.client();
		const it = new HeldTree(server, upper, client, await client.root(), options.remount);
		made.beforeRemoval(() => it.client.close());
		return it;
	}

	async restart(how: Ending): Promise<void> {
		if (how === "plain") return;
		this.client.close();
		if (how === "SIGTERM") await this.server.terminate();
		else await this.server.kill();
		if (how === "cold") {
			assert.ok(this.#remount, "this tree lies on no file system of its own");
			this.#remount();
		}
		await this.server.start();
		this.client = await this.server.client();
	}

	/** Goes on with another server, which is not running yet: that of a copy of the layers. */
	async goOnWith(server: ServerProcess): Promise<void> {
		this.client.close();
		this.server = server;
		if (!server.running) await server.start();
		this.client = await server.client();
	}

	/** Takes a handle of everything that is there and is not held yet. */
	async takeAll(): Promise<void> {
		const byHandle = new Map([...this.objects.values()].map((held) => [held.handle.toString("hex"), held]));
		for (const [path, { handle, attributes }] of await this.client.tree(this.root)) {
			if (this.objects.has(path)) continue;
			const held = byHandle.get(handle.toString("hex")) ?? (await this.#hold(handle));
			byHandle.set(handle.toString("hex"), held);
			this.objects.set(path, held);
			assert.equal(attributes.fileid, held.fileid, `fileid of ${path}`);
		}
		for (const held of new Set(this.objects.values())) {
			if (held.type !== FileType3.dir) held.outside = (await this.client.attributesOf(held.handle)).nlink - this.namesOf(held).length;
		}
	}

	async #hold(handle: Buffer): Promise<Held> {
		const { fileid, type } = await this.client.attributesOf(handle);
		return { handle, fileid, type, contents: await this.#contentsOf(handle, type), outside: 0 };
	}

	async #contentsOf(handle: Buffer, type: number): Promise<string> {
		if (type === FileType3.reg) return (await this.client.readFile(handle)).toString();
		return type === FileType3.lnk ? (await ok(this.client.readlink(handle), "READLINK")).target : "";
	}

	namesOf(held: Held): string[] {
		return [...this.objects].filter(([, each]) => each === held).map(([path]) => path);
	}

	get(path: string): Held {
		const held = this.objects.get(path);
		assert.ok(held, `the test knows of no ${path}`);
		return held;
	}

	/** The handle of a directory by its path, without a request. */
	directory(path: string): Buffer {
		return path === "" ? this.root : this.get(path).handle;
	}

	at(path: string): [directory: Buffer, name: string] {
		const slash = path.lastIndexOf("/");
		return [this.directory(path.slice(0, Math.max(slash, 0))), path.slice(slash + 1)];
	}

	below(path: string): string[] {
		return [...this.objects.keys()].filter((each) => each.startsWith(`${path}/`));
	}

	async rename(from: string, to: string): Promise<void> {
		await ok(this.client.rename(...this.at(from), ...this.at(to)), `RENAME ${from} to ${to}`);
		this.noteRename(from, to);
	}

	noteRename(from: string, to: string): void {
		const replaced = this.objects.get(to);
		this.objects.delete(to);
		if (replaced) this.#noteUnlinked(to, replaced);
		const moved = [from, ...this.below(from)].map((path) => [`${to}${path.slice(from.length)}`, this.get(path)] as const);
		for (const path of [from, ...this.below(from)]) this.objects.delete(path);
		for (const [path, held] of moved) this.objects.set(path, held);
	}

	#noteUnlinked(path: string, held: Held): void {
		if (this.namesOf(held).length + held.outside === 0) this.gone.set(`${path} #${this.gone.size}`, held);
	}

	async makeDirectory(path: string): Promise<void> {
		await this.note(path, await this.client.makeDirectory(...this.at(path)));
	}

	async createFile(path: string, contents: string): Promise<void> {
		await this.note(path, await this.client.createFile(...this.at(path), contents));
	}

	/** A new object. */
	async note(path: string, handle: Buffer): Promise<void> {
		assert.equal(this.objects.has(path), false, `${path} was there before`);
		for (const held of [...this.objects.values(), ...this.gone.values()]) {
			assert.notDeepEqual(held.handle, handle, `the handle of ${path} is that of another object`);
		}
		this.objects.set(path, await this.#hold(handle));
	}

	/** A further name, by the handle. */
	async link(path: string, to: string): Promise<void> {
		const reply = await ok(this.client.link(this.get(path).handle, ...this.at(to)), `LINK ${path} to ${to}`);
		const held = this.get(path);
		this.objects.set(to, held);
		assert.equal(reply.attributes?.nlink, this.namesOf(held).length + held.outside, `link count in the reply of LINK ${path} to ${to}`);
	}

	/** Overwrites the first bytes, by the handle alone; a lower file is copied up. */
	async write(path: string, text: string): Promise<void> {
		const held = this.get(path);
		await this.client.writeFile(held.handle, text);
		held.contents = text + held.contents.slice(text.length);
	}

	/** By the handle alone; a lower directory is copied up. */
	async changeGroup(path: string): Promise<void> {
		await ok(this.client.setattr(this.get(path).handle, { gid: 7 }), `SETATTR ${path}`);
	}

	async remove(path: string): Promise<void> {
		const held = this.get(path);
		if (held.type === FileType3.dir) await ok(this.client.rmdir(...this.at(path)), `RMDIR ${path}`);
		else await ok(this.client.remove(...this.at(path)), `REMOVE ${path}`);
		this.objects.delete(path);
		this.#noteUnlinked(path, held);
	}

	/** Every handle finds its object before any name was looked up, in an order that is not that of the tree. */
	async checkHandles(what: string): Promise<void> {
		const all = [...this.objects].sort(([, a], [, b]) => a.handle.compare(b.handle));
		await Promise.all(
			all.map(async ([path, held]) => {
				const reply = await this.client.getattr(held.handle);
				assert.equal(statusName(reply.status), "ok", `${what}: GETATTR by the handle of ${path}`);
				if (reply.status !== 0) return;
				const { fileid, type } = reply.attributes;
				assert.deepEqual([fileid, type], [held.fileid, held.type], `${what}: fileid and type by the handle of ${path}`);
				assert.equal(await this.#contentsOf(held.handle, held.type), held.contents, `${what}: contents by the handle of ${path}`);
				if (held.type !== FileType3.dir) return;
				const names = (await this.client.listPlus(held.handle, { dots: false })).map(({ name }) => name).sort();
				assert.deepEqual(names, this.#namesIn(path), `${what}: names by the handle of ${path}`);
			}),
		);
		for (const [path, held] of this.gone) {
			assert.equal(statusName((await this.client.getattr(held.handle)).status), "stale", `${what}: the handle of ${path}, which is gone`);
		}
	}

	/** Names, handles, file ids and link counts are those that are known, by every way, and nothing else is there. */
	async checkNames(what: string): Promise<void> {
		const tree = await this.client.tree(this.root);
		assert.deepEqual([...tree.keys()].sort(), [...this.objects.keys()].sort(), `${what}: all paths`);
		const links = new Map<Held, number>();
		for (const held of this.objects.values()) links.set(held, (links.get(held) ?? held.outside) + 1);
		await Promise.all(
			[...this.objects].map(async ([path, held]) => {
				const found = tree.get(path);
				assert.deepEqual(found?.handle, held.handle, `${what}: handle of ${path} by READDIRPLUS`);
				assert.equal(found?.attributes.fileid, held.fileid, `${what}: fileid of ${path} in the attributes of READDIRPLUS`);
				assert.equal(found?.fileidInListing, held.fileid, `${what}: fileid of ${path} by READDIRPLUS`);
				const looked = await ok(this.client.lookup(...this.at(path)), `${what}: LOOKUP ${path}`);
				assert.deepEqual(looked.handle, held.handle, `${what}: handle of ${path} by LOOKUP`);
				assert.equal(looked.attributes?.fileid, held.fileid, `${what}: fileid of ${path} by LOOKUP`);
				const { fileid, nlink } = await this.client.attributesOf(held.handle);
				assert.equal(fileid, held.fileid, `${what}: fileid of ${path} by GETATTR`);
				if (held.type !== FileType3.dir) {
					assert.equal(nlink, links.get(held), `${what}: link count of ${path} by GETATTR`);
					assert.equal(found?.attributes.nlink, nlink, `${what}: link count of ${path} by READDIRPLUS`);
					return;
				}
				const up = await ok(this.client.lookup(held.handle, ".."), `${what}: LOOKUP .. of ${path}`);
				assert.deepEqual(up.handle, this.at(path)[0], `${what}: handle of the parent of ${path}`);
			}),
		);
		for (const directory of ["", ...this.objects.keys()].filter((path) => path === "" || this.get(path).type === FileType3.dir)) {
			const parent = directory.slice(0, Math.max(directory.lastIndexOf("/"), 0));
			for (const { name, fileid } of await this.client.list(this.directory(directory))) {
				const path = name === "." ? directory : name === ".." ? parent : directory === "" ? name : `${directory}/${name}`;
				assert.equal(fileid, path === "" ? 1n : this.get(path).fileid, `${what}: fileid of ${name} in ${directory} by READDIR`);
			}
		}
	}

	/** Both, from cold after an end. */
	async check(what: string, how: Ending = "plain"): Promise<void> {
		await this.restart(how);
		const when = how === "plain" ? what : `${what}, after ${how}`;
		await this.checkHandles(when);
		await this.checkNames(when);
	}

	#namesIn(path: string): string[] {
		return this.below(path)
			.map((each) => each.slice(path.length + 1))
			.filter((rest) => !rest.includes("/"))
			.sort();
	}
}

/** Gives trees to a user who may not take them. */
export function giveTo(user: OrdinaryUser, ...paths: readonly string[]): void {
	execFileSync("chown", ["-hR", `${user.uid}:${user.gid}`, ...paths]);
}
