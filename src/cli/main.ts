// The program: puts the commands together, runs one of them, and turns its errors into a sentence and an exit status.

// the first of all, so that no signal ends what is still being loaded
export { outlivesTerminal } from "./signals.ts";

import { existsSync, readFileSync } from "node:fs";
import { Command, CommanderError, Help, type Option } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import { UnfitMachineError } from "../linux/unfit-machine.ts";
import { quoteForShell } from "../vfs/names.ts";
import { describeFailure } from "../vfs/system-errors.ts";
import { complain, complainByHelp, complainOfFault, printHelp } from "./print.ts";
import { UserError } from "./user-error.ts";

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/** Adds a command, with its options, to the program. */
type AddCommand = (program: Command) => void;

/** In the order of the help. The modules of a command are loaded when it is called: to load all of them takes a good part of a start. */
const commands = {
	serve: async () => (await import("./serve.ts")).addServe,
	run: async () => (await import("./run.ts")).addRun,
	mount: async () => (await import("./mount.ts")).addMount,
	unmount: async () => (await import("./unmount.ts")).addUnmount,
	list: async () => (await import("./list.ts")).addList,
	remove: async () => (await import("./remove.ts")).addRemove,
	diff: async () => (await import("./diff.ts")).addDiff,
	apply: async () => (await import("./apply.ts")).addApply,
	discard: async () => (await import("./discard.ts")).addDiscard,
	pack: async () => (await import("./pack.ts")).addPack,
	handle: async () => (await import("./handle.ts")).addHandle,
	release: async () => (await import("./release.ts")).addRelease,
	settle: async () => (await import("./settle.ts")).addSettle,
	adopt: async () => (await import("./adopt.ts")).addAdopt,
	unpack: async () => (await import("./unpack.ts")).addUnpack,
	check: async () => (await import("./check.ts")).addCheck,
	key: async () => (await import("./key.ts")).addKey,
	fork: async () => (await import("./fork.ts")).addFork,
	rebase: async () => (await import("./rebase.ts")).addRebase,
	rebind: async () => (await import("./rebind.ts")).addRebind,
	completion: async () => (await import("./completion.ts")).addCompletion,
} satisfies Record<string, () => Promise<AddCommand>>;

/** Of the command that was called, or of all where help, an error or completion tells of them. */
async function loadCommands(called: string | undefined): Promise<AddCommand[]> {
	const one = Object.entries(commands).find(([name]) => name === called && name !== "completion");
	return Promise.all(one === undefined ? Object.values(commands).map((load) => load()) : [one[1]()]);
}

/** The version in package.json, which lies above both src/cli and dist/src/cli. */
function version(): string {
	for (const up of ["../../package.json", "../../../package.json"]) {
		try {
			return JSON.parse(readFileSync(new URL(up, import.meta.url), "utf8")).version;
		} catch {}
	}
	return "unknown";
}

async function main(): Promise<void> {
	try {
		const program = new Command("holdfast")
			.description("An overlay filesystem served over NFS, whose file handles hold.")
			.version(version())
			.exitOverride()
			.configureHelp({ optionDescription })
			.configureOutput({ writeOut: printHelp, writeErr: complainByHelp, outputError: () => {} })
			.showSuggestionAfterError();
		for (const add of await loadCommands(process.argv[2])) add(program);
		for (const command of program.commands) command.copyInheritedSettings(program);
		program.hook("preAction", (_, called) => refuseEmpty(called));
		await program.parseAsync();
	} catch (error) {
		process.exitCode = report(error);
	}
}

/** As a variable of a script is that was never set: taken for a path it would be the folder that this was started in. CommanderError. */
function refuseEmpty(command: Command): void {
	// the words of another program are its own
	const words = command.name() === "run" ? [] : command.args;
	const values = [...words, ...Object.values(command.opts()).flat()];
	if (values.includes("")) {
		command.error("One of the arguments, or of the values of options, is empty: perhaps a variable that is not set.");
	}
}

/** That nothing was given is no default worth a word. */
function optionDescription(option: Option): string {
	return Array.isArray(option.defaultValue) ? option.description : new Help().optionDescription(option);
}

/** One sentence on stderr; the exit status. */
function report(error: unknown): number {
	if (error instanceof CommanderError) {
		if (error.exitCode === 0) return 0;
		if (error.code === "commander.help") return EXIT_USAGE;
		complain(error.message.replace(/^error: /, "").replace("\n(Did you mean", " (Did you mean"));
		const word = process.argv[2];
		if (error.code === "commander.unknownCommand" && word !== undefined && existsSync(word))
			complain(`To serve a tree: holdfast serve ${quoteForShell(word)}`);
		if (error.code === "commander.excessArguments") complain("A name with spaces in it needs quotes; options say what further words are.");
		return EXIT_USAGE;
	}
	if (error instanceof UserError) {
		for (const line of [error.message, ...error.advice]) complain(line);
		return error.exitCode;
	}
	const failure = describeFailure(error);
	if (error instanceof UnfitMachineError || error instanceof LayerError) complain(error.message);
	else if (failure !== null) complain(`${failure}.`);
	else complainOfFault("This should not have happened", error);
	return EXIT_FAILURE;
}

await main();
