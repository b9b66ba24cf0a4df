// `holdfast unmount`: ends a mount of holdfast, also one that has lost its server.

import type { Command } from "commander";
import { awaitKeeper } from "../mounting/keeper-name.ts";
import { deviceOfOurs, pointPath } from "../mounting/mount-point.ts";
import { unmountAnyhow } from "../mounting/ways.ts";
import { quoteForShell } from "../vfs/names.ts";
import { UserError } from "./user-error.ts";

interface UnmountArguments {
	readonly lazy?: boolean;
}

const EXAMPLES = `

Example:

  holdfast unmount ~/view
      What "holdfast mount" has mounted there, whose server ends with it. umount(8) and fusermount3 -u do the same.`;

export function addUnmount(program: Command): void {
	program
		.command("unmount")
		.description("End a mount that holdfast has made.")
		.argument("<dir>", "where it is mounted")
		.option("--lazy", "take it out of sight although something uses it, and end it when nothing does")
		.addHelpText("after", EXAMPLES)
		.action((directory: string, given: UnmountArguments) => unmount(directory, given));
}

async function unmount(directory: string, { lazy = false }: UnmountArguments): Promise<void> {
	const point = pointPath(directory);
	const device = deviceOfOurs(point);
	if (device === null) throw new UserError(`Nothing of holdfast is mounted at ${point}.`);
	const failure = await unmountAnyhow(point, lazy);
	if (failure === null) {
		// then the same can be mounted again at once
		if (!lazy) await awaitKeeper(device);
		return;
	}
	const advice = failure.isBusy && !lazy ? [`To take it out of sight all the same: holdfast unmount --lazy ${quoteForShell(point)}`] : [];
	throw new UserError(
		`Cannot unmount ${point}: ${failure.isBusy ? "something has a file or its working directory there" : failure.reason}.`,
		1,
		advice,
	);
}
