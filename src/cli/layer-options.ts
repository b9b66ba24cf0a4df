// The options by which every command names an export's layers, and how they become an opened overlay.

import { type Command, Option } from "commander";
import type { HandleKind } from "../layer/layer.ts";
import { LayerError } from "../layer/layer-error.ts";
import type { WhiteoutFiles } from "../overlay/opening/layer-forms.ts";
import type { OpenOptions } from "../overlay/opening/open-options.ts";
import { openOverlay } from "../overlay/opening/open-overlay.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { RegistryError } from "../overlay/work/registry.ts";
import { takeOverState } from "../sets/former-state.ts";
import { stateRoots } from "../sets/state-roots.ts";
import { absolutePath } from "./absolute-words.ts";
import { type ClaimedSet, claimSet, findSet } from "./change-sets.ts";
import { collect } from "./collect.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

/** The options by which every command names an export's layers. */
export interface LayerArguments {
	readonly lower: readonly string[];
	readonly dataLower: readonly string[];
	readonly userxattr?: boolean;
	readonly handles?: "auto" | HandleKind;
	readonly whiteoutFiles?: WhiteoutFiles;
	readonly linkNames?: boolean;
	readonly fakeRoot?: boolean;
	readonly upper?: string;
	readonly work?: string;
	readonly name?: string;
	readonly stateDir?: string;
	/** The set that another server has had, which was killed. */
	readonly resume?: string;
}

const LAYERS = "Layers:";
const FIRST_SERVE = "At an export's first serve, and kept from then on:";

/**
 * `use`: a command that may make an export of layers tells of the options that then count; all others take them too, so that the words of `serve`
 * can be given to every command, and say nothing of them.
 */
export function addLayerOptions(command: Command, use: "first" | "later"): Command {
	const first = (option: Option) => (use === "first" ? option.helpGroup(FIRST_SERVE) : option.hideHelp());
	command
		.optionsGroup(LAYERS)
		.option("--lower <dir>", "a read-only tree; give it again for each, from the topmost down", collect, [])
		.option("--data-lower <dir>", "a layer below them that only holds data of metacopy files (`::` of the kernel)", collect, [])
		.option("--upper <dir>", use === "first" ? "where changes go; without it the export is read-only" : "where changes are")
		.option("--work <dir>", "work folder, on the same file system as upper (default: UPPER.work beside it)")
		.option("--userxattr", "the overlay's own attributes are user.overlay.*, as with the kernel's mount option")
		.option("--name <name>", "the set of changes to DIR, by its name, which may also stand in place of DIR (holdfast list)")
		.option(
			"--state-dir <dir>",
			"where sets are kept (default: root's /var/lib/holdfast; $XDG_STATE_HOME/holdfast, ~/.local/state/holdfast)",
		);
	const handles = new Option("--handles <kind>", "where handles come from").choices(["auto", "kernel", "portable"]).default("auto");
	const files = new Option(
		"--whiteout-files <answer>",
		"whether files named .wh.NAME in layers are whiteouts (fuse-overlayfs, unpacked images)",
	)
		.choices(["auto", "yes", "no"])
		.default("auto");
	const links = new Option("--link-names", "with portable handles: look for names of one lower file at once, not when the first is met");
	const apart = new Option("--no-link-names", "with portable handles: each name of a lower file is a file of its own");
	const root = new Option("--fake-root", "with portable handles: clients may be root; owners, modes and devices are kept in xattrs");
	for (const option of [handles, files, links, apart, root]) command.addOption(first(option));
	return command.optionsGroup("Options:");
}

/** Whether the command line names any layers at all. */
export function namesLayers(directory: string | undefined, given: LayerArguments): boolean {
	return directory !== undefined || given.lower.length > 0 || given.upper !== undefined || given.name !== undefined;
}

/** Where the layers lie that a command line names: DIR with its set of changes, or the layers one by one. */
export interface LayerPaths {
	readonly lowers: readonly string[];
	readonly dataLowers: readonly string[];
	readonly userXattrs: boolean;
	readonly upper?: string | undefined;
	readonly work?: string | undefined;
	readonly stateFolder: string;
	readonly handles: "auto" | HandleKind;
	readonly whiteoutFiles: WhiteoutFiles;
	readonly linkNames?: boolean;
	readonly fakeRoot: boolean;
}

/** What is named is there, or is made by who serves it. UserError, LayerError. */
export function layerPaths(directory: string | undefined, given: LayerArguments): LayerPaths {
	if (!namesSet(directory, given)) return pathsFrom(given, directory === undefined ? given.lower : [directory], given);
	const { set, lower } = findSet(directory, given);
	return pathsFrom(given, [lower], set);
}

/** The same for who may make a set: null where the layers are named one by one. */
export function claimPaths(
	directory: string | undefined,
	given: LayerArguments,
): { readonly paths: LayerPaths; readonly claimed: ClaimedSet | null } {
	if (!namesSet(directory, given)) return { paths: layerPaths(directory, given), claimed: null };
	const claimed = claimSet(directory, given);
	return { paths: pathsFrom(given, [claimed.lower], claimed.set), claimed };
}

/** Whether the changes are a set's, and lie in the state folder. UserError: what is named does not go together. */
function namesSet(directory: string | undefined, given: LayerArguments): boolean {
	if (directory !== undefined && given.lower.length > 0) {
		throw new UserError("Name either DIR or --lower, not both: DIR is short for one lower whose changes are kept in the state folder.", 2);
	}
	if (given.name !== undefined && (given.lower.length > 0 || given.upper !== undefined)) {
		throw new UserError("--name names a set of changes to DIR: give it without --lower and --upper.", 2);
	}
	const isSet = given.upper === undefined && (directory !== undefined || given.name !== undefined);
	if (!isSet && directory === undefined && given.lower.length === 0)
		throw new UserError("Name the tree to serve: DIR, or --lower for each layer.", 2);
	if (given.work !== undefined && given.upper === undefined) throw new UserError("--work is of use with --upper only.", 2);
	return isSet;
}

function pathsFrom(
	given: LayerArguments,
	lowers: readonly string[],
	place: { readonly upper?: string; readonly work?: string; readonly root?: string },
): LayerPaths {
	const [upper, work] = [place.upper, place.work].map((path) => (path === undefined ? path : absolutePath(path)));
	const { userxattr: userXattrs = false, handles = "auto", fakeRoot = false, whiteoutFiles = "auto" } = given;
	const linkNames = given.linkNames === undefined ? {} : { linkNames: given.linkNames };
	const settings = { userXattrs, handles, whiteoutFiles, ...linkNames, fakeRoot };
	const roots = stateRoots(given.stateDir);
	takeOverState(roots, lowers);
	const stateFolder = place.root ?? roots.own;
	return { lowers: lowers.map(absolutePath), dataLowers: given.dataLower.map(absolutePath), ...settings, upper, work, stateFolder };
}

/** An opened overlay, and how the command line named its layers. */
export interface OpenedLayers extends OpenedOverlay {
	readonly paths: LayerPaths;
}

/** Opens what the command line names. */
export function openLayers(
	directory: string | undefined,
	given: LayerArguments,
	purpose: Exclude<OpenOptions["purpose"], "serve">,
	isSync: boolean,
): OpenedLayers {
	// an adoption may make an export of a tree that was never one
	if (purpose !== "adopt") return openPaths(layerPaths(directory, given), purpose, isSync);
	const { paths, claimed } = claimPaths(directory, given);
	try {
		return openPaths(paths, purpose, isSync);
	} catch (error) {
		claimed?.undo();
		throw error;
	}
}

/** Opens layers that were found by the command line. `restoresHolds`: what the next server may still hold stays. UserError. */
export function openPaths(
	paths: LayerPaths,
	purpose: Exclude<OpenOptions["purpose"], "serve">,
	isSync: boolean,
	restoresHolds = false,
): OpenedLayers {
	const line = new ProgressLine();
	try {
		return { ...openOverlay({ ...paths, isSync, purpose, restoresHolds }), paths };
	} catch (error) {
		throw error instanceof LayerError || error instanceof RegistryError ? new UserError(error.message) : error;
	} finally {
		line.end();
	}
}
