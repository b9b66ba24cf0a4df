// Checks what a review should not have to: how long functions are, that files say what they are for, turns of phrase, that no
// listing of a directory is used without a look at its error, that errors are told with their reasons, and that nothing is printed but by one file. Prints each offence as file:line and exits 1 if there is any.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), ".."));

/** A function that is longer does more than one thing. From its first line to its closing brace. */
const FUNCTION_LINES_MAX = 70;
/** They stand for a term that the reader has to find: write the term. */
const PHRASES = /\b(the ones? that|the one of|those of|those that|of which|what of)\b/gi;

/** The only file that writes to stdout and stderr. */
const PRINTER = "src/cli/print.ts";

const offences = [];
for (const file of filesBelow("src", ".ts")) {
	const lines = readFileSync(file, "utf8").split("\n");
	checkPhrases(file, lines);
	checkListings(file, lines);
	checkPrints(file, lines);
	checkReasons(file, lines);
	checkHeader(file, lines);
	if (!/\.test\.ts$/.test(file)) checkFunctions(file, lines);
}
for (const page of [...filesBelow("docs", ".md"), ...["README.md", "CHANGELOG.md"].map((name) => join(root, name)).filter(existsSync)]) {
	checkPhrases(page, readFileSync(page, "utf8").split("\n"));
}
for (const offence of offences) console.error(offence);
if (offences.length > 0) process.exit(1);
console.log("style: nothing to complain about");

function filesBelow(folder, ending) {
	if (!existsSync(join(root, folder))) return [];
	return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
		.filter((entry) => entry.isFile() && entry.name.endsWith(ending))
		.map((entry) => join(entry.parentPath ?? entry.path, entry.name))
		.sort();
}

function complain(file, line, reason) {
	offences.push(`${relative(root, file)}:${line + 1}: ${reason}`);
}

/** Over the end of a line too, where a sentence goes on behind the marks of a comment or a list. */
function checkPhrases(file, lines) {
	for (const [number, line] of lines.entries()) {
		const text = line.trimStart();
		const next = (lines[number + 1] ?? "").trimStart().replace(/^(\*|\/\/|[-+])\s*/, "");
		for (const match of `${text} ${next}`.matchAll(PHRASES)) {
			if (match.index < text.length) complain(file, number, `"${match[0]}": write the term that it stands for`);
		}
	}
}

/** Names of files must not reach a terminal raw, so there is one way to it. */
function checkPrints(file, lines) {
	if (/\.test(-support)?\.ts$/.test(file) || relative(root, file) === PRINTER) return;
	for (const [number, line] of lines.entries()) {
		if (/\bprocess\s*\.\s*(stdout|stderr)\b|\bconsole\s*\.|\b(writeSync|writeFileSync)\((1|2)\b|\bemitWarning\b/.test(line)) {
			complain(file, number, `only ${PRINTER} prints, since names of files must not reach a terminal raw`);
		}
	}
}

/** A sentence says why with `whyNot`; the name of an error alone tells nobody what to do. */
function checkReasons(file, lines) {
	if (/\.test(-support)?\.ts$/.test(file) || relative(root, file).startsWith("src/linux/")) return;
	for (const [number, line] of lines.entries()) {
		if (/: \$\{(errnoName\(|\(error as NodeJS\.ErrnoException\)\.code)/.test(line))
			complain(file, number, "an error is told with its reason: whyNot");
	}
}

/** The first line is a comment, and its first sentence ends in that comment. */
function checkHeader(file, lines) {
	const isComment = /^(\/\/ |\/\*\*)/.test(lines[0]);
	const end = lines[0].startsWith("/**")
		? lines.findIndex((line) => line.includes("*/"))
		: lines.findIndex((line) => !line.startsWith("//")) - 1;
	const comment = lines.slice(0, end + 1).join(" ");
	if (!isComment || !/[.:](\s|$)/.test(comment)) complain(file, 0, "a file begins with one sentence that says what it is for");
}

/** The formatter indents by tabs, and puts the closing brace of a function under the line that begins it. */
function checkFunctions(file, lines) {
	const start =
		/^(\t*)(?:(?:export|default|async|static|override|get|set|const|readonly)\s+)*(?:function\b.*|[\w#*]+\s*(?:=\s*(?:async\s*)?)?(?:<.*>)?\(.*)$/;
	for (let at = 0; at < lines.length; at++) {
		const indent = start.exec(lines[at])?.[1];
		if (indent === undefined || /^\t*(if|for|while|switch|return|throw|catch|await)\b/.test(lines[at])) continue;
		const end = closingLine(lines, at, indent);
		const length = end - at + 1;
		if (length > FUNCTION_LINES_MAX) complain(file, at, `a function of ${length} lines; the limit is ${FUNCTION_LINES_MAX}`);
	}
}

/** The line of the brace that closes what begins at a line, or that line itself where it is no body. */
function closingLine(lines, at, indent) {
	for (let end = at + 1; end < lines.length; end++) {
		const line = lines[end];
		if (line === "" || line.startsWith(`${indent}\t`)) continue;
		if (new RegExp(`^${indent}\\}[;,)]*$`).test(line)) return end;
		// the parameters ended, and the body goes on
		if (line.startsWith(`${indent})`) && line.endsWith("{")) continue;
		return at;
	}
	return at;
}

function checkListings(file, lines) {
	if (/\.test\.ts$/.test(file)) return;
	for (const [number, line] of lines.entries()) {
		if (/^\s*visitEntries\(/.test(line)) complain(file, number, "what visitEntries returns is looked at: a listing may fail in its middle");
		if (/\bnamesOf\([^;]*\) as\b/.test(line)) complain(file, number, "namesOf returns an error number where the listing failed");
	}
}
