// `holdfast list`: the sets of changes of this user.

import { readdirSync } from "node:fs";
import type { Command } from "commander";
import { whyNot } from "../linux/errno.ts";
import { pathExists } from "../linux/read-file.ts";
import { silentTrees } from "../sets/answering.ts";
import { bytesBelow } from "../sets/set-size.ts";
import { type ChangeSet, handlesOf, isInService } from "../sets/state-folder.ts";
import { stateRoots } from "../sets/state-roots.ts";
import { identityIfThere, isSameTree } from "../sets/tree-identity.ts";
import { allSets } from "./change-sets.ts";
import { printJson, printLines, printTable } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

interface ListArguments {
	readonly stateDir?: string;
	readonly names?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

Example:

  holdfast list
      What "serve DIR" has kept: the name of each set, its tree, its size on disk, when it was served last, whether it is in service now, and
      the kind of its handles.`;

export function addList(program: Command): void {
	program
		.command("list")
		.description("List the sets of changes that serve DIR keeps.")
		.option("--state-dir <dir>", "where they are kept (default: as for serve)")
		.option("--names", "only the names of your own sets, one in a line")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((given: ListArguments) => list(given));
}

/** It would look as if there were none. UserError. */
function refuseUnreadable(root: string): void {
	try {
		readdirSync(root);
	} catch (error) {
		const { code, errno = 0 } = error as NodeJS.ErrnoException;
		if (code !== "ENOENT") throw new UserError(`Cannot read the sets in ${root}: ${whyNot(errno, root)}.`);
	}
}

interface Row {
	readonly name: string;
	readonly tree: string | null;
	/** Whether the tree is where it was: another directory may have taken its place. */
	readonly treeIs: "there" | "gone" | "another" | "silent" | "unknown";
	readonly bytes: number | null;
	readonly made: string | null;
	readonly served: string | null;
	readonly inService: boolean;
	readonly handles: "kernel" | "portable" | null;
	readonly ephemeral: boolean;
	readonly upper: string;
	readonly work: string;
	readonly problem: string | null;
}

function list(given: ListArguments): void {
	const { own } = stateRoots(given.stateDir);
	refuseUnreadable(own);
	if (given.names) {
		printLines(
			allSets(given.stateDir)
				.filter(({ isOthers }) => !isOthers)
				.map(({ name }) => name),
		);
		return;
	}
	const line = new ProgressLine();
	const sets = allSets(given.stateDir);
	const silent = silentTrees(sets.flatMap(({ treePath }) => treePath ?? []));
	const rows = sets.map((set) => rowOf(set, silent));
	line.end();
	if (given.json) {
		printJson({ stateFolder: own, sets: rows });
		return;
	}
	if (rows.length === 0) {
		printLines(["There are no sets of changes: holdfast serve DIR makes one."]);
		return;
	}
	printTable([["NAME", "SIZE", "SERVED LAST", "HANDLES", "TREE"], ...rows.map(cellsOf)]);
}

function rowOf(set: ChangeSet, silent: ReadonlySet<string>): Row {
	const { name, record, treePath, upper, work, folder } = set;
	return {
		name,
		tree: treePath,
		treeIs: treeOf(set, silent),
		bytes: bytesBelow(folder),
		made: record?.made ?? null,
		served: record?.served ?? null,
		inService: pathExists(folder) && isInService(set),
		handles: handlesOf(set),
		ephemeral: record?.isEphemeral ?? false,
		upper,
		work,
		problem: set.damage !== "" ? set.damage : set.isOthers ? `${folder} belongs to another user.` : null,
	};
}

function treeOf({ treePath, record }: ChangeSet, silent: ReadonlySet<string>): Row["treeIs"] {
	if (treePath === null) return "unknown";
	if (silent.has(treePath)) return "silent";
	const now = identityIfThere(treePath);
	if (now === null) return "gone";
	if (record === null) return "unknown";
	return isSameTree(now, record.tree) ? "there" : "another";
}

const TREE_NOTES = {
	there: "",
	gone: " (not there)",
	another: " (another directory now)",
	silent: " (not answering)",
	unknown: "",
} as const;

function cellsOf(row: Row): string[] {
	const served = row.inService ? "in service" : (row.served?.replace(/T(\d\d:\d\d).*$/, " $1") ?? "");
	const notes = `${TREE_NOTES[row.treeIs]}${row.ephemeral ? " (ephemeral)" : ""}${row.problem === null ? "" : ` (${row.problem})`}`;
	return [row.name, sizeOf(row.bytes), served, row.handles ?? "none yet", `${row.tree ?? "unknown"}${notes}`];
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

function sizeOf(bytes: number | null): string {
	if (bytes === null) return "?";
	const power = bytes === 0 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
	const number = bytes / 1024 ** power;
	return `${number >= 10 || power === 0 ? Math.round(number) : number.toFixed(1)} ${UNITS[power]}`;
}
