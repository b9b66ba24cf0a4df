// `holdfast completion`: prints a script by which a shell completes the words of the program; and, for packages, its manual pages.

import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Argument, type Command } from "commander";
import { describeCommand } from "./command-tree.ts";
import { completionScript, SHELLS, type Shell } from "./completion-scripts.ts";
import { manualPages } from "./manual-pages.ts";
import { printHelp, printLines } from "./print.ts";

const EXAMPLES = `

Examples:

  holdfast completion bash >~/.local/share/bash-completion/completions/holdfast
  holdfast completion zsh >~/.zfunc/_holdfast
      Before compinit in ~/.zshrc: fpath+=~/.zfunc
  holdfast completion fish >~/.config/fish/completions/holdfast.fish`;

/** For all commands: those must have been added to the program by the time that it runs. */
export function addCompletion(program: Command): void {
	program
		.command("completion")
		.description("Print a script by which a shell completes commands and options.")
		.addArgument(new Argument("<shell>", "which shell").choices(SHELLS))
		.addHelpText("after", EXAMPLES)
		.action((shell: Shell) => printHelp(completionScript(shell, describeCommand(program))));
	program
		.command("manual-pages", { hidden: true })
		.description("Write the manual pages, one for each command, to a folder, as packages have them.")
		.argument("<folder>", "where; it is made")
		.action((folder: string) => writePages(program, resolve(folder)));
}

function writePages(program: Command, folder: string): void {
	mkdirSync(folder, { recursive: true });
	const pages = manualPages(describeCommand(program), program.version() ?? "");
	for (const [name, text] of pages) writeFileSync(join(folder, name), text);
	printLines([...pages.keys()]);
}
