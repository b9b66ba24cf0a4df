// What documents name is there: files, links between pages, rooms, and the constants of the table of limits.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import { repository } from "../support/requirements.ts";

function filesBelow(folder: string): string[] {
	return readdirSync(join(repository, folder), { recursive: true, withFileTypes: true })
		.filter((entry) => entry.isFile())
		.map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(repository.length + 1));
}

const sources = ["src", "test", "scripts", "bench"].flatMap(filesBelow);
const names = new Set(sources.map((path) => basename(path)));
const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", ...filesBelow("docs").filter((path) => path.endsWith(".md"))];

function linesOf(page: string): string[] {
	return readFileSync(join(repository, page), "utf8").split("\n");
}

test("every source file that a page names exists", () => {
	const missing: string[] = [];
	for (const page of pages) {
		for (const [number, line] of linesOf(page).entries()) {
			for (const [path] of line.matchAll(/(?<![\w./*-])[\w-][\w./-]*\.(?:ts|mjs|sh)\b/g)) {
				const isThere = path.includes("/")
					? ["", "src", "test"].some((folder) => existsSync(join(repository, folder, path)))
					: names.has(path);
				if (!isThere) missing.push(`${page}:${number + 1}: ${path}`);
			}
		}
	}
	assert.deepEqual(missing, []);
});

test("every link between pages leads to a file, and to a heading of it where it names one", () => {
	const broken: string[] = [];
	for (const page of pages) {
		for (const [number, line] of linesOf(page).entries()) {
			for (const [, target] of line.matchAll(/\]\(([^)\s]+)\)/g)) {
				if (/^[a-z]+:/.test(target)) continue;
				const [path, heading] = target.split("#");
				const file = path === "" ? page : join(dirname(page), path);
				const isThere = existsSync(join(repository, file));
				const hasHeading = isThere && (heading === undefined || linesOf(file).some((text) => anchorOf(text) === heading));
				if (!hasHeading) broken.push(`${page}:${number + 1}: ${target}`);
			}
		}
	}
	assert.deepEqual(broken, []);
});

/** As GitHub makes the name of a heading; null for other lines. */
function anchorOf(line: string): string | null {
	const text = /^#+ (.*)$/.exec(line)?.[1];
	return (
		text
			?.toLowerCase()
			.replace(/[^\p{L}\p{N} _-]/gu, "")
			.replaceAll(" ", "-") ?? null
	);
}

test("the table of rooms has every folder of src, in the order that check-imports holds", () => {
	const architecture = linesOf("docs/architecture.md");
	const table = architecture.slice(architecture.indexOf("## Rooms"), architecture.indexOf("### Where to put what comes next"));
	const told = table.flatMap((line) => [...(/^\| (`[^|]*`) \|/.exec(line)?.[1] ?? "").matchAll(/`([^`]+)`/g)].map(([, room]) => room));
	const folders = sources
		.filter((path) => path.startsWith("src/"))
		.map((path) => dirname(path).slice("src/".length))
		.filter((room, i, all) => all.indexOf(room) === i);
	assert.deepEqual([...told].sort(), folders.sort());
	const rows = readFileSync(join(repository, "scripts/check-imports.mjs"), "utf8");
	const held = [...rows.slice(rows.indexOf("const rows"), rows.indexOf("];\n")).matchAll(/"([^"]+)"/g)].map(([, room]) => room);
	assert.deepEqual(
		told,
		held.filter((room) => told.includes(room)),
	);
});

test("every constant in the table of limits is in a file that its row names", () => {
	const wrong: string[] = [];
	let file = "";
	let count = 0;
	for (const line of linesOf("docs/internals.md")) {
		if (!line.startsWith("| ")) continue;
		const cell = line.split("|").at(-2) ?? "";
		// "`NAME`, `path`", and a row that names no file goes on with that of the row above
		for (const part of cell.split(";")) {
			const words = [...part.matchAll(/`([^`]+)`/g)].map(([, word]) => word);
			file = words.find((word) => word.endsWith(".ts")) ?? file;
			for (const name of words.filter((word) => /^[A-Z][A-Z0-9_]+$/.test(word) && word.includes("_"))) {
				count++;
				const text = existsSync(join(repository, "src", file)) ? readFileSync(join(repository, "src", file), "utf8") : "";
				if (!new RegExp(`\\b${name}\\b`).test(text)) wrong.push(`${name} is not in ${file}`);
			}
		}
	}
	assert.ok(count > 10, `${count} constants`);
	assert.deepEqual(wrong, []);
});
