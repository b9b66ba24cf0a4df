// Makes what bundle.mjs has written smaller, for a package: without indents, in longer lines, and with short names for modules.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const biome = join(root, "node_modules/.bin/biome");
const BYTES_MAX = 64 * 1024 * 1024;

const WORDS = [
	"format",
	"--line-width=320",
	"--semicolons=as-needed",
	"--trailing-commas=none",
	"--bracket-spacing=false",
	"--arrow-parentheses=as-needed",
	`--files-max-size=${BYTES_MAX}`,
	"--stdin-file-path=bundle.js",
];

/** Lines that begin alike however the code is indented are within a string, or are not indented. */
function withoutIndents(file) {
	const input = readFileSync(file);
	const [tabs, spaces] = ["tab", "space"].map((style) =>
		execFileSync(biome, [...WORDS, `--indent-style=${style}`, "--indent-width=2"], {
			cwd: root,
			input,
			maxBuffer: BYTES_MAX,
			encoding: "utf8",
		}).split("\n"),
	);
	if (tabs.length !== spaces.length) throw new Error(`${file} has other lines when it is indented otherwise`);
	return tabs.map((line, i) => (line === spaces[i] ? line : line.replace(/^\t+/, ""))).join("\n");
}

/** Of the functions that bundle.mjs has made of modules, and their results: no other names have a dollar within. */
function withShortNames(text) {
	const made = [...text.matchAll(/^(?:async )?function ([a-z\d_]+(?:\$[a-z\d_]+)+)\(/gm)].map(([, name]) => name);
	const short = new Map(
		made.flatMap((name, i) => [
			[name, `m${i}$`],
			[`${name}$$`, `m${i}$$`],
		]),
	);
	return text.replace(/\b[a-z\d_]+(?:\$[a-z\d_]+)+(?:\$\$)?/g, (name) => short.get(name) ?? name);
}

const bundled = readdirSync(join(root, "dist/bundled"), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".js"));
for (const path of ["dist/holdfast.js", ...bundled.map((path) => join("dist/bundled", path))]) {
	const file = join(root, path);
	const compact = withShortNames(withoutIndents(file));
	// somebody may be starting it
	writeFileSync(`${file}.compact`, compact);
	renameSync(`${file}.compact`, file);
}
