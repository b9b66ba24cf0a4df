// Puts the compiled modules of the program into one file, dist/holdfast.js, and the modules of its worker threads, and of a program that it starts, into others: Node takes
// longer to find two hundred files than to compile them, and a package needs no others. Each module becomes a function that runs once, when it
// is first imported. What tsc writes is regular enough for it, and any other form of import or export ends the build.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), ".."));
const source = join(root, "dist/src");
/** Runs before packages are loaded: no signal is to come in between. */
const first = join(source, "cli/signals.js");
/** Modules look for what lies beside them as if they were in this folder: thread-pool.js finds the file of the threads there. */
const beside = join(root, "dist/bundled");

/** Packages and modules of Node's, and the names of their namespaces in the bundle. */
const outside = new Map();
/** Modules of ours in an order in which each comes behind what it imports. */
const written = new Map();
let entry;

bundle("cli/main.js", join(root, "dist/holdfast.js"));
for (const apart of [
	"overlay/threads/offload-worker.js",
	"mounting/mount-inside.js",
	"mounting/sandbox-inside.js",
	"mounting/unmount-thread.js",
])
	bundle(apart, join(beside, apart));

function bundle(start, target) {
	outside.clear();
	written.clear();
	entry = join(source, start);
	add(entry);
	const head = [
		"// Written by scripts/bundle.mjs from dist/src.",
		...(written.has(first) ? [written.get(first), `${functionOf(first)}();`] : []),
		...[...outside].map(([specifier, name]) => `const ${name} = await import("${specifier}");`),
		`const urlOf = (path) => new URL(path, new URL("${relative(dirname(target), beside) || "."}/", import.meta.url)).href;`,
	];
	written.delete(first);
	mkdirSync(dirname(target), { recursive: true });
	writeFileSync(`${target}.new`, `${[...head, ...written.values()].join("\n")}\nawait ${functionOf(entry)}();\n`);
	renameSync(`${target}.new`, target);
}

/** A name that no other module has: no path holds the characters that are put in. */
function functionOf(file) {
	return relative(source, file).replace(/\.js$/, "").replaceAll("/", "$").replaceAll("-", "_");
}

function add(file) {
	if (written.has(file)) return;
	written.set(file, null);
	const exported = new Set();
	const body = withExports(file, withImports(file, readFileSync(file, "utf8")), exported);
	const left = /^(?:import|export)\b.*|.*\bimport\.meta\b.*/m.exec(body);
	if (left !== null) fail(file, `a form of import or export that bundle.mjs does not know: ${left[0]}`);
	written.delete(file);
	written.set(file, file === entry ? `async function ${functionOf(file)}() {\n${body}}` : onceRun(file, body, exported));
}

function onceRun(file, body, exported) {
	const name = functionOf(file);
	const members = ["__proto__: null", ...exported].join(", ");
	return `let ${name}$$;\nfunction ${name}() {\nif (${name}$$ !== undefined) return ${name}$$;\n${body}\nreturn (${name}$$ = { ${members} });\n}`;
}

function withImports(file, text) {
	const imports = text.replace(/^import ([^;"]+) from "([^"]+)";$/gm, (_, what, specifier) => {
		const names = what.startsWith("* as ") ? what.slice(5) : what.replace(/\b(\w+) as (\w+)\b/g, "$1: $2");
		if (specifier.startsWith(".")) return `const ${names} = ${imported(file, specifier)}();`;
		if (!outside.has(specifier)) outside.set(specifier, `outside${outside.size}`);
		const namespace = outside.get(specifier);
		return `const ${names} = ${/^\w+$/.test(what) ? `${namespace}.default` : namespace};`;
	});
	return imports
		.replace(/\bimport\("(\.[^"]+)"\)/g, (_, specifier) => `(async () => ${imported(file, specifier)}())()`)
		.replace(/\bimport\.meta\.url\b/g, `urlOf("${relative(source, file)}")`);
}

function imported(file, specifier) {
	const path = resolve(dirname(file), specifier);
	add(path);
	return functionOf(path);
}

function withExports(file, text, exported) {
	return text
		.replace(/^export ((?:async function|function|class|const)\*? (\w+))/gm, (_, declaration, name) => {
			exported.add(name);
			return declaration;
		})
		.replace(/^export \{ ?([\w, ]*?) ?\}(?: from "([^"]+)")?;$/gm, (_, list, specifier) => {
			const from = specifier === undefined ? "" : `${imported(file, specifier)}().`;
			for (const name of list.split(", ").filter((name) => name !== "")) exported.add(from === "" ? name : `${name}: ${from}${name}`);
			return "";
		});
}

function fail(file, reason) {
	console.error(`${relative(root, file)}: ${reason}`);
	process.exit(1);
}
