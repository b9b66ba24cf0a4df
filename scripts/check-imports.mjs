// Checks that imports point only down the order of the rooms in docs/architecture.md, that no files of src import one another
// in a circle, and that what is known in one room alone (the FFI, the network, logging) stays there. Imports of types count.
// Prints each offence as file:line and exits 1 if there is any.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), ".."));

/** From the top down. Rooms of one row do not know one another. A room may be named here before it has a file. */
const rows = [
	["cli"],
	["inspector"],
	["server"],
	["mounting"],
	["nfs3", "nfs4", "mount3", "nlm4", "fuse"],
	["exports"],
	["claims"],
	["rpc"],
	["xdr"],
	["sets"],
	["overlay/check"],
	["overlay/upkeep"],
	["overlay/changes"],
	["overlay/opening"],
	["overlay/adopt"],
	["overlay/operations"],
	["overlay/copy-up"],
	["overlay/listing"],
	["overlay/lookup"],
	["overlay/engine"],
	["overlay/data"],
	["overlay/journal"],
	["overlay/threads"],
	["overlay/nodes"],
	["overlay/work"],
	["overlay/format"],
	["unpack", "pack", "patch"],
	["layer"],
	["handle"],
	["vfs"],
	["linux"],
	["collections"],
];
const rowOf = new Map(rows.flatMap((rooms, row) => rooms.map((room) => [room, row])));

/** What a room does not import although it lies below: a front end sees the contract alone, as what exports are does, and claims are the same for all protocols. */
const closed = new Map([
	...["nfs3", "nfs4", "mount3", "nlm4", "fuse", "exports"].map((room) => [room, /^(overlay\/|sets$|unpack$|layer$)/]),
	["claims", /^(?!(vfs|linux)$)/],
	["rpc", /^(sets$|overlay\/)/],
	["xdr", /^(sets$|overlay\/)/],
]);

/** Packages, and modules of Node's, that only these rooms may import (tests aside). */
const only = new Map([
	["koffi", ["linux"]],
	["commander", ["cli"]],
	["ignore", ["cli"]],
	["pino", ["cli", "inspector", "server"]],
	["fast-check", []],
	["node:net", ["cli", "inspector", "server", "mounting", "rpc"]],
	["node:tls", ["cli", "inspector", "server", "rpc"]],
	["node:http", ["inspector", "server"]],
	["node:test", []],
]);

const offences = [];
/** For each file of src, the files of src that it imports, with the line of the import. */
const imports = new Map();
for (const folder of ["src", "test"]) {
	if (!existsSync(join(root, folder))) continue;
	for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
		if (entry.isFile() && entry.name.endsWith(".ts")) check(join(entry.parentPath ?? entry.path, entry.name));
	}
}
checkCircles();
for (const offence of offences) console.error(offence);
if (offences.length > 0) process.exit(1);
console.log("imports: all point down, none in a circle");

function check(file) {
	const imported = new Map();
	if (file.startsWith(join(root, "src"))) imports.set(file, imported);
	const { folder, room } = placeOf(file);
	if (folder === "test" && room === undefined) offences.push(`${relative(root, file)}:1: lies in no folder of test`);
	const text = readFileSync(file, "utf8").replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, " "));
	const statement =
		/^[ \t]*(?:import|export)\b[^;'"]*?\bfrom\s*["']([^"']+)["']|^[ \t]*import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/gm;
	for (const match of text.matchAll(statement)) {
		const target = match[1] ?? match[2] ?? match[3];
		const reason = offence(file, target);
		const line = text.slice(0, match.index).split("\n").length;
		if (reason) offences.push(`${relative(root, file)}:${line}: imports ${target}: ${reason}`);
		if (target.startsWith(".")) imported.set(resolve(dirname(file), target), line);
	}
}

/** Depth first, without recursion: an import of a file that is still open closes a circle. One is told for each such import. */
function checkCircles() {
	const done = new Set();
	for (const start of [...imports.keys()].sort()) {
		if (done.has(start)) continue;
		const open = [{ file: start, rest: [...imports.get(start)] }];
		while (open.length > 0) {
			const { file, rest } = open.at(-1);
			const next = rest.pop();
			if (next === undefined) {
				done.add(file);
				open.pop();
				continue;
			}
			const [target, line] = next;
			const at = open.findIndex((step) => step.file === target);
			if (at >= 0) {
				const circle = [...open.slice(at).map((step) => step.file), target].map((path) => relative(root, path));
				offences.push(`${relative(root, file)}:${line}: closes a circle: ${circle.join(" -> ")}`);
			} else if (!done.has(target) && imports.has(target)) open.push({ file: target, rest: [...imports.get(target)] });
		}
	}
}

function offence(file, target) {
	const from = placeOf(file);
	if (from.folder === "src" && from.room !== undefined && !rowOf.has(from.room))
		return `the room "${from.room}" is not in the order; add it to scripts/check-imports.mjs and docs/architecture.md`;
	if (!target.startsWith(".")) {
		const rooms = only.get(target);
		if (from.folder === "src" && !from.isTest && rooms && !rooms.includes(from.room))
			return rooms.length === 0 ? "only tests may import it" : `only ${rooms.join(", ")} may import it`;
		return undefined;
	}
	const path = resolve(dirname(file), target);
	if (!target.endsWith(".ts") && !target.endsWith(".json")) return "a relative import ends in .ts";
	if (!existsSync(path)) return "there is no such file";
	const to = placeOf(path);
	if (to.folder === undefined) return "it lies outside src and test";
	if (from.folder === "test") {
		return from.room === "support" && to.folder === "src" ? "test/support is an oracle: it stays independent of src" : undefined;
	}
	if (to.folder === "test") return from.isTest && to.room === "support" ? undefined : "src does not know test";
	if (to.isTest && !from.isTest) return "only tests may import a test";
	if (from.room === to.room) return undefined;
	if (from.room === undefined || to.room === undefined) return "a file of src lies in a room";
	if (!from.isTest && closed.get(from.room)?.test(to.room)) return `${from.room} knows the contract in vfs and not ${to.room}`;
	if (rowOf.get(to.room) > rowOf.get(from.room)) return undefined;
	if (from.isTest && from.room.startsWith("overlay/") && to.room.startsWith("overlay/")) return undefined;
	return rowOf.get(to.room) === rowOf.get(from.room)
		? `${from.room} and ${to.room} do not know each other`
		: `${to.room} is above ${from.room}`;
}

/** Where a file lies: src or test, its room there (undefined directly below), and whether it is a test or there for tests alone. */
function placeOf(file) {
	const parts = relative(root, file).split(sep);
	const folder = parts[0] === "src" || parts[0] === "test" ? parts[0] : undefined;
	return {
		folder,
		room: parts.length > 3 && parts[1] === "overlay" ? `overlay/${parts[2]}` : parts.length > 2 ? parts[1] : undefined,
		isTest: /\.test(-support)?\.ts$/.test(file),
	};
}
