import type { Operation, Path } from "./scenario.ts";

/** An object as holdfast has shown it, and what the operations have made of it since. */
export interface ModelObject {
	readonly serial: number;
	readonly type: string;
	/** Null for what the kernel has made or shown, until holdfast shows it. */
	handle: Buffer | null;
	fileid: string | null;
	/** Link count; 0 when the object is gone. For a directory 1 or 0. */
	links: number;
	/** Of a directory. */
	readonly children: Map<string, ModelObject>;
}

/** Which object each path is: tells from the operations alone what every handle must lead to. */
export class Model {
	readonly root: ModelObject;
	/** By the hex of the handle: all that ever were, the gone ones too. */
	readonly objects = new Map<string, ModelObject>();

	#serial = 0;

	constructor() {
		this.root = this.unseen("dir", 1);
	}

	/** A new object of which no handle is known yet. */
	unseen(type: string, links: number): ModelObject {
		return { serial: this.#serial++, type, handle: null, fileid: null, links, children: new Map() };
	}

	/** A new object. Throws when its handle has been another object's. */
	add(type: string, handle: Buffer, fileid: string, links: number): ModelObject {
		const object = this.unseen(type, links);
		this.learn(object, handle, fileid);
		return object;
	}

	learn(object: ModelObject, handle: Buffer, fileid: string): void {
		const key = handle.toString("hex");
		const other = this.objects.get(key);
		if (other !== undefined) {
			throw new Error(`the handle of a new object is that of an earlier one (${other.type}, ${other.links === 0 ? "gone" : "alive"})`);
		}
		object.handle = Buffer.from(handle);
		object.fileid = fileid;
		this.objects.set(key, object);
	}

	/** Objects so far: a later one has at least this serial. */
	get count(): number {
		return this.#serial;
	}

	at(path: Path): ModelObject | null {
		let object: ModelObject | undefined = this.root;
		for (const name of path) object = object?.children.get(name);
		return object ?? null;
	}

	/** The paths of all objects that have one, the root's "". */
	paths(): Map<string, ModelObject> {
		const found = new Map<string, ModelObject>();
		const visit = (object: ModelObject, path: string) => {
			found.set(path, object);
			for (const [name, child] of object.children) visit(child, path === "" ? name : `${path}/${name}`);
		};
		visit(this.root, "");
		return found;
	}

	enter(path: Path, object: ModelObject): void {
		this.#parent(path).children.set(path[path.length - 1], object);
	}

	/** Takes note of an operation that succeeded. `made`: what it made. */
	apply(operation: Operation, made: ModelObject | null): void {
		switch (operation.kind) {
			case "create":
			case "overwrite":
			case "symlink":
			case "fifo":
			case "device":
			case "mkdir":
				if (made !== null) this.enter(operation.path, made);
				break;
			case "link": {
				const object = this.at(operation.path) as ModelObject;
				object.links++;
				this.enter(operation.to, object);
				break;
			}
			case "exchange": {
				const one = this.at(operation.path) as ModelObject;
				const two = this.at(operation.to) as ModelObject;
				this.enter(operation.path, two);
				this.enter(operation.to, one);
				break;
			}
			case "unlink":
			case "rmdir":
				this.#drop(operation.path);
				break;
			case "rename": {
				const object = this.at(operation.path) as ModelObject;
				const target = this.at(operation.to);
				if (target === object) break;
				if (target !== null) this.#drop(operation.to);
				this.#parent(operation.path).children.delete(operation.path[operation.path.length - 1]);
				this.enter(operation.to, object);
				break;
			}
		}
	}

	#parent(path: Path): ModelObject {
		return this.at(path.slice(0, -1)) as ModelObject;
	}

	#drop(path: Path): void {
		const object = this.at(path) as ModelObject;
		object.links--;
		this.#parent(path).children.delete(path[path.length - 1]);
	}
}
