// Makes what bundle.mjs has written smaller, for a package: tsc indents by four spaces, and breaks lines where the sources do.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const biome = join(root, "node_modules/.bin/biome");
const BYTES_MAX = 64 * 1024 * 1024;

const WORDS = [
	"format",
	"--indent-style=tab",
	"--line-width=320",
	"--semicolons=as-needed",
	"--trailing-commas=none",
	"--bracket-spacing=false",
	"--arrow-parentheses=as-needed",
	`--files-max-size=${BYTES_MAX}`,
	"--stdin-file-path=bundle.js",
];

const bundled = readdirSync(join(root, "dist/bundled"), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".js"));
for (const path of ["dist/holdfast.js", ...bundled.map((path) => join("dist/bundled", path))]) {
	const file = join(root, path);
	const compact = execFileSync(biome, WORDS, { cwd: root, input: readFileSync(file), maxBuffer: BYTES_MAX });
	// somebody may be starting it
	writeFileSync(`${file}.compact`, compact);
	renameSync(`${file}.compact`, file);
}
