import { load } from "./program.mjs";

const { openOverlay } = await load("overlay/opening/open-overlay.js");
const { Pending } = await load("vfs/errors.js");
const { allocate } = await load("linux/memory.js");

const WHO = { uid: 0, gid: 0, gids: [] };
const memory = allocate(4096);

/** Holdfast as a library, with the calls of the prototypes. */
export class Holdfast {
	constructor({ lower, upper, work }, { handles, linkNames, ...more }) {
		const options = { lowers: [lower], upper, work: `${work}/holdfast`, stateFolder: `${work}/state`, handles, linkNames };
		this.overlay = openOverlay({ ...options, isSync: false, purpose: "serve", ...more }).overlay;
	}

	get root() {
		return this.overlay.root;
	}

	child(directory, name) {
		return this.overlay.lookup(directory, Buffer.from(name), WHO);
	}

	isDirectory(object) {
		return object.type === 4;
	}

	handleOf(object) {
		return object.handle.toString("hex");
	}

	decode(handle) {
		return this.overlay.decode(Buffer.from(handle, "hex"));
	}

	/** Objects are no longer in memory; what leads to them may be. */
	forgetObjects() {
		this.overlay.engine.nodes.forgetAll();
	}

	resolve(path) {
		let object = this.overlay.root;
		for (const name of path.split("/").slice(1)) object = this.child(object, name) ?? fail(path);
		return object;
	}

	async list(directory) {
		const names = [];
		const cursor = await again(() => this.overlay.list(directory, WHO, 0, 0));
		while (await again(() => cursor.next())) names.push(Buffer.from(cursor.name).toString());
		return names.filter((name) => name !== "." && name !== "..");
	}

	read(object) {
		const file = this.isDirectory(object) ? this.child(object, ".tag") : object;
		if (file === null) return "";
		const { count } = this.overlay.read(file, WHO, 0, 4096, memory, 0);
		return memory.bytes.toString("latin1", 0, count);
	}

	async write(path, text) {
		await again(() => this.overlay.setattr(this.resolve(path), WHO, { size: 0 }));
		await again(() => this.overlay.write(this.resolve(path), WHO, 0, Buffer.from(text)));
	}

	chmod(path, mode) {
		return again(() => this.overlay.setattr(this.resolve(path), WHO, { mode }));
	}

	async create(path, text) {
		const how = { mode: "guarded", attributes: { mode: 0o644 } };
		await again(() => this.overlay.create(...this.#place(path), WHO, how));
		await this.write(path, text);
	}

	mkdir(path) {
		return again(() => this.overlay.mkdir(...this.#place(path), WHO, { mode: 0o755 }));
	}

	link(from, to) {
		return again(() => this.overlay.link(this.resolve(from), ...this.#place(to), WHO));
	}

	rename(from, to) {
		return again(() => this.overlay.rename(...this.#place(from), ...this.#place(to), WHO));
	}

	unlink(path) {
		return again(() => this.overlay.remove(...this.#place(path), WHO));
	}

	#place(path) {
		const at = path.lastIndexOf("/");
		return [this.resolve(path.slice(0, at)), Buffer.from(path.slice(at + 1))];
	}

	close() {
		return this.overlay.close();
	}
}

async function again(operation) {
	for (;;) {
		try {
			return operation();
		} catch (error) {
			if (!(error instanceof Pending)) throw error;
			await error.ready;
		}
	}
}

function fail(path) {
	throw new Error(`stale: no ${path}`);
}
