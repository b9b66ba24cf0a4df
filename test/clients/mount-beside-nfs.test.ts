// One export by two front ends at once, a FUSE mount and NFS: whatever one of them changes the other shows.

import assert from "node:assert/strict";
import {
	appendFileSync,
	chmodSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmdirSync,
	statSync,
	unlinkSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { FuseMountOfTest } from "../in-process/fuse-mount.ts";
import { Nfs3Client, ok } from "../support/nfs3-client.ts";
import { generator } from "../support/random.ts";
import { needs, seed, volume } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

const skip = needs("root", "fuse");
const SEQUENCES = Number(process.env.HOLDFAST_TEST_SEQUENCES ?? volume(2, 40, 2000));
const CHANGES = 8;
/** Of the lower, in the folder of each sequence. */
const PLANTED = ["a", "b", "d/a", "d/b"];
const NAMES = ["a", "b", "c", "d", "e"];
const MODES = [0o644, 0o600, 0o755];

/** What is in the folder of a sequence, by path. */
type Tree = Map<string, string>;

/** One of the front ends: how it makes changes, and what it shows. */
interface FrontEnd {
	write(path: string, text: string, isNew: boolean): Promise<void>;
	append(path: string, at: number, text: string): Promise<void>;
	chmod(path: string, mode: number): Promise<void>;
	mkdir(path: string): Promise<void>;
	rename(from: string, to: string): Promise<void>;
	remove(path: string): Promise<void>;
	rmdir(path: string): Promise<void>;
	shown(): Promise<Tree>;
}

const shownFile = (mode: number, content: Buffer) => `file ${(mode & 0o777).toString(8)} ${content}`;
const shownFolder = (mode: number) => `folder ${(mode & 0o777).toString(8)}`;

class ByMount implements FrontEnd {
	readonly #folder: string;

	constructor(folder: string) {
		this.#folder = folder;
	}

	#at(path: string): string {
		return join(this.#folder, path);
	}

	async write(path: string, text: string): Promise<void> {
		writeFileSync(this.#at(path), text);
	}

	async append(path: string, _at: number, text: string): Promise<void> {
		appendFileSync(this.#at(path), text);
	}

	async chmod(path: string, mode: number): Promise<void> {
		chmodSync(this.#at(path), mode);
	}

	async mkdir(path: string): Promise<void> {
		mkdirSync(this.#at(path));
	}

	async rename(from: string, to: string): Promise<void> {
		renameSync(this.#at(from), this.#at(to));
	}

	async remove(path: string): Promise<void> {
		unlinkSync(this.#at(path));
	}

	async rmdir(path: string): Promise<void> {
		rmdirSync(this.#at(path));
	}

	async shown(): Promise<Tree> {
		const tree: Tree = new Map();
		const visit = (folder: string) => {
			const names = readdirSync(this.#at(folder));
			// also by name: a listing says nothing of what the kernel still believes
			for (const name of new Set([...names, ...NAMES])) {
				const path = folder === "" ? name : `${folder}/${name}`;
				const stat = statSync(this.#at(path), { throwIfNoEntry: false });
				if (stat === undefined) {
					if (names.includes(name)) tree.set(path, "listed alone");
				} else if (!stat.isDirectory()) tree.set(path, shownFile(stat.mode, readFileSync(this.#at(path))));
				else {
					tree.set(path, shownFolder(stat.mode));
					visit(path);
				}
			}
		};
		visit("");
		return tree;
	}
}

class ByNfs implements FrontEnd {
	readonly #client: Nfs3Client;
	readonly #folder: Buffer;

	constructor(client: Nfs3Client, folder: Buffer) {
		this.#client = client;
		this.#folder = folder;
	}

	#at(path: string): Promise<Buffer> {
		return this.#client.walk(this.#folder, path);
	}

	async #in(path: string): Promise<readonly [directory: Buffer, name: string]> {
		const parts = path.split("/");
		return [await this.#at(parts.slice(0, -1).join("/")), parts.at(-1) as string];
	}

	async write(path: string, text: string, isNew: boolean): Promise<void> {
		if (isNew) {
			await this.#client.createFile(...(await this.#in(path)), text);
			return;
		}
		const file = await this.#at(path);
		await ok(this.#client.setattr(file, { size: 0n }));
		await this.#client.writeFile(file, text);
	}

	async append(path: string, at: number, text: string): Promise<void> {
		await this.#client.writeFile(await this.#at(path), text, BigInt(at));
	}

	async chmod(path: string, mode: number): Promise<void> {
		await ok(this.#client.setattr(await this.#at(path), { mode }));
	}

	async mkdir(path: string): Promise<void> {
		await this.#client.makeDirectory(...(await this.#in(path)));
	}

	async rename(from: string, to: string): Promise<void> {
		await ok(this.#client.rename(...(await this.#in(from)), ...(await this.#in(to))));
	}

	async remove(path: string): Promise<void> {
		await ok(this.#client.remove(...(await this.#in(path))));
	}

	async rmdir(path: string): Promise<void> {
		await ok(this.#client.rmdir(...(await this.#in(path))));
	}

	async shown(): Promise<Tree> {
		const tree: Tree = new Map();
		for (const [path, { handle, attributes }] of await this.#client.tree(this.#folder)) {
			const isFile = attributes.type === 1;
			tree.set(path, isFile ? shownFile(attributes.mode, await this.#client.readFile(handle)) : shownFolder(attributes.mode));
		}
		return tree;
	}
}

/** Makes one random change by a front end, and in the model. What was done, for people; null: nothing can be. */
async function change(by: FrontEnd, model: Map<string, { mode: number; text: string | null }>, random: (below: number) => number) {
	const folders = ["", ...[...model].filter(([, { text }]) => text === null).map(([path]) => path)];
	const folder = folders[random(folders.length)] as string;
	const name = NAMES[random(NAMES.length)] as string;
	const path = folder === "" ? name : `${folder}/${name}`;
	const found = model.get(path);
	const text = `text ${random(1000)}`;
	const paths = [...model.keys()];
	const other = paths[random(Math.max(1, paths.length))];
	switch (random(7)) {
		case 0:
		case 1:
			if (found?.text === null) return null;
			await by.write(path, text, found === undefined);
			model.set(path, { mode: found?.mode ?? 0o644, text });
			return `write ${path}`;
		case 2:
			if (found?.text === undefined || found.text === null) return null;
			await by.append(path, found.text.length, text);
			found.text += text;
			return `append to ${path}`;
		case 3: {
			if (found === undefined) return null;
			const mode = MODES[random(MODES.length)] as number;
			await by.chmod(path, found.text === null ? mode | 0o700 : mode);
			found.mode = found.text === null ? mode | 0o700 : mode;
			return `chmod ${path}`;
		}
		case 4:
			if (found !== undefined) return null;
			await by.mkdir(path);
			model.set(path, { mode: 0o755, text: null });
			return `mkdir ${path}`;
		case 5: {
			const moved = other === undefined ? undefined : model.get(other);
			if (other === undefined || moved === undefined || other === path || path.startsWith(`${other}/`)) return null;
			if (found !== undefined && (found.text === null || moved.text === null)) return null;
			await by.rename(other, path);
			for (const [at, one] of [...model]) {
				if (at !== other && !at.startsWith(`${other}/`)) continue;
				model.delete(at);
				model.set(path + at.slice(other.length), one);
			}
			return `rename ${other} to ${path}`;
		}
		default: {
			if (other === undefined) return null;
			const isFolder = model.get(other)?.text === null;
			if (isFolder && paths.some((at) => at.startsWith(`${other}/`))) return null;
			await (isFolder ? by.rmdir(other) : by.remove(other));
			model.delete(other);
			return `remove ${other}`;
		}
	}
}

test(`${SEQUENCES} sequences of random changes by a mount and by NFS: each shows what the other has done`, {
	skip,
}, async (t: TestContext) => {
	const made = scratch(t);
	const disk = made.mount("tmpfs", "layers", 512);
	const [lower, upper] = [join(disk, "lower"), join(disk, "upper")];
	mkdirSync(upper);
	for (let i = 0; i < SEQUENCES; i++) {
		mkdirSync(join(lower, `${i}/d`), { recursive: true });
		for (const path of PLANTED) writeFileSync(join(lower, `${i}`, path), path);
	}
	const mount = await FuseMountOfTest.start(made, made.folder("mount"), {
		lowers: [lower],
		upper,
		work: join(disk, "work"),
		stateFolder: join(disk, "state"),
		nfsPort: 0,
	});
	const client = await Nfs3Client.connect(mount.port);
	t.after(() => client.close());
	const root = await client.root();
	const random = generator(seed);
	const waits: number[] = [];
	t.diagnostic(`HOLDFAST_TEST_SEED=${seed}`);
	for (let i = 0; i < SEQUENCES; i++) {
		const ends: readonly FrontEnd[] = [new ByMount(join(mount.at, `${i}`)), new ByNfs(client, await client.walk(root, `${i}`))];
		const model = new Map<string, { mode: number; text: string | null }>([["d", { mode: 0o755, text: null }]]);
		for (const path of PLANTED) model.set(path, { mode: 0o644, text: path });
		const story: string[] = [];
		for (let done = 0; done < CHANGES; ) {
			const side = random(2);
			const what = await change(ends[side] as FrontEnd, model, random).catch((error: Error) => {
				throw new Error(`sequence ${i}: ${story.join("; ")}; then by ${side === 0 ? "mount" : "NFS"}: ${error.message}`);
			});
			if (what === null) continue;
			done++;
			story.push(`${side === 0 ? "mount" : "NFS"}: ${what}`);
			const expected = [...model].map(([path, { mode, text }]) => [
				path,
				text === null ? shownFolder(mode) : shownFile(mode, Buffer.from(text)),
			]);
			const sorted = JSON.stringify(expected.sort());
			const begun = performance.now();
			for (const [at, end] of ends.entries()) {
				// who sees a change late may look in the midst of it
				const look = async () => {
					try {
						return JSON.stringify([...(await end.shown())].sort());
					} catch (error) {
						return `${(error as NodeJS.ErrnoException).code ?? error}`;
					}
				};
				let shown = await look();
				if (at === side || at === 1) assert.equal(shown, sorted, `sequence ${i}: ${story.join("; ")}`);
				for (let tries = 0; shown !== sorted; tries++) {
					if (tries > 10_000) assert.equal(shown, sorted, `sequence ${i}: ${story.join("; ")}`);
					await new Promise((resolve) => setTimeout(resolve, 1));
					shown = await look();
				}
			}
			if (side === 1) waits.push(performance.now() - begun);
		}
	}
	waits.sort((a, b) => a - b);
	const at = (part: number) => `${(waits[Math.floor(part * (waits.length - 1))] ?? 0).toFixed(1)} ms`;
	t.diagnostic(`${waits.length} changes by NFS, seen in the mount after ${at(0.5)} (median), ${at(0.99)} (99 of 100), ${at(1)} (all)`);
	assert.equal(await mount.unmount(), 0);
});
