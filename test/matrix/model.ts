import { parentOf } from "../crash/stage.ts";
import { type Change, DEVICE, type MadeType, TARGET } from "./change.ts";
import type { Seen, Tree } from "./observe.ts";

/** An object as it must be seen. Objects are told apart by `id`: the handle of what was there before, else a word for what was made. */
interface Expected {
	readonly id: string;
	readonly type: string;
	readonly mode: number | null;
	readonly owner: string;
	/** Null for directories: a merged one shows 1. */
	readonly nlink: number | null;
	readonly content: string;
	readonly xattrs: string;
	/** Null where a change has set it to the time of the change. */
	readonly mtime: string | null;
}

/** What must be seen after a sequence of changes: the whole of the contract in terms of names and objects. */
export class Model {
	readonly #paths: Map<string, Expected>;
	/** Every object that there ever was, by id. */
	readonly #known: ReadonlyMap<string, string>;

	/** Of what is made. */
	readonly #maker: string;

	private constructor(paths: Map<string, Expected>, known: ReadonlyMap<string, string>, maker: string) {
		this.#paths = paths;
		this.#known = known;
		this.#maker = maker;
	}

	/** `maker`: user and group that new objects belong to. */
	static of(tree: Tree, maker: string): Model {
		const paths = new Map<string, Expected>();
		const known = new Map<string, string>();
		for (const [path, { handle, type, mode, owner, nlink, content, xattrs, mtime }] of tree) {
			paths.set(path, { id: handle, type, mode, owner, nlink: type === "dir" ? null : nlink, content, xattrs, mtime });
			if (!known.has(handle)) known.set(handle, path);
		}
		return new Model(paths, known, maker);
	}

	get paths(): ReadonlyMap<string, unknown> {
		return this.#paths;
	}

	/** Of the object that has this path now. */
	idAt(path: string): string {
		return this.#at(path).id;
	}

	/** Whether some name leads to it. */
	has(id: string): boolean {
		return [...this.#paths.values()].some((object) => object.id === id);
	}

	/** By ids from before the changes: the first path that each object had. */
	get known(): ReadonlyMap<string, string> {
		return this.#known;
	}

	#at(path: string): Expected {
		const found = this.#paths.get(path);
		if (found === undefined) throw new Error(`the model has no ${path}`);
		return found;
	}

	/** A new model, after the change. `id` is what a made object is known by. */
	after(change: Change, id: string): Model {
		const next = new Model(new Map(this.#paths), this.#known, this.#maker);
		next.#apply(change, id);
		return next;
	}

	#apply(change: Change, id: string): void {
		const { path } = change;
		switch (change.does) {
			case "write": {
				const { content } = this.#at(path);
				this.#set(path, { content: change.text + content.slice(change.text.length), mtime: null });
				break;
			}
			case "setattr": {
				const { mode, uid, gid, size, mtime } = change.set;
				const { owner, content } = this.#at(path);
				const [ownUid, ownGid] = owner.split(":");
				if (mode !== undefined) this.#set(path, { mode });
				if (uid !== undefined || gid !== undefined) this.#set(path, { owner: `${uid ?? ownUid}:${gid ?? ownGid}` });
				if (size !== undefined) this.#set(path, { content: content.slice(0, size), mtime: null });
				if (mtime !== undefined && mtime !== "now") this.#set(path, { mtime: `${mtime.sec}.${mtime.nsec}` });
				break;
			}
			case "setxattr":
				this.#set(path, { xattrs: `${change.name}=${change.value}` });
				break;
			case "link":
				this.#set(path, { nlink: (this.#at(path).nlink as number) + 1 });
				this.#paths.set(change.to, this.#at(path));
				this.#touch(change.to);
				break;
			case "rename":
				this.#drop(change.to);
				this.#move([[path, change.to]]);
				break;
			case "exchange":
				this.#move([
					[path, change.to],
					[change.to, path],
				]);
				break;
			case "remove":
			case "rmdir":
				if (!this.#paths.has(path)) throw new Error(`the model has no ${path}`);
				this.#drop(path);
				this.#touch(path);
				break;
			case "create":
				this.#paths.set(path, made(change.type, id, this.#maker));
				this.#touch(path);
				break;
		}
	}

	/** Of the object, by all its names. */
	#set(path: string, change: Partial<Expected>): void {
		const { id } = this.#at(path);
		for (const [name, object] of this.#paths) if (object.id === id) this.#paths.set(name, { ...object, ...change });
	}

	/** A name of the directory above has changed, and its time. */
	#touch(path: string): void {
		this.#set(parentOf(path), { mtime: null });
	}

	#drop(path: string): void {
		const object = this.#paths.get(path);
		if (object === undefined) return;
		if (object.nlink !== null) this.#set(path, { nlink: object.nlink - 1 });
		this.#paths.delete(path);
	}

	#move(moves: readonly (readonly [from: string, to: string])[]): void {
		const moved: [string, Expected][] = [];
		for (const [from, to] of moves) {
			for (const [path, object] of [...this.#paths]) {
				if (path !== from && !path.startsWith(`${from}/`)) continue;
				moved.push([to + path.slice(from.length), object]);
				this.#paths.delete(path);
			}
		}
		for (const [path, object] of moved) this.#paths.set(path, object);
		// xfs moves the time of a directory whose ".." changes
		for (const [from, to] of moves) if (parentOf(from) !== parentOf(to) && this.#at(to).type === "dir") this.#set(to, { mtime: null });
		for (const [from, to] of moves) {
			this.#touch(from);
			this.#touch(to);
		}
	}

	/** What of `tree` is not as expected, one line each. `made` leads from the ids of made objects to the handles that they were given. */
	differences(tree: Tree, made: ReadonlyMap<string, string>): string[] {
		const lines: string[] = [];
		const born = new Map<string, string>();
		for (const [path, expected] of this.#paths) {
			const seen = tree.get(path);
			if (seen === undefined) lines.push(`/${path} is missing`);
			else lines.push(...differencesOf(path, expected, seen));
			if (seen === undefined) continue;
			const isNew = !this.#known.has(expected.id);
			if (!isNew && seen.handle !== expected.id) lines.push(`/${path} has another handle${this.#whose(seen.handle)}`);
			if (isNew && this.#known.has(seen.handle)) lines.push(`/${path} was made, and has the handle${this.#whose(seen.handle)}`);
			if (isNew && (made.get(expected.id) ?? seen.handle) !== seen.handle) lines.push(`/${path} has another handle than it was answered`);
			if (isNew && (born.get(seen.handle) ?? expected.id) !== expected.id) lines.push(`/${path} has the handle of another new object`);
			born.set(seen.handle, expected.id);
		}
		for (const path of tree.keys()) if (!this.#paths.has(path)) lines.push(`/${path} is there`);
		return lines;
	}

	#whose(handle: string): string {
		const path = this.#known.get(handle);
		return path === undefined ? "" : ` of what was /${path} before`;
	}
}

function differencesOf(path: string, expected: Expected, seen: Seen): string[] {
	const { type, mode, owner, nlink, content, xattrs, mtime } = expected;
	const wanted = { type, mode: mode ?? seen.mode, owner, nlink: nlink ?? seen.nlink, content, xattrs, mtime: mtime ?? seen.mtime };
	return Object.entries(wanted).flatMap(([field, value]) => {
		const is = seen[field as keyof Seen];
		return is === value ? [] : [`/${path}: ${field} is ${JSON.stringify(is)} and not ${JSON.stringify(value)}`];
	});
}

function made(type: MadeType, id: string, owner: string): Expected {
	const content = { reg: "", dir: "", lnk: TARGET, chr: `${DEVICE.major}:${DEVICE.minor}` }[type];
	const mode = { reg: 0o644, dir: 0o755, lnk: null, chr: 0o644 }[type];
	return { id, type, mode, owner, nlink: type === "dir" ? null : 1, content, xattrs: "", mtime: null };
}
