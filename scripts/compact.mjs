// Makes what bundle.mjs has written smaller, for a package: without what only people read, and with short names for modules.

import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { transformSync } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Names stay: traces of the log have them. */
const HOW = { format: "esm", target: "node20", minifyWhitespace: true, minifySyntax: true, legalComments: "none" };

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
	const compact = transformSync(withShortNames(readFileSync(file, "utf8")), HOW).code;
	// somebody may be starting it
	writeFileSync(`${file}.compact`, compact);
	renameSync(`${file}.compact`, file);
}
