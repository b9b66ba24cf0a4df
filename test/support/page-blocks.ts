// The commands that a page shows, in the order in which a person would type them.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./requirements.ts";

export interface PageCommand {
	/** `README.md:12` */
	readonly where: string;
	readonly command: string;
	/** Of a transcript, the lines that follow; "..." stands for any text, on a line of its own for any lines. Null: not told. */
	readonly expected: readonly string[] | null;
}

export interface PageBlocks {
	readonly commands: readonly PageCommand[];
	/** Blocks that the page itself says are not run, with the reason. */
	readonly notRun: readonly { readonly where: string; readonly reason: string }[];
}

const NOT_RUN = /^<!-- not run here: (.+) -->$/;

/**
 * Blocks marked `sh` hold commands and comments, those marked `console` a transcript with `$` before each command. A server that is not put in the
 * background is ended before the next command, as by Ctrl-C.
 */
export function blocksOf(page: string): PageBlocks {
	const lines = readFileSync(join(repository, page), "utf8").split("\n");
	const commands: PageCommand[] = [];
	const notRun: { where: string; reason: string }[] = [];
	for (let at = 0; at < lines.length; at++) {
		const kind = /^```(sh|console)$/.exec(lines[at] as string)?.[1];
		if (kind === undefined) continue;
		const first = at + 1;
		for (at = first; lines[at] !== "```"; at++);
		const block = lines.slice(first, at);
		const reason = NOT_RUN.exec(lines[first - 2] ?? "")?.[1];
		if (reason !== undefined) notRun.push({ where: `${page}:${first}`, reason });
		else commands.push(...(kind === "sh" ? typed(page, first, block) : shown(page, first, block)));
	}
	return { commands, notRun };
}

function typed(page: string, first: number, block: readonly string[]): PageCommand[] {
	const commands: PageCommand[] = [];
	for (const [i, line] of block.entries()) {
		if (line === "" || line.startsWith("#")) continue;
		const where = `${page}:${first + i + 1}`;
		const isServer = line.includes("holdfast serve ") && !line.endsWith("&");
		commands.push({ where, command: isServer ? `${line} &` : line, expected: null });
		if (isServer) commands.push({ where: `${where}:end`, command: "kill %1; wait %1", expected: null });
	}
	return commands;
}

function shown(page: string, first: number, block: readonly string[]): PageCommand[] {
	const commands: { where: string; command: string; expected: string[] }[] = [];
	for (const [i, line] of block.entries()) {
		if (line.startsWith("$ ")) commands.push({ where: `${page}:${first + i + 1}`, command: line.slice(2), expected: [] });
		else commands.at(-1)?.expected.push(line);
	}
	return commands;
}

/** Whether a transcript fits to what was printed. */
export function fits(expected: readonly string[], printed: readonly string[]): boolean {
	const pattern = expected.map((line) => (line === "..." ? "(?:.*\n)*" : `${line.split("...").map(escapeForPattern).join(".*")}\n`));
	return new RegExp(`^${pattern.join("")}$`).test(printed.map((line) => `${line}\n`).join(""));
}

/** How many blanks part two columns depends on what stands in them. */
function escapeForPattern(text: string): string {
	return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/ +/g, " +");
}
