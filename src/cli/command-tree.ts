// The commands of the program and their options, as what completion and manual pages are made of.

import type { EventEmitter } from "node:events";
import type { Command, Option } from "commander";

/** What a word stands for: a file, a directory, a set of changes, a directory or its set, one of some words, or what only its user knows. */
export type WordKind = "file" | "directory" | "set" | "tree" | "other" | readonly string[];

export interface DescribedOption {
	/** As typed: `--lower`, and `-h` where there is a short one. */
	readonly names: readonly string[];
	/** Of its value, as help shows it; null: it takes none. */
	readonly value: string | null;
	readonly kind: WordKind;
	readonly isRepeatable: boolean;
	readonly description: string;
	readonly group: string;
}

export interface DescribedArgument {
	readonly term: string;
	readonly kind: WordKind;
	readonly description: string;
}

export interface DescribedCommand {
	/** Without the program's name. */
	readonly name: string;
	readonly description: string;
	/** Behind the name of the command. */
	readonly usage: string;
	readonly arguments: readonly DescribedArgument[];
	readonly options: readonly DescribedOption[];
	readonly commands: readonly DescribedCommand[];
	/** What help says at its end: examples, exit statuses. */
	readonly notes: string;
}

/** What help shows of a command, and of those below it. */
export function describeCommand(command: Command): DescribedCommand {
	const help = command.createHelp();
	return {
		name: command.name(),
		description: command.description(),
		usage: command.usage(),
		arguments: command.registeredArguments.map((argument) => ({
			term: help.argumentTerm(argument),
			kind: argument.argChoices ?? (argument.name() === "dir" ? "tree" : kindOf(argument.name())),
			description: argument.description,
		})),
		options: help.visibleOptions(command).map(describeOption),
		commands: help
			.visibleCommands(command)
			.filter((one) => one.name() !== "help")
			.map(describeCommand),
		notes: notesOf(command),
	};
}

function describeOption(option: Option): DescribedOption {
	const value = /[<[](.*)[>\]]$/.exec(option.flags)?.[1] ?? null;
	const defaults = typeof option.defaultValue === "string" ? ` (default: ${option.defaultValue})` : "";
	const choices = option.argChoices === undefined ? "" : ` (${option.argChoices.join(", ")})`;
	return {
		names: [option.long, option.short].filter((name) => name !== undefined && name !== null) as string[],
		value,
		kind: option.argChoices ?? kindOf(value ?? ""),
		isRepeatable: Array.isArray(option.defaultValue),
		description: `${option.description}${choices}${defaults}`,
		group: option.helpGroupHeading ?? "Options:",
	};
}

function kindOf(name: string): WordKind {
	if (name === "dir" || name === "folder" || name === "mountpoint") return "directory";
	if (name === "name") return "set";
	return name === "file" || name === "layer-and-dir" ? "file" : "other";
}

/** Commander keeps it in listeners, which write it. */
function notesOf(command: Command): string {
	let notes = "";
	(command as unknown as EventEmitter).emit("afterHelp", {
		error: false,
		command,
		write: (text: string) => {
			notes += text;
		},
	});
	return notes.trim();
}

/** All commands below a description, with the words that call them. */
export function allCommands(
	program: DescribedCommand,
): readonly { readonly words: readonly string[]; readonly command: DescribedCommand }[] {
	const found: { words: string[]; command: DescribedCommand }[] = [];
	const visit = (command: DescribedCommand, words: string[]) => {
		found.push({ words, command });
		for (const below of command.commands) visit(below, [...words, below.name]);
	};
	visit(program, []);
	return found;
}
