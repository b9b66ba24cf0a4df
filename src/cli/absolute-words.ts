// The words of a command line with paths that mean the same wherever the program runs.

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { Command, Option } from "commander";
import { isSetName } from "../sets/set-names.ts";

/**
 * `words` of a command, behind its name, with absolute paths. `named`: how many of its arguments, from the last one back, are paths and nothing
 * else; those before may be names of sets.
 */
export function absoluteWords(command: Command, words: readonly string[], named: number): string[] {
	const made: string[] = [];
	const places: number[] = [];
	for (let i = 0; i < words.length; i++) {
		const word = words[i];
		if (word === "--") {
			made.push(word);
			for (const rest of words.slice(i + 1)) places.push(made.push(rest) - 1);
			break;
		}
		if (!word.startsWith("-") || word === "-") {
			places.push(made.push(word) - 1);
			continue;
		}
		const inline = /^(--[^=]+)=(.*)$/s.exec(word);
		const option = command.options.find(({ long, short }) => long === (inline?.[1] ?? word) || short === word);
		if (inline !== null) made.push(option === undefined ? word : `${inline[1]}=${absoluteValue(option, inline[2])}`);
		else made.push(word);
		if (inline === null && option?.required === true && i + 1 < words.length) made.push(absoluteValue(option, words[++i]));
	}
	for (const [i, at] of places.entries()) {
		const isPath = i >= places.length - named || !isSetName(made[at]) || existsSync(made[at]);
		if (isPath) made[at] = absolutePath(made[at]);
	}
	return made;
}

/** A server leaves the folder that it was started in. An empty path is refused by who opens it. */
export function absolutePath(path: string): string {
	return path === "" ? path : resolve(path);
}

function absoluteValue({ flags }: Option, value: string): string {
	if (/<(dir|mountpoint)>$/.test(flags)) return absolutePath(value);
	if (/<NAME=DIR>$/.test(flags)) return value.replace(/=(.+)$/s, (_, path) => `=${resolve(path)}`);
	return value.startsWith("unix:") && value.length > 5 ? `unix:${resolve(value.slice(5))}` : value;
}
