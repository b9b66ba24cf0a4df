// The program: puts the commands together, runs one of them, and turns its errors into a sentence and an exit status.

import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { OverlayError } from "../vfs/errors.ts";
import { addAdopt } from "./adopt.ts";
import { addCheck } from "./check.ts";
import { addFork } from "./fork.ts";
import { addHandle } from "./handle.ts";
import { addKey } from "./key.ts";
import { addRebase } from "./rebase.ts";
import { addRebind } from "./rebind.ts";
import { addRelease } from "./release.ts";
import { addServe } from "./serve.ts";
import { addSettle } from "./settle.ts";
import { addUnpack } from "./unpack.ts";
import { UserError } from "./user-error.ts";

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

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
	const program = new Command("holdfast")
		.description("An overlay filesystem served over NFS, whose file handles hold.")
		.version(version())
		.exitOverride()
		.configureOutput({ outputError: () => {} })
		.showSuggestionAfterError();
	for (const add of [addServe, addHandle, addRelease, addSettle, addAdopt, addUnpack, addCheck, addKey, addFork, addRebase, addRebind])
		add(program);
	for (const command of program.commands) command.copyInheritedSettings(program);
	try {
		await program.parseAsync();
	} catch (error) {
		process.exitCode = report(error);
	}
}

/** One sentence on stderr; the exit status. */
function report(error: unknown): number {
	if (error instanceof CommanderError) {
		if (error.exitCode === 0) return 0;
		if (error.code === "commander.help") return EXIT_USAGE;
		process.stderr.write(`${error.message.replace(/^error: /, "holdfast: ")}\n`);
		return EXIT_USAGE;
	}
	if (error instanceof UserError) {
		process.stderr.write(`holdfast: ${error.message}\n`);
		return error.exitCode;
	}
	if (error instanceof OverlayError) process.stderr.write(`holdfast: ${error.message}.\n`);
	else process.stderr.write(`holdfast: This should not have happened: ${error instanceof Error ? error.stack : String(error)}\n`);
	return EXIT_FAILURE;
}

await main();
