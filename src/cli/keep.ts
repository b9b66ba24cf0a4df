// The keeper of a FUSE mount and its server: which of the two this process is, and what they are told by options that nobody types.

import { type Command, InvalidArgumentError, Option } from "commander";
import { coverDirectory } from "../linux/covered-directories.ts";
import { keepMount } from "../mounting/keeper.ts";
import { pointPath } from "../mounting/mount-point.ts";
import { parseMountOptions } from "../mounting/mount-request.ts";
import type { Again } from "../mounting/server-message.ts";
import { MountError } from "../mounting/ways.ts";
import { absoluteWords } from "./absolute-words.ts";
import { backgroundTeller, startInBackground } from "./background.ts";
import { complain } from "./print.ts";
import { UserError } from "./user-error.ts";

export interface KeeperArguments {
	readonly mount?: string;
	/** The values of all -o. */
	readonly o?: readonly string[];
	/** The command returns when the mount can be used. */
	readonly background?: boolean;
	/** In a keeper in the background: the descriptor that it closes when the mount can be used. */
	readonly backgroundOf?: number;
	/** In a server: the descriptor of the socket to its keeper. */
	readonly keeper?: number;
	/** In a server that goes on where another one was killed. */
	readonly keeperAgain?: Again;
}

const MOUNT_OPTIONS_HELP = "options of the mount, with commas between: ro, allow_other, nodev, nosuid";

/** Of serve and mount. */
export function addKeeperOptions(command: Command): void {
	command
		.option("-o <options>", MOUNT_OPTIONS_HELP, parseMountOption)
		.addOption(new Option("--background-of <fd>").argParser(Number).hideHelp())
		.addOption(new Option("--keeper <fd>").argParser(Number).hideHelp())
		.addOption(new Option("--keeper-again <json>").argParser((json: string) => JSON.parse(json) as Again).hideHelp());
}

function parseMountOption(value: string, before: readonly string[] = []): readonly string[] {
	const values = [...before, value];
	try {
		parseMountOptions(values);
	} catch (error) {
		throw new InvalidArgumentError((error as Error).message);
	}
	return values;
}

/**
 * Runs `serve` where this process is the server of a mount; else becomes its keeper, which starts this command once more as the server. `named`:
 * see absoluteWords.
 */
export async function keepOrServe(command: Command, given: KeeperArguments, named: number, serve: () => Promise<void>): Promise<void> {
	if (given.keeper !== undefined) {
		for (const [path, { fd, real }] of Object.entries(given.keeperAgain?.held ?? {})) coverDirectory(path, fd, real);
		return serve();
	}
	if (given.mount === undefined || given.mount === "") throw new UserError("Name the directory to mount at.", 2);
	const [node, main, name, ...typed] = [process.execPath, ...process.argv.slice(1)];
	const program = [node, ...process.execArgv, main, name];
	const words = absoluteWords(command, typed, named);
	if (given.background === true && given.backgroundOf === undefined) {
		process.exitCode = await startInBackground(program, words);
		return;
	}
	const onReady = given.backgroundOf === undefined ? undefined : backgroundTeller(given.backgroundOf);
	try {
		process.exitCode = await keepMount({
			point: pointPath(given.mount),
			mount: parseMountOptions(given.o ?? []),
			program,
			words,
			tell: complain,
			onReady,
		});
	} catch (error) {
		throw error instanceof MountError ? new UserError(error.message) : error;
	}
}
