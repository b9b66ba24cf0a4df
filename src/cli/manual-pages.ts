// Manual pages from the tree of commands, in the macros of man(7).

import { allCommands, type DescribedCommand, type DescribedOption } from "./command-tree.ts";

/** By their file names: one page for the program, and one for each of its commands with those below it. */
export function manualPages(program: DescribedCommand, version: string): ReadonlyMap<string, string> {
	const pages = new Map([[`${program.name}.1`, programPage(program, version)]]);
	for (const command of program.commands) pages.set(`${program.name}-${command.name}.1`, commandPage(program, command, version));
	return pages;
}

function programPage(program: DescribedCommand, version: string): string {
	return joined([
		...head(program, program.name, program.description, version),
		".SH SYNOPSIS",
		synopsis([program.name], "COMMAND [options] [arguments]"),
		".SH DESCRIPTION",
		line(program.description),
		line("Each command has a page of its own, and says by --help what it takes."),
		".SH COMMANDS",
		...program.commands.flatMap(({ name, description }) => [".TP", `.BR ${escaped(`${program.name}-${name}`)} (1)`, line(description)]),
		...optionSections(program),
		...ends(program),
	]);
}

function commandPage(program: DescribedCommand, command: DescribedCommand, version: string): string {
	const below = allCommands(command).slice(1);
	return joined([
		...head(program, `${program.name}-${command.name}`, command.description, version),
		".SH SYNOPSIS",
		...[{ words: [] as readonly string[], command }, ...below]
			.filter((one) => one.command.commands.length === 0)
			.map(({ words, command: { usage } }) => `${synopsis([program.name, command.name, ...words], usage)}\n.br`),
		".SH DESCRIPTION",
		line(command.description),
		...argumentsOf(command),
		...optionSections(command),
		...notes(command),
		...below.flatMap(({ words, command: one }) => [
			`.SH ${escaped([program.name, command.name, ...words].join(" ").toUpperCase())}`,
			line(one.description),
			...argumentsOf(one),
			...one.options.flatMap(optionLines),
			...notes(one),
		]),
		...ends(program),
	]);
}

function head(program: DescribedCommand, name: string, description: string, version: string): string[] {
	return [
		`.\\" Made by ${program.name} from its commands.`,
		`.TH ${escaped(name.toUpperCase())} 1 "" "${program.name} ${version}" "User Commands"`,
		".SH NAME",
		`${escaped(name)} \\- ${escaped(description.replace(/\.$/, ""))}`,
	];
}

function synopsis(words: readonly string[], rest: string): string {
	return `.B ${escaped(words.join(" "))}\n${escaped(rest)}`;
}

function argumentsOf({ arguments: all }: DescribedCommand): string[] {
	return all.flatMap(({ term, description }) => [".TP", `.I ${escaped(term)}`, line(description)]);
}

function optionSections({ options }: DescribedCommand): string[] {
	const groups = [...new Set(options.map(({ group }) => group))];
	return [
		".SH OPTIONS",
		...groups.flatMap((group) => [
			...(groups.length > 1 ? [`.SS ${escaped(group.replace(/:$/, ""))}`] : []),
			...options.filter((option) => option.group === group).flatMap(optionLines),
		]),
	];
}

function optionLines({ names, value, description }: DescribedOption): string[] {
	const shown = names.map((name) => `\\fB${escaped(name)}\\fR`).join(", ");
	return [".TP", `${shown}${value === null ? "" : ` \\fI${escaped(value)}\\fR`}`, line(description)];
}

/** Examples stay as they are. */
function notes({ notes: text }: DescribedCommand): string[] {
	return text === "" ? [] : [".SH NOTES", ".nf", text.split("\n").map(line).join("\n"), ".fi"];
}

function ends(program: DescribedCommand): string[] {
	return [
		".SH EXIT STATUS",
		line("0 after success, 1 for a failure, 2 for wrong usage; check has statuses of its own."),
		".SH SEE ALSO",
		[program, ...program.commands]
			.map(({ name }) => `.BR ${escaped(name === program.name ? name : `${program.name}-${name}`)} (1)`)
			.join(",\n"),
	];
}

/** A line that begins with a dot or an apostrophe would be a request. */
function line(text: string): string {
	return `${/^[.']/.test(text) ? "\\&" : ""}${escaped(text)}`;
}

function escaped(text: string): string {
	return text.replaceAll("\\", "\\e").replaceAll("-", "\\-");
}

function joined(lines: readonly string[]): string {
	return `${lines.join("\n")}\n`;
}
