import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { must } from "./host.mjs";

/** What programs in the virtual machine work on, as archives: the lower, which has a repository, a project and a folder to remove. */

/** How much there is of it all. */
export const fullSize = { commits: 20, cloned: 500, unpacked: 1000, sources: 40, condemned: 2000, packages: 300 };
export const quickSize = { commits: 5, cloned: 100, unpacked: 200, sources: 40, condemned: 400, packages: 10 };
const warmSize = { commits: 1, cloned: 20, sources: 2 };
const FILES_OF_PACKAGE = 100;
/** Of the function in each source. */
const STEPS = 5;
/** Which each source includes. */
const HEADERS = 60;

/** Returns how many files small-files.tar has. */
export function makeArchives(folder, size) {
	archive(folder, "lower", (top) => {
		repository(join(top, "repository"), size);
		project(join(top, "project"), size.sources);
		files(join(top, "condemned"), size.condemned, () => 4096);
	});
	archive(folder, "source", (top) => files(top, size.unpacked, (index) => 200 + ((index * 997) % 16_000)));
	archive(folder, "small-files", (top) => {
		for (let index = 0; index < size.packages; index++) packageOf(join(top, `package-${index}`), index);
	});
	archive(folder, "warm", (top) => {
		repository(join(top, "repository"), warmSize);
		project(join(top, "project"), warmSize.sources);
		files(join(top, "files"), 200, () => 2000);
	});
	return size.packages * FILES_OF_PACKAGE;
}

function archive(folder, name, make) {
	const top = join(folder, name);
	mkdirSync(top, { recursive: true });
	make(top);
	must("tar", "-c", "-f", `${top}.tar`, "-C", top, ".");
	rmSync(top, { recursive: true });
}

/** Twenty files a folder, in three levels. */
function files(top, count, bytesOf) {
	for (let index = 0; index < count; index++) {
		const folder = join(top, String(Math.floor(index / 400)), String(Math.floor(index / 20)));
		if (index % 20 === 0) mkdirSync(folder, { recursive: true });
		const path = join(folder, `file-${index}.txt`);
		writeFileSync(path, text(index, bytesOf(index)));
		if (index % 50 === 0) chmodSync(path, 0o755);
	}
}

/** A package as npm installs it: a manifest, some text, and many small files. */
function packageOf(top, number) {
	for (const folder of ["lib/internal", "dist/esm", "dist/cjs", "types"]) mkdirSync(join(top, folder), { recursive: true });
	writeFileSync(join(top, "package.json"), text(number, 900));
	writeFileSync(join(top, "README.md"), text(number + 1, 5000));
	const folders = ["", "lib", "lib/internal", "dist/esm", "dist/cjs", "types"];
	for (let index = 2; index < FILES_OF_PACKAGE; index++) {
		writeFileSync(
			join(top, folders[index % folders.length], `module-${index}.js`),
			text(index, 100 + ((number * 31 + index * 577) % 3000)),
		);
	}
}

/** So many commits, packed, as in a repository that was cloned. */
function repository(top, { commits, cloned }) {
	const who = { NAME: "bench", EMAIL: "bench@example.org", DATE: "2020-01-01T00:00:00Z" };
	const identity = ["AUTHOR", "COMMITTER"].flatMap((role) => Object.entries(who).map(([what, value]) => `GIT_${role}_${what}=${value}`));
	const git = (...args) =>
		must("env", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", ...identity, "git", "-C", top, ...args);
	files(top, cloned, (index) => 500 + ((index * 331) % 8000));
	git("init", "-q", "-b", "main");
	for (let commit = 0; commit < commits; commit++) {
		writeFileSync(join(top, "0/0", `file-${commit % 20}.txt`), text(commit + 1, 2000));
		git("add", "-A");
		git("commit", "-q", "-m", `change ${commit}`);
	}
	git("gc", "-q");
}

/** A hundred files: compilers are slow to start there, so not each of them is a source. */
function project(top, sources) {
	mkdirSync(top, { recursive: true });
	const numbers = Array.from({ length: sources }, (_, index) => index);
	const write = (name, ...lines) => writeFileSync(join(top, name), `${lines.join("\n")}\n`);
	write(
		"Makefile",
		"objects := $(patsubst %.c,%.o,$(wildcard *.c))",
		"program: $(objects)",
		"\t$(CC) -o $@ $^",
		"%.o: %.c $(wildcard *.h)",
		"\t$(CC) -c -o $@ $<",
	);
	for (let index = 0; index < HEADERS; index++) write(`header${index}.h`, `#define HEADER_${index} ${index}`);
	const includes = Array.from({ length: HEADERS }, (_, index) => `#include "header${index}.h"`);
	write("common.h", ...includes, ...numbers.map((number) => `int part${number}(int value);`));
	for (const number of numbers) {
		const steps = Array.from({ length: STEPS }, (_, step) => `\tif (value % ${step + 2} == 0) value += ${number} + ${step};`);
		write(`part${number}.c`, '#include "common.h"', `int part${number}(int value) {`, ...steps, "\treturn value;", "}");
	}
	write(
		"main.c",
		"#include <stdio.h>",
		'#include "common.h"',
		"int main(void) {",
		"\tint value = 1;",
		...numbers.map((number) => `\tvalue = part${number}(value) % 1000;`),
		'\tprintf("%d\\n", value);',
		"\treturn 0;",
		"}",
	);
	write("expected", String(resultOf(numbers)));
}

/** What the program prints. */
function resultOf(numbers) {
	let value = 1;
	for (const number of numbers) {
		for (let step = 0; step < STEPS; step++) if (value % (step + 2) === 0) value += number + step;
		value %= 1000;
	}
	return value;
}

/** Lines that differ from file to file, so that git has something to pack. */
function text(seed, bytes) {
	let lines = "";
	for (let line = 0; lines.length < bytes; line++) lines += `${(seed * 7919 + line * 104_729) % 1_000_003} line ${line} of ${seed}\n`;
	return lines.slice(0, bytes);
}
