// `holdfast run`: a command that sees copies of directories in place of themselves, and can change nothing else.

import { type Command, InvalidArgumentError, Option } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import { collect } from "./collect.ts";
import { ON_EXIT } from "./run-end.ts";
import { type KeeperTask, keepSession } from "./run-keeper.ts";
import { dropSession, listSessions } from "./run-list.ts";
import { type RunArguments, runCommand } from "./run-session.ts";
import { UserError } from "./user-error.ts";

interface Arguments extends Omit<RunArguments, "isNetworkOwn"> {
	readonly list?: boolean;
	readonly json?: boolean;
	readonly drop?: string;
	readonly network: boolean;
	readonly keeperTask?: Omit<KeeperTask, "backgroundOf">;
	readonly backgroundOf?: number;
}

const EXAMPLES = `

The command sees the current directory, or each DIR of --dir, at its own path and as its own user; what it changes there is kept apart, and the directory
itself is never written. Everything else is read-only, but /tmp and /dev/shm, which are empty and go at the end. At the end it is told what was changed,
and the changes are kept, brought into the directory (holdfast apply), or discarded. The exit status is the command's, or 128 and the number of the signal that ended it.

This protects from mistakes, not from attackers: the command reads all that you can read, and reaches the network unless --no-network is given.

Examples:

  cd ~/project && holdfast run -- make clean all
  holdfast run --dir ~/project --session trial -- rm -r ~/project/src
      A session with a name, to which "holdfast run --session trial" returns, also from another terminal meanwhile.
  holdfast run --list
      Which sessions there are, and which are in use.
  holdfast run --drop trial
      Takes a session away, with all its changes.`;

export function addRun(program: Command): void {
	program
		.command("run")
		.description("Run a command on copies of directories: what it changes is kept apart, and nothing else can be changed.")
		.argument("[command...]", "the command and its words, behind -- (default: your shell)")
		.usage("[options] [-- command...]")
		.option("--dir <dir>", "a directory to have a copy of; may be repeated (default: the current one)", collect, [])
		.option("--session <name>", "make the session of that name, go on with it, or join it (default: a new one)")
		.option("--allow <path>", "leave this writable as it is; may be repeated", collect, [])
		.option("--hide <path>", "show this directory or file empty; may be repeated", collect, [])
		.option("--no-network", "without a network")
		.option("--linger", "wait for processes that the command leaves behind, which else are ended")
		.option("--anyway", "where no sandbox can be made: run it with the copy at another path, and all else writable, without asking")
		.option("--on-exit <answer>", `what becomes of the changes: ${ON_EXIT.join(", ")} (default: ask at a terminal, else keep)`, parseOnExit)
		.option("--state-dir <dir>", "where sessions are kept (default: as for serve)")
		.optionsGroup("Instead of a command:")
		.option("--list", "list the sessions")
		.option("--json", "with --list: print one JSON object")
		.option("--drop <name>", "take a session away, with all its changes")
		.addOption(new Option("--keeper-task <json>").argParser((json: string) => JSON.parse(json)).hideHelp())
		.addOption(new Option("--background-of <fd>").argParser(Number).hideHelp())
		.addHelpText("after", EXAMPLES)
		.action((words: string[], given: Arguments) => run(words, given));
}

function parseOnExit(value: string): (typeof ON_EXIT)[number] {
	const found = ON_EXIT.find((answer) => answer === value);
	if (found === undefined) throw new InvalidArgumentError(`What becomes of the changes is one of ${ON_EXIT.join(", ")}.`);
	return found;
}

async function run(words: readonly string[], given: Arguments): Promise<void> {
	const { keeperTask, backgroundOf } = given;
	if (keeperTask !== undefined && backgroundOf !== undefined) {
		// it may wait for a lock that whoever waits for its end has
		process.exit(await keepSession({ ...keeperTask, backgroundOf }));
	}
	if (given.json && !given.list) throw new UserError("--json is of use with --list only.", 2);
	if ((given.list || given.drop !== undefined) && words.length > 0) throw new UserError("--list and --drop run no command.", 2);
	try {
		if (given.list) listSessions(given);
		else if (given.drop !== undefined) await dropSession(given.drop, given);
		else process.exitCode = await runCommand(words, { ...given, isNetworkOwn: !given.network });
	} catch (error) {
		throw error instanceof LayerError ? new UserError(error.message) : error;
	}
}
