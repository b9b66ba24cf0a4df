// `holdfast serve`: opens an export, serves it until a signal comes, and saves what the next start needs.

import { subscribe } from "node:diagnostics_channel";
import { existsSync, readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { join } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import type { SquashOptions } from "../exports/squash.ts";
import { allocate } from "../linux/memory.ts";
import type { UpperReport } from "../overlay/adopt/adopt-upper.ts";
import type { MoveReport } from "../overlay/adopt/moved.ts";
import { LISTING_LIMITS } from "../overlay/listing/listing.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { holdKeys, KeyError } from "../overlay/upkeep/keys.ts";
import { RegistryError, writeDurably } from "../overlay/work/registry.ts";
import type { ListenAddress } from "../server/listen-address.ts";
import { NfsServer } from "../server/nfs-server.ts";
import { adoptionOn } from "./adopt.ts";
import { addLayerOptions, type LayerArguments, openLayers } from "./layer-options.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

const DEFAULT_ADDRESS = "127.0.0.1:20490";
const REPLIES_FILE = "replies";
const ID_MAX = 0xfffffffe;

interface ServeArguments extends LayerArguments {
	readonly listen: readonly ListenAddress[];
	readonly name: string;
	readonly sync?: boolean;
	readonly async?: boolean;
	readonly rootSquash?: boolean;
	readonly allSquash?: boolean;
	readonly anonUid?: number;
	readonly anonGid?: number;
	readonly rpcbind?: boolean;
	readonly objectsMax?: number;
	readonly descriptorsMax?: number;
	readonly listingBytesMax?: number;
}

const EXAMPLES = `

Examples:

  holdfast serve /srv/golden
      Serve a tree; changes are kept in the state folder, the tree itself is never written.
  holdfast serve --lower /srv/patches --lower /srv/golden --upper /srv/mine --listen 127.0.0.1:20490
      Two read-only trees, the first on top, and a writable one above them.
  holdfast serve --lower /srv/patches --lower /srv/golden
      Read-only.`;

export function addServe(program: Command): void {
	const command = program
		.command("serve")
		.description("Serve an overlay over NFS version 3 until SIGTERM.")
		.argument("[dir]", "one read-only tree, its changes kept in the state folder");
	addLayerOptions(command)
		.option("--listen <address>", `HOST:PORT, [IPV6]:PORT or unix:PATH; may be repeated (default: ${DEFAULT_ADDRESS})`, parseListen, [])
		.option("--name <path>", "the path by which clients mount it", parseName, "/")
		.option("--sync", "answer a change when it is on stable storage (the default)")
		.option("--async", "answer a change when it is made: faster, and a power failure may lose it")
		.option("--root-squash", "treat the client's root as the anonymous user")
		.option("--all-squash", "treat every user as the anonymous user")
		.option("--anon-uid <uid>", "user id of the anonymous user (default: 65534)", parseId)
		.option("--anon-gid <gid>", "group id of the anonymous user (default: 65534)", parseId)
		.option("--objects-max <n>", "objects kept in memory (default: 32768)", parseBound)
		.option("--descriptors-max <n>", "descriptors kept open (default: by the process's limit)", parseBound)
		.option("--listing-bytes-max <n>", "memory for directory listings (default: 67108864)", parseBound)
		.option("--rpcbind", "register with the rpcbind of this host")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, given: ServeArguments) => serve(directory, given));
}

function parseListen(value: string, before: readonly ListenAddress[]): ListenAddress[] {
	if (value.startsWith("unix:") && value.length > 5) return [...before, { path: value.slice(5) }];
	const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(value);
	const port = match === null ? Number.NaN : Number(match[3]);
	const host = match?.[1] ?? match?.[2];
	if (host === undefined || !(port <= 65535) || (match?.[1] !== undefined && !isIPv6(host))) {
		throw new InvalidArgumentError("An address to listen at is HOST:PORT, [IPV6]:PORT or unix:PATH, with a port of 0 to 65535.");
	}
	return [...before, { host, port }];
}

function parseName(value: string): string {
	if (!value.startsWith("/") || value.includes("\0") || Buffer.byteLength(value) > 255) {
		throw new InvalidArgumentError("An export's name is a path that begins with / and has at most 255 bytes.");
	}
	return value;
}

function parseId(value: string): number {
	const id = Number(value);
	if (!/^\d+$/.test(value) || id > ID_MAX) throw new InvalidArgumentError(`An id is a whole number of 0 to ${ID_MAX}.`);
	return id;
}

function parseBound(value: string): number {
	const bound = Number(value);
	if (!/^\d{1,15}$/.test(value) || bound < 1) throw new InvalidArgumentError("A bound is a whole number of 1 or more.");
	return bound;
}

/** The bounds of the caches that were given. */
function cacheBounds(given: ServeArguments): Parameters<typeof openLayers>[4] {
	const { objectsMax, descriptorsMax, listingBytesMax } = given;
	return {
		...(objectsMax === undefined ? {} : { nodesMax: objectsMax }),
		...(descriptorsMax === undefined ? {} : { descriptorsMax }),
		...(listingBytesMax === undefined ? {} : { listingLimits: { ...LISTING_LIMITS, cacheBytes: listingBytesMax } }),
	};
}

async function serve(directory: string | undefined, given: ServeArguments): Promise<void> {
	if (given.sync && given.async) throw new UserError("Choose one of --sync and --async.", 2);
	const line = new ProgressLine();
	const opened = openLayers(directory, given, "serve", given.async !== true, {
		...cacheBounds(given),
		onProgress: adoptionOn(line),
		onMoved: reportMove,
		onChanged,
	});
	line.end();
	if (opened.upper === null) holdKeysOrRefuse(opened);
	for (const path of opened.foreignLowers) warn(`The lower ${path} belongs to another user, who may change it: then handles go stale.`);
	if (opened.adopted !== null) reportAdoption(opened.adopted);
	const server = new NfsServer({
		exports: [{ name: given.name, overlay: opened.overlay, squash: squashOf(given, opened) }],
		listen: given.listen.length > 0 ? given.listen : parseListen(DEFAULT_ADDRESS, []),
		allocate,
		rpcbind: given.rpcbind ?? false,
		warn,
	});
	subscribe("holdfast:rpc:failure", (failure) => warn(describeFailure(failure)));
	restoreReplies(server, opened);
	endOnSignals(server, opened);
	try {
		await server.listen();
	} catch (error) {
		await opened.overlay.close();
		throw new UserError((error as Error).message);
	}
	process.stdout.write(`ready ${server.addressNames.join(" ")}\n${describe(server.addresses, given.name, opened)}`);
}

function squashOf(given: ServeArguments, { actsAs }: OpenedOverlay): Partial<SquashOptions> {
	if (actsAs !== null) return { allSquash: true, anonUid: actsAs.uid, anonGid: actsAs.gid, anonGids: actsAs.gids };
	return {
		rootSquash: given.rootSquash ?? false,
		allSquash: given.allSquash ?? false,
		...(given.anonUid === undefined ? {} : { anonUid: given.anonUid }),
		...(given.anonGid === undefined ? {} : { anonGid: given.anonGid }),
	};
}

function holdKeysOrRefuse(opened: OpenedOverlay): void {
	try {
		holdKeys(opened);
	} catch (error) {
		if (error instanceof KeyError || error instanceof RegistryError) throw new UserError(error.message);
		throw error;
	}
}

function warn(sentence: string): void {
	process.stderr.write(`holdfast: ${sentence}\n`);
}

function reportMove({ objects, linked, lost }: MoveReport): void {
	warn(`The upper was copied since it was served last: looked at ${objects} files, made ${linked} links again.`);
	for (const path of lost.slice(0, PROBLEMS_SHOWN))
		warn(`Its id did not come along: ${path}; copy upper and work in one go, with hard links.`);
}

const changesTold = new Set<string>();
const CHANGES_TOLD_MAX = 100;

function onChanged(path: string): void {
	if (changesTold.has(path) || changesTold.size >= CHANGES_TOLD_MAX) return;
	changesTold.add(path);
	warn(`${path} is not what it was when its handle was given out: the lower was changed, and the handle is stale.`);
}

const PROBLEMS_SHOWN = 20;

/** An upper that was not as we left it has been looked through. One that was new had nothing to say. */
function reportAdoption(report: UpperReport): void {
	const { layer, directories, identities, tombstones, problems } = report;
	if (identities + tombstones > 0) {
		warn(`Adopted ${layer}: ${directories} directories, ${identities} copied up objects, ${tombstones} removed ones.`);
	}
	for (const { path, reason } of problems.slice(0, PROBLEMS_SHOWN)) warn(`Not adopted: ${path}: ${reason}.`);
	if (problems.length > PROBLEMS_SHOWN) warn(`${problems.length - PROBLEMS_SHOWN} more were not adopted: holdfast check lists them.`);
}

function describeFailure(failure: unknown): string {
	const { error } = failure as { error?: unknown };
	const cause = error ?? failure;
	return `A request failed where it must not: ${cause instanceof Error ? cause.stack : String(cause)}`;
}

/** Replies that were sent before the last stop, for clients that did not get them. */
function restoreReplies(server: NfsServer, opened: OpenedOverlay): void {
	const path = join(opened.folder, REPLIES_FILE);
	if (opened.upper === null || !existsSync(path)) return;
	try {
		server.duplicateRequests.restore(readFileSync(path));
	} catch (error) {
		warn(`The replies saved in ${path} cannot be used: ${(error as Error).message}.`);
	}
}

/** The first signal drains, the second ends at once. */
function endOnSignals(server: NfsServer, opened: OpenedOverlay): void {
	let isEnding = false;
	const end = async () => {
		if (isEnding) process.exit(1);
		isEnding = true;
		try {
			await server.close();
			if (opened.upper !== null) writeDurably(join(opened.folder, REPLIES_FILE), server.duplicateRequests.save());
			await opened.overlay.close();
			process.exit(0);
		} catch (error) {
			warn(`The server did not end cleanly: ${(error as Error).message}.`);
			process.exit(1);
		}
	};
	process.on("SIGTERM", () => void end());
	process.on("SIGINT", () => void end());
}

function describe(addresses: readonly ListenAddress[], name: string, opened: OpenedOverlay): string {
	const lines: string[] = [];
	const tcp = addresses.find((address) => "port" in address);
	if (tcp !== undefined && "port" in tcp) {
		const { port } = tcp;
		const isWild = tcp.host === "0.0.0.0" || tcp.host === "::";
		const host = isWild ? "SERVER" : isIPv6(tcp.host) ? `[${tcp.host}]` : tcp.host;
		const proto = isIPv6(tcp.host) && !isWild ? "tcp6" : "tcp";
		lines.push(
			`Linux:  mount -t nfs -o vers=3,proto=${proto},port=${port},mountport=${port},mountproto=${proto},nolock ${host}:${name} /mnt`,
			`macOS:  mount_nfs -o vers=3,tcp,port=${port},mountport=${port},nolocks,noresvport ${host}:${name} /private/mnt`,
		);
	}
	lines.push(`Handles: ${opened.handles.kind} (${opened.handles.why})`);
	if (opened.actsAs !== null) lines.push(`Every client has the rights of user ${opened.actsAs.uid}.`);
	lines.push(opened.upper === null ? "Read-only: there is no upper." : `Changes: ${opened.upper}`);
	return `${lines.join("\n")}\n`;
}
