import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Contents of a tree by path: text or bytes of a file, a link's target, or the type and numbers for mknod(1). */
export type TreeDescription = Readonly<Record<string, string | Buffer | { readonly link: string } | { readonly node: readonly string[] }>>;

/** Makes a tree. A path that ends in "/" is a folder whatever its value. */
export function plant(top: string, tree: TreeDescription): string {
	for (const [path, what] of Object.entries(tree)) {
		const at = join(top, path);
		mkdirSync(path.endsWith("/") ? at : dirname(at), { recursive: true });
		if (path.endsWith("/")) continue;
		if (typeof what === "string" || Buffer.isBuffer(what)) writeFileSync(at, what);
		else if ("link" in what) symlinkSync(what.link, at);
		else if (process.getuid?.() === 0) execFileSync("mknod", [at, ...what.node]);
		else standIn(at, what.node);
	}
	return top;
}

/** What an ordinary user has in the place of a device of root's: an empty file that says so, as programs for containers keep it. */
function standIn(at: string, [type, major, minor]: readonly string[]): void {
	if (type !== "c") throw new Error(`nothing stands in for a ${type} here`);
	writeFileSync(at, "");
	execFileSync("setfattr", ["-n", "user.containers.override_stat", "-v", `0:0:0644:char-${major}-${minor}`, at]);
}

/** `count` small files below `top`, a hundred in each folder; returns their paths. */
export function plantMany(top: string, count: number, contents: (index: number) => string = (index) => `file ${index}\n`): string[] {
	const paths: string[] = [];
	for (let index = 0; index < count; index += 1) {
		const folder = `d${Math.floor(index / 10_000)}/e${Math.floor(index / 100)}`;
		if (index % 100 === 0) mkdirSync(join(top, folder), { recursive: true });
		const path = `${folder}/f${index}`;
		writeFileSync(join(top, path), contents(index));
		paths.push(path);
	}
	return paths;
}

/** A regular file of reproducible bytes that do not compress. */
export function noise(bytes: number, seed = 1): Buffer {
	const made = Buffer.allocUnsafe(bytes);
	let state = (seed * 2_654_435_761) >>> 0 || 1;
	for (let at = 0; at < bytes; at += 1) {
		state ^= (state << 13) >>> 0;
		state ^= state >>> 17;
		state ^= (state << 5) >>> 0;
		state >>>= 0;
		made[at] = state & 0xff;
	}
	return made;
}
