// `holdfast diff`: what an upper makes of its lowers.

import type { Command } from "commander";
import { isSameOrBelow } from "../layer/path-search.ts";
import type { Change } from "../overlay/changes/change.ts";
import { changeFromJson, type ToldChange } from "../overlay/changes/change-in-json.ts";
import { changeList } from "../overlay/changes/change-list.ts";
import { pathsInExport } from "../overlay/changes/path-in-export.ts";
import { nameInJson, showName, showPath } from "../vfs/names.ts";
import { FileType } from "../vfs/operations.ts";
import { askServer } from "./ask-server.ts";
import { showPatch } from "./diff-patch.ts";
import { addExclusion, Exclusion, type ExclusionArguments } from "./exclusion.ts";
import { addLayerOptions, type LayerArguments, type LayerPaths, layerPaths, type OpenedLayers } from "./layer-options.ts";
import { complain, printBytes, printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";
import { withOverlay } from "./with-overlay.ts";

interface DiffArguments extends LayerArguments, ExclusionArguments {
	readonly all?: boolean;
	readonly stat?: boolean;
	readonly json?: boolean;
	readonly nameOnly?: boolean;
	readonly z?: boolean;
	readonly exact?: boolean;
	readonly exitCode?: boolean;
	readonly patch?: boolean;
	readonly binary?: boolean;
}

const EXAMPLES = `

One line for each path: A added, D removed, M changed, T of another type than before, R renamed (a directory, with all it holds), P only its
owner, mode or attributes. Directories end in "/". A directory that is new as a whole is one line, with how much it holds (--all: every path).
Every removal has a line of its own; a removed directory goes with all it held. A file that was renamed is removed and added.

A PATH is as seen in the export, and as diff prints it. The first word is DIR unless --lower, --upper or --name say where the layers are.

Examples:

  holdfast diff ~/project
      All that differs from ~/project in its set of changes, also while it is served.
  holdfast diff ~/project src --stat --exclude node_modules/
  holdfast diff ~/project --patch --binary >project.patch
      For git apply, in the tree or in a copy of it.
  holdfast diff --lower /srv/golden --upper /srv/mine --name-only -z | xargs -0 ls -ld`;

export function addDiff(program: Command): void {
	const command = program
		.command("diff")
		.description(
			"Show what was changed: the paths at which an export differs from its lowers. May run beside a server; nothing is changed.",
		)
		.argument("[dir]", "the tree, as given to serve, or the name of its set")
		.argument("[path...]", "only these, and what is below them");
	addExclusion(addLayerOptions(command, "later"))
		.option("--all", "a line for each path of a directory that is new as a whole")
		.option("--stat", "with sizes, and a line that sums up")
		.option("--name-only", "paths alone, every one")
		.option("-z", "with --name-only: bytes as they are, each path ended by NUL")
		.option("--json", "a JSON object on a line of its own for each path")
		.option("--patch", "a patch for git apply: of texts what differs, of other files that they differ")
		.option("--binary", "with --patch: also what differs in files that are no text")
		.option("--exact", "read files of one size whose times differ, and leave out what is equal")
		.option("--exit-code", "exit with 1 if there is any change, and with 2 if it cannot be found out")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, paths: string[], given: DiffArguments) => diff(directory, paths, given));
}

async function diff(directory: string | undefined, rest: readonly string[], given: DiffArguments): Promise<void> {
	try {
		const count = await show(directory, rest, given);
		if (given.exitCode && count > 0) process.exitCode = 1;
	} catch (error) {
		if (given.exitCode && error instanceof UserError) throw new UserError(error.message, 2);
		throw error;
	}
}

/** The first word is DIR unless options say where the layers are. */
export function directoryAndPaths(
	first: string | undefined,
	rest: readonly string[],
	given: LayerArguments,
): { readonly directory: string | undefined; readonly words: readonly string[] } {
	const namesElsewhere = given.lower.length > 0 || given.upper !== undefined || given.name !== undefined;
	if (!namesElsewhere) return { directory: first, words: rest };
	return { directory: undefined, words: first === undefined ? rest : [first, ...rest] };
}

/** How many changes there are. */
async function show(first: string | undefined, rest: readonly string[], given: DiffArguments): Promise<number> {
	const { directory, words } = directoryAndPaths(first, rest, given);
	if (given.z && !given.nameOnly) throw new UserError("-z is of use with --name-only only.", 2);
	if (given.binary && !given.patch) throw new UserError("--binary is of use with --patch only.", 2);
	if ([given.stat, given.json, given.nameOnly, given.patch].filter((one) => one).length > 1) {
		throw new UserError("Give one of --stat, --json, --name-only and --patch.", 2);
	}
	const exclusion = await Exclusion.of(given);
	const printer = printerFor(given);
	const line = new ProgressLine();
	let count = 0;
	const bases = { changed: 0, unknown: 0 };
	const add = (change: ToldChange) => {
		if (exclusion.isExcluded(change.path, change.type === FileType.dir)) return;
		count++;
		if (change.baseState === "changed" || change.baseState === "unknown") bases[change.baseState]++;
		line.show(() => `${count} changes so far`);
		printer.add(change);
	};
	try {
		const layers = layerPaths(directory, given);
		if (layers.upper === undefined) throw new UserError("This export has no upper, so that nothing can have been changed in it.");
		if (given.patch) {
			// content is read from the disk, also beside a server
			const wishes = { words, hasBinary: given.binary === true, exclusion };
			return await withOverlay(layers, "inspect", (opened) => showPatch(opened, wishes), { isSync: false });
		}
		await tellChanges(layers, words, howOf(given), add);
		line.end();
		printer.end();
		warnOfBases(bases);
		return count;
	} finally {
		line.end();
	}
}

interface DiffHow {
	readonly isExact: boolean;
	readonly tellsBase: boolean;
}

function howOf({ exact, nameOnly }: DiffArguments): DiffHow {
	return { isExact: exact === true, tellsBase: nameOnly !== true };
}

/** A path whose base is another than the change was made over is one that two have changed. */
function warnOfBases({ changed, unknown }: { readonly changed: number; readonly unknown: number }): void {
	if (changed > 0) {
		const whose = changed === 1 ? "One of these paths has" : `${changed} of these paths have`;
		complain(`${whose} changed in the lowers since, and the change here is of what was there before.`);
	}
	if (unknown > 0) complain(`Unknown base: of ${unknown} of these paths nothing tells whether they have changed in the lowers since.`);
}

/** Gives each change at these paths, or any: of the server of these layers, or where it cannot be asked of the disk. UserError. */
export async function tellChanges(
	layers: LayerPaths,
	words: readonly string[],
	how: DiffHow,
	add: (change: ToldChange) => void,
): Promise<void> {
	const answer = await askServer(layers, {
		request: "diff",
		argument: { paths: words, ...how },
		onItem: (item) => add(changeFromJson(item)),
	});
	if ("why" in answer) await readBeside(layers, words, how, add);
}

/** Where no server can be asked: what is on the disk, which a server that there is may be changing. */
async function readBeside(layers: LayerPaths, words: readonly string[], how: DiffHow, add: (change: Change) => void): Promise<void> {
	const read = async (opened: OpenedLayers) => {
		const paths = await pathsInExport(opened, words);
		for await (const change of changeList(opened, { ...how, paths })) add(change);
	};
	await withOverlay(layers, "inspect", read, { isSync: false });
}

interface Printer {
	add(change: ToldChange): void;
	end(): void;
}

function printerFor(given: DiffArguments): Printer {
	if (given.nameOnly) return new NamePrinter(given.z === true);
	if (given.json) return { add: (change) => printJson(inJson(change)), end: () => {} };
	return new LinePrinter(given.all === true, given.stat === true);
}

class NamePrinter implements Printer {
	readonly #isRaw: boolean;

	constructor(isRaw: boolean) {
		this.#isRaw = isRaw;
	}

	add({ path }: ToldChange): void {
		if (this.#isRaw) printBytes(Buffer.concat([path.length === 0 ? ROOT_NAME : path, NUL]));
		else printLines([showPath(path)]);
	}

	end(): void {}
}

const ROOT_NAME = Buffer.from(".");
const NUL = Buffer.from([0]);

const TYPE_NAMES: Readonly<Record<FileType, string>> = {
	[FileType.reg]: "file",
	[FileType.dir]: "directory",
	[FileType.lnk]: "symlink",
	[FileType.chr]: "character device",
	[FileType.blk]: "block device",
	[FileType.fifo]: "fifo",
	[FileType.sock]: "socket",
};

function inJson({ path, kind, type, baseType, from, isReplaced, size, baseSize, group, baseState }: ToldChange): object {
	return {
		path: nameInJson(showPath(path)),
		kind,
		type: TYPE_NAMES[type],
		...(baseType === null ? {} : { baseType: TYPE_NAMES[baseType] }),
		...(from === null ? {} : { from: nameInJson(showName(from)) }),
		...(isReplaced ? { replaced: true } : {}),
		...(type === FileType.reg && kind !== "removed" ? { size } : {}),
		...(baseType === FileType.reg ? { baseSize } : {}),
		...(group === null ? {} : { linked: group }),
		...(baseState === null ? {} : { base: baseState }),
	};
}

/** A new directory whose content is counted and not listed. */
interface Group {
	readonly path: Buffer;
	readonly line: string;
	objects: number;
	bytes: number;
}

export class LinePrinter implements Printer {
	readonly #listsAll: boolean;
	readonly #hasSizes: boolean;
	readonly #print: (lines: readonly string[]) => void;
	readonly #counts = new Map<string, number>();
	#bytes = 0;
	#group: Group | null = null;

	/** `print`: where the lines go. */
	constructor(listsAll: boolean, hasSizes: boolean, print: (lines: readonly string[]) => void = printLines) {
		this.#listsAll = listsAll;
		this.#hasSizes = hasSizes;
		this.#print = print;
	}

	add(change: ToldChange): void {
		const letter = letterOf(change);
		this.#counts.set(letter, (this.#counts.get(letter) ?? 0) + 1);
		this.#bytes += change.size - (change.kind === "removed" || change.kind === "changed" ? change.baseSize : 0);
		if (this.#group !== null && isSameOrBelow(change.path, this.#group.path)) {
			this.#group.objects++;
			this.#group.bytes += change.size;
			return;
		}
		this.#endGroup();
		const text = this.#line(letter, change);
		if (!this.#listsAll && letter === "A" && change.type === FileType.dir) {
			this.#group = { path: change.path, line: text, objects: 0, bytes: 0 };
		} else this.#print([text]);
	}

	end(): void {
		this.#endGroup();
		if (!this.#hasSizes) return;
		const words = Object.entries(LETTERS).flatMap(([letter, word]) => {
			const count = this.#counts.get(letter) ?? 0;
			return count === 0 ? [] : [`${count} ${word}`];
		});
		this.#print([words.length === 0 ? "nothing was changed" : `${words.join(", ")}; ${signed(this.#bytes)} bytes`]);
	}

	#endGroup(): void {
		if (this.#group === null) return;
		const { line, objects, bytes } = this.#group;
		this.#print([objects === 0 ? line : `${line}  (${objects} within, ${bytes} bytes)`]);
		this.#group = null;
	}

	#line(letter: string, { path, kind, type, from, isReplaced, size, baseSize, baseType, baseState }: ToldChange): string {
		const slash = type === FileType.dir && path.length > 0 ? "/" : "";
		const moved = kind === "renamed" ? `${from === null ? "?" : showName(from)}/ -> ` : "";
		const note = (isReplaced ? REPLACED : "") + (baseState === "changed" ? BASE_CHANGED : "");
		const had = baseType === FileType.reg ? `${baseSize}` : "-";
		const has = type === FileType.reg && kind !== "removed" ? `${size}` : "-";
		const sizes = this.#hasSizes && type !== FileType.dir ? `  ${had} -> ${has}` : "";
		return `${letter}  ${moved}${showPath(path)}${slash}${sizes}${note}`;
	}
}

const REPLACED = "  (in place of the one before, which is gone)";
const BASE_CHANGED = "  (base changed since)";

const LETTERS = { A: "added", D: "removed", M: "changed", T: "of another type", R: "renamed", P: "with other attributes" } as const;

function letterOf({ kind, type, baseType }: ToldChange): keyof typeof LETTERS {
	if (kind === "added") return "A";
	if (kind === "removed") return "D";
	if (kind === "renamed") return "R";
	if (kind === "metadata") return "P";
	return baseType !== null && baseType !== type ? "T" : "M";
}

function signed(bytes: number): string {
	return bytes < 0 ? `${bytes}` : `+${bytes}`;
}
