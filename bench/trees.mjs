import { closeSync, ftruncateSync, lstatSync, mkdirSync, openSync, readdirSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

/** What lies in lowers. */

/** `count` files of `bytes` bytes in a folder. Their numbers begin with `first`. */
export function fill(folder, count, bytes = 0, first = 0) {
	mkdirSync(folder, { recursive: true });
	const data = Buffer.alloc(bytes, "holdfast");
	for (let index = 0; index < count; index++) writeFileSync(join(folder, numbered(first + index)), data);
}

/** As `fill`, but the files are holes: a million of them take no space. */
function fillWithHoles(folder, count, bytes) {
	mkdirSync(folder, { recursive: true });
	for (let index = 0; index < count; index++) {
		const file = openSync(`${folder}/${numbered(index)}`, "wx");
		ftruncateSync(file, bytes);
		closeSync(file);
	}
}

/** One file full of data, which nothing can shorten by leaving holes out. */
export function largeFile(folder, name, megabytes) {
	mkdirSync(folder, { recursive: true });
	const block = Buffer.alloc(2 ** 20);
	const file = openSync(join(folder, name), "wx");
	for (let index = 0; index < megabytes; index++) {
		block.fill(1 + (index % 255));
		writeSync(file, block);
	}
	closeSync(file);
}

/** `width` folders on each of `levels` levels, with `files` holes of 4 KiB in the lowest ones. */
export function nested(folder, levels, width, files) {
	if (levels === 0) return fillWithHoles(folder, files, 4096);
	for (let index = 0; index < width; index++) nested(join(folder, String(index)), levels - 1, width, files);
}

/** A million files in one folder, `wide`, and a million in a thousand folders, `deep`, of which deep/0/0/0 has 1,000 files. */
export function million(folder) {
	fillWithHoles(join(folder, "wide"), 1_000_000, 4096);
	nested(join(folder, "deep"), 3, 10, 1000);
	fill(join(folder, "new"), 1);
}

/** The path of a folder that lies `depth` levels down. */
export function chain(depth) {
	return Array.from({ length: depth }, () => "d").join("/");
}

/** What one system call takes of a chain, with a path before it. */
const LEVELS_AT_ONCE = 1000;

/** Makes the folder that lies `depth` levels below another one, and gives a path by which it can be used meanwhile: its own may be too long. */
export function below(folder, depth, use) {
	const levels = Math.min(depth, LEVELS_AT_ONCE);
	const path = join(folder, chain(levels));
	mkdirSync(path, { recursive: true });
	const fd = openSync(path, "r");
	try {
		const reached = `/proc/self/fd/${fd}`;
		if (levels < depth) below(reached, depth - levels, use);
		else use(reached);
	} finally {
		closeSync(fd);
	}
}

/** Space that regular files take in these folders and below, in bytes. Further names of one file do not count. */
export function spaceOfFiles(...folders) {
	const seen = new Set();
	let bytes = 0;
	const visit = (folder) => {
		for (const entry of readdirSync(folder, { withFileTypes: true })) {
			const path = join(folder, entry.name);
			if (entry.isDirectory()) visit(path);
			if (!entry.isFile()) continue;
			const { ino, blocks } = lstatSync(path);
			if (!seen.has(ino)) bytes += blocks * 512;
			seen.add(ino);
		}
	};
	for (const folder of folders) visit(folder);
	return bytes;
}

function numbered(index) {
	return `file-${String(index).padStart(7, "0")}`;
}
