// `holdfast key`: lists, rotates and drops the keys that sign an export's handles.

import { type Command, InvalidArgumentError } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { changeKeys, KeyError, listKeys, withNewestSigning, withNewKey, withoutKey } from "../overlay/upkeep/keys.ts";
import { KEY_ID_MAX, type Registry, RegistryError } from "../overlay/work/registry.ts";
import { addLayerOptions, type LayerArguments, openLayers } from "./layer-options.ts";
import { printJson, printLines } from "./print.ts";
import { UserError } from "./user-error.ts";

interface KeyArguments extends LayerArguments {
	readonly now?: boolean;
	readonly dryRun?: boolean;
	readonly json?: boolean;
}

const ROTATE_HELP = `

Without --now no client notices anything: the new key verifies, and the signing key stays, since a client that gets other bytes for
an object takes it for another one. With --now they do. See "Keys" in docs/operations.md.

Examples:

  holdfast key rotate --lower /srv/golden --upper /srv/mine
      A new key, which every server of this export knows before anything is signed with it.
  holdfast key rotate --now --lower /srv/golden --upper /srv/mine
      Sign with it. Mount the clients again; then drop the former one.`;

const LIST_HELP = `

Example:

  holdfast key list golden
      Of the set golden: the number of each key, what it is used for, and when it was made.`;

const DROP_HELP = `

Example:

  holdfast key drop 2 --lower /srv/golden --upper /srv/mine
      Of a key that waits no client notices it. The key that signs is dropped after another one signs: holdfast key rotate --now.`;

export function addKey(program: Command): void {
	const key = program.command("key").description("Show and change the keys that sign the handles of an export.");
	addLayerOptions(
		key.command("list").description("List the keys, never their secrets. May run beside a server.").argument("[dir]", DIR),
		"later",
	)
		.option("--json", "print one JSON object")
		.addHelpText("after", LIST_HELP)
		.action((directory: string | undefined, given: KeyArguments) => list(directory, given));
	addLayerOptions(key.command("rotate").description("Make a new key. The server must have ended.").argument("[dir]", DIR), "later")
		.option("--now", "sign with the newest key from the next start on: every handle changes, so clients must be mounted again")
		.option("--dry-run", DRY_RUN)
		.option("--json", "print one JSON object")
		.addHelpText("after", ROTATE_HELP)
		.action((directory: string | undefined, given: KeyArguments) => rotate(directory, given));
	addLayerOptions(
		key
			.command("drop")
			.description("Forget a key: what it has signed is a bad handle from the next start on. The server must have ended.")
			.argument("<id>", "its number, as `key list` shows it", parseKeyId)
			.argument("[dir]", DIR),
		"later",
	)
		.option("--dry-run", DRY_RUN)
		.option("--json", "print one JSON object")
		.addHelpText("after", DROP_HELP)
		.action((id: number, directory: string | undefined, given: KeyArguments) => drop(id, directory, given));
}

const DIR = "the tree, as given to serve, or the name of its set";
const DRY_RUN_SAYS = "Nothing was changed. Without --dry-run this would be so:";
const DRY_RUN = "only say what would be so; may run beside a server";

function parseKeyId(value: string): number {
	const id = Number(value);
	if (!/^\d{1,3}$/.test(value) || id < 1 || id > KEY_ID_MAX) throw new InvalidArgumentError(`A key has a number of 1 to ${KEY_ID_MAX}.`);
	return id;
}

async function withLayers<T>(directory: string | undefined, given: KeyArguments, use: (opened: OpenedOverlay) => T): Promise<T> {
	const opened = openLayers(directory, given, "inspect", true);
	try {
		return use(opened);
	} catch (error) {
		if (error instanceof KeyError || error instanceof LayerError || error instanceof RegistryError) throw new UserError(error.message);
		throw error;
	} finally {
		await opened.overlay.close();
	}
}

async function list(directory: string | undefined, given: KeyArguments): Promise<void> {
	const registry = await withLayers(directory, given, (opened) => opened.registry);
	if (given.json) return printKeys(registry);
	printLines(listKeys(registry).map(({ id, use, made }) => `${`${id}`.padEnd(4)} ${use.padEnd(9)} ${made === null ? "" : `made ${made}`}`));
}

async function rotate(directory: string | undefined, given: KeyArguments): Promise<void> {
	const change = given.now ? withNewestSigning : withNewKey;
	let former = 0;
	const noting = (before: Registry) => {
		former = before.signingKey;
		return change(before);
	};
	const registry = await withLayers(directory, given, (opened) => changeKeys(opened, noting, given.dryRun));
	if (given.json) return printKeys(registry);
	const newest = Math.max(...registry.keys.map(({ id }) => id));
	printLines([
		...(given.dryRun ? [DRY_RUN_SAYS] : []),
		...(given.now
			? [
					`Key ${newest} signs from the next start on; what key ${former} has signed stays good.`,
					"Every handle has other bytes now. A client takes what it looks up for a new object: unmount all clients before the server starts.",
					`When they are mounted again: holdfast key drop ${former}`,
				]
			: [`Key ${newest} verifies from the next start on, and signs nothing: every handle stays as it is. Key ${former} signs.`]),
	]);
}

async function drop(id: number, directory: string | undefined, given: KeyArguments): Promise<void> {
	const registry = await withLayers(directory, given, (opened) => changeKeys(opened, (before) => withoutKey(before, id), given.dryRun));
	if (given.json) return printKeys(registry);
	const signed =
		id < registry.signingKey ? "A handle that it has signed is a bad handle from the next start on." : "It had signed nothing.";
	printLines([...(given.dryRun ? [DRY_RUN_SAYS] : []), `Key ${id} is dropped. ${signed}`]);
}

function printKeys(registry: Registry): void {
	printJson({ signingKey: registry.signingKey, keys: listKeys(registry) });
}
