// `holdfast serve`: opens an export, serves it until a signal comes, and saves what the next start needs.

import { subscribe } from "node:diagnostics_channel";
import { isIPv6 } from "node:net";
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { LEASE_SECONDS } from "../claims/limits.ts";
import type { ClientRule } from "../exports/allowed-clients.ts";
import type { SquashOptions } from "../exports/squash.ts";
import { LayerError } from "../layer/layer-error.ts";
import type { UpperReport } from "../overlay/adopt/adopt-upper.ts";
import type { MoveReport } from "../overlay/adopt/moved.ts";
import type { BudgetLimits } from "../overlay/opening/budget.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import type { LinkWalk } from "../overlay/threads/link-walks.ts";
import { KeyError } from "../overlay/upkeep/keys.ts";
import { RegistryError } from "../overlay/work/registry.ts";
import type { ListenAddress } from "../server/listen-address.ts";
import { type NfsVersion, type OpenServer, openExports, ServeError, type ServeOptions } from "../server/serve-exports.ts";
import { serviceStatus } from "../server/service-status.ts";
import { type WarmUp, warmUp } from "../server/warm-up.ts";
import type { Damage } from "../vfs/damage.ts";
import { quoteForShell } from "../vfs/names.ts";
import { describeFailure, describeThrown } from "../vfs/system-errors.ts";
import { ID_MAX, parseAllow } from "./allow.ts";
import type { ClaimedSet } from "./change-sets.ts";
import { confirmEmptyMountPoints, confirmNewUpper } from "./doubts.ts";
import { addKeeperOptions, type KeeperArguments, keepOrServe } from "./keep.ts";
import { addLayerOptions, claimPaths, type LayerArguments, type LayerPaths, namesLayers } from "./layer-options.ts";
import { mountLines } from "./mount-lines.ts";
import { MountServer } from "./mount-server.ts";
import { complain, complainOfFault, printLines, printToLogs } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { ServerLog } from "./server-log.ts";
import { UserError } from "./user-error.ts";

const DEFAULT_HOST = "127.0.0.1";
const DEFAULT_ADDRESS = `${DEFAULT_HOST}:20490`;

export interface ServeArguments extends LayerArguments, KeeperArguments {
	readonly listen: readonly ListenAddress[];
	readonly export: readonly NamedDirectory[];
	readonly create?: boolean;
	readonly empty?: boolean;
	readonly mountPath?: string;
	readonly new?: boolean;
	readonly ephemeral?: boolean;
	readonly sync?: boolean;
	readonly async?: boolean;
	readonly allow: readonly ClientRule[];
	readonly insecure?: boolean;
	readonly allowOther?: boolean;
	readonly rootSquash?: boolean;
	readonly allSquash?: boolean;
	readonly anonUid?: number;
	readonly anonGid?: number;
	readonly rpcbind?: boolean;
	readonly nfs?: readonly NfsVersion[];
	readonly lease?: number;
	readonly ownerDomain?: string;
	readonly warmUp: boolean;
	readonly objectsMax?: number;
	readonly descriptorsMax?: number;
	readonly listingBytesMax?: number;
	/** Of a mount alone. */
	readonly writeback?: boolean;
	/** Nobody comes over NFS. */
	readonly isMountOnly?: boolean;
}

const EXAMPLES = `

Examples:

  holdfast serve /srv/golden
      Serve a tree; changes are kept as a set in the state folder, the tree itself is never written.
  holdfast serve /srv/golden --name trial --new
      The same tree with a further set of changes. Later: holdfast serve trial
  holdfast serve --lower /srv/patches --lower /srv/golden --upper /srv/mine/upper --create
      Two read-only trees, the first on top, and a writable one above them.
  holdfast serve --lower /srv/patches --lower /srv/golden
      Read-only.
  holdfast serve /srv/golden --listen 0.0.0.0:20490 --allow 192.0.2.0/24 --allow build.example,no_root_squash
      For other machines: a network, where root is nobody, and one that is trusted.
  holdfast serve --export /golden=/srv/golden --export /docs=/srv/docs
      Two trees in one server, each with its changes in the state folder.
  holdfast serve /srv/golden --mount /mnt
      Over NFS, and mounted on this machine by FUSE.`;

export function addServe(program: Command): void {
	const command = program
		.command("serve")
		.description("Serve an overlay over NFS, versions 3 and 4.1, until SIGTERM.")
		.argument("[dir]", "one read-only tree, whose changes are kept as a set in the state folder; or the name of a set");
	addChangeOptions(addLayerOptions(command, "first"))
		.option(
			"--listen <address>",
			`HOST:PORT, [IPV6]:PORT, PORT (on 127.0.0.1) or unix:PATH; may be repeated (default: ${DEFAULT_ADDRESS})`,
			parseListen,
			[],
		)
		.option("--export <NAME=DIR>", "as DIR, by a name of its own; may be repeated, for many trees in one server", parseExport, [])
		.option("--mount-path <path>", "the path by which clients mount it (default: /)", parseMountPath)
		.option("--mount <mountpoint>", "mount it on this machine too, by FUSE, as holdfast mount does")
		.option("--nfs <versions>", "versions that are served: 3, 4 (that is 4.1) or 3,4 (default: 3,4)", parseVersions)
		.option("--lease <seconds>", "how long a client of version 4 keeps its locks without a word (default: 90)", parseLease)
		.option(
			"--owner-domain <domain>",
			"in version 4 owners are names of this domain, by this host's users and groups (default: numbers)",
			parseDomain,
		)
		.option("--rpcbind", "register with the rpcbind of this host")
		.option(...NO_WARM_UP);
	addKeeperOptions(command);
	command
		.optionsGroup("Who may come, and as whom:")
		.option(
			"--allow <HOST|NETWORK>",
			"a client, then ,ro and squash options of exports(5); may be repeated; nobody else may come",
			parseAllow,
			[],
		)
		.option("--insecure", "as root: take calls from ports of 1024 and above too, which any local user can make")
		.option("--allow-other", "not as root: take calls from other users of this machine too, who then have your rights")
		.option("--root-squash", "treat the client's root as the anonymous user (the default beyond loopback)")
		.option("--no-root-squash", "never treat it so")
		.option("--all-squash", "treat every user as the anonymous user")
		.option("--anon-uid <uid>", "user id of the anonymous user (default: 65534)", parseId)
		.option("--anon-gid <gid>", "group id of the anonymous user (default: 65534)", parseId);
	addBoundOptions(command)
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, given: ServeArguments) => {
			if (given.mount !== undefined) return keepOrServe(command, given, 0, () => serve(directory, given));
			if (given.o !== undefined) throw new UserError("-o is of use with --mount only.", 2);
			return serve(directory, given);
		});
}

/** Of serve and mount. */
export const NO_WARM_UP = [
	"--no-warm-up",
	"do not run the server's own code in idle time after the start, on an overlay in memory",
] as const;

/** How changes are kept: of serve and mount. */
export function addChangeOptions(command: Command): Command {
	return command
		.option("--create", "make the upper if it is not there, without asking")
		.option("--empty", "serve an empty mount point, without asking")
		.option("--new", "with --name: make that set if it is not there, although the tree has others")
		.option("--ephemeral", "keep the changes until the server ends, and no longer")
		.option("--sync", "answer a change when it is on stable storage (the default)")
		.option("--async", "answer a change when it is made: faster, and a power failure may lose it");
}

export function addBoundOptions(command: Command): Command {
	return command
		.optionsGroup("Bounds of the caches:")
		.option("--objects-max <n>", "objects kept in memory (default: 32768)", parseBound)
		.option("--descriptors-max <n>", "descriptors kept open (default: by the process's limit)", parseBound)
		.option("--listing-bytes-max <n>", "memory for directory listings (default: 67108864)", parseBound);
}

function parseListen(value: string, before: readonly ListenAddress[]): ListenAddress[] {
	if (value.startsWith("unix:") && value.length > 5) return [...before, { path: resolve(value.slice(5)) }];
	const match = /^(?:(?:\[([^\]]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(value);
	const port = match === null ? Number.NaN : Number(match[3]);
	const host = match?.[1] ?? (match?.[2] || DEFAULT_HOST);
	if (!(port <= 65535) || (match?.[1] !== undefined && !isIPv6(host))) {
		throw new InvalidArgumentError("An address to listen at is HOST:PORT, [IPV6]:PORT, PORT or unix:PATH, with a port of 0 to 65535.");
	}
	return [...before, { host, port }];
}

function parseMountPath(value: string): string {
	if (!value.startsWith("/") || value.includes("\0") || Buffer.byteLength(value) > 255) {
		throw new InvalidArgumentError("The path by which clients mount an export begins with / and has at most 255 bytes.");
	}
	return value;
}

interface NamedDirectory {
	readonly name: string;
	readonly directory: string;
}

function parseExport(value: string, before: readonly NamedDirectory[]): NamedDirectory[] {
	const split = value.indexOf("=");
	if (split < 0 || split === value.length - 1) throw new InvalidArgumentError("An export is given as NAME=DIR.");
	return [...before, { name: parseMountPath(value.slice(0, split)), directory: value.slice(split + 1) }];
}

function parseVersions(value: string): readonly NfsVersion[] {
	const versions = value.split(",").map(Number);
	if (!versions.every((version) => version === 3 || version === 4)) {
		throw new InvalidArgumentError("Versions are 3, 4 (that is 4.1) or 3,4.");
	}
	return [...new Set(versions)];
}

function parseLease(value: string): number {
	const seconds = Number(value);
	if (!/^\d{1,4}$/.test(value) || seconds < LEASE_SECONDS.min || seconds > LEASE_SECONDS.max) {
		throw new InvalidArgumentError(`A lease lasts ${LEASE_SECONDS.min} to ${LEASE_SECONDS.max} seconds.`);
	}
	return seconds;
}

function parseDomain(value: string): string {
	if (!/^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$/.test(value))
		throw new InvalidArgumentError("A domain is a name such as example.org.");
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
function cacheBounds({ objectsMax, descriptorsMax, listingBytesMax }: ServeArguments): BudgetLimits {
	return {
		...(objectsMax === undefined ? {} : { nodesMax: objectsMax }),
		...(descriptorsMax === undefined ? {} : { descriptorsMax }),
		...(listingBytesMax === undefined ? {} : { listingBytesMax }),
	};
}

/** Serves until a signal comes, or its mount ends. */
export async function serve(directory: string | undefined, options: ServeArguments): Promise<void> {
	const given = withMountPath(options);
	if (given.sync && given.async) throw new UserError("Choose one of --sync and --async.", 2);
	if (given.mount !== undefined && given.export.length > 1) throw new UserError("--mount mounts one export: give --export once.", 2);
	const versions = given.nfs ?? [3, 4];
	const mount = given.mount === undefined || given.keeper === undefined ? null : new MountServer(given.keeper, given.mount);
	const line = new ProgressLine();
	outliveFailures();
	subscribe("holdfast:rpc:failure", (failure) => reportFailure(failure));
	subscribe("holdfast:damage", reportDamage());
	const named: NamedPaths[] = [];
	try {
		exportsGiven(directory, given, named);
		if (given.upper !== undefined) confirmNewUpper(given.upper, given.create ?? false);
		const served = await openExports(toServe(given, named, versions, line));
		line.end();
		if (mount !== null && !(await mount.start(served, named[0]))) {
			await served.close();
			for (const { claimed } of named) claimed?.discard();
			process.exit(1);
		}
		for (const { claimed } of named) claimed?.served();
		let warming: WarmUp | null = null;
		const service = serviceStatus();
		const end = ending(served, named, () => {
			service.stopping();
			warming?.stop();
		});
		for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, mount === null ? end : () => mount.stop());
		void mount?.ended.then(end);
		await served.listen();
		// whoever removes the folder that this was started in, or unmounts it, may
		process.chdir("/");
		const places = given.isMountOnly ? [given.mount as string] : served.server.addressNames;
		if (given.keeperAgain === undefined) printLines([`ready ${places.join(" ")}`, ...describe(served, named, versions, given)]);
		mount?.ready();
		service.ready(`Serving at ${places.join(" ")}`);
		if (given.warmUp) warming = warmUp(served);
	} catch (error) {
		mount?.close();
		for (const { claimed } of named) claimed?.undo();
		if (!isSentence(error)) throw error;
		throw new UserError(error.message, error instanceof ServeError && error.isMisuse ? 2 : 1);
	}
}

/** What is to be served, and how. */
function toServe(given: ServeArguments, named: readonly NamedPaths[], versions: readonly NfsVersion[], line: ProgressLine): ServeOptions {
	return {
		exports: named.map(({ name, paths }) => ({
			name,
			layers: {
				...paths,
				isSync: given.async !== true,
				onMoved: reportMove,
				onLinkWalk: reportLinkWalk,
				onChanged,
			},
			squash: squashGiven(given),
			clients: given.allow,
			insecure: given.insecure ?? false,
			allowOther: given.allowOther ?? false,
		})),
		listen: given.listen.length > 0 || given.isMountOnly ? given.listen : parseListen(DEFAULT_ADDRESS, []),
		isMounted: given.mount !== undefined,
		writesBack: given.writeback ?? false,
		stateFolder: named[0].paths.stateFolder,
		limits: cacheBounds(given),
		rpcbind: given.rpcbind ?? false,
		versions,
		leaseSeconds: given.lease,
		ownerDomain: given.ownerDomain,
		onOpened: (_name, opened) => {
			line.clear();
			reportOpened(opened);
			if (given.fakeRoot && opened.handles.kind === "kernel")
				complain("--fake-root is of use with portable handles only, and changes nothing here: this export has the kernel's.");
		},
		warn: complain,
	};
}

/** `--name /PATH` is from before sets had names: no name begins so. */
function withMountPath(given: ServeArguments): ServeArguments {
	if (given.name === undefined || !given.name.startsWith("/")) return given;
	const { name, ...others } = given;
	return { ...others, mountPath: given.mountPath ?? parseMountPath(name) };
}

function isSentence(error: unknown): error is Error {
	return error instanceof LayerError || error instanceof RegistryError || error instanceof KeyError || error instanceof ServeError;
}

interface NamedPaths {
	readonly name: string;
	readonly paths: LayerPaths;
	/** Null: its changes lie where the user says, or it has none. */
	readonly claimed: ClaimedSet | null;
}

/** What the command line says is to be served, added to `named`: one export by its layers, or one for each --export. */
function exportsGiven(directory: string | undefined, given: ServeArguments, named: NamedPaths[]): void {
	const { export: trees, name, mountPath } = given;
	if (given.new && name === undefined) throw new UserError("--new is of use with --name only.", 2);
	if (given.ephemeral && (name !== undefined || given.upper !== undefined || given.lower.length > 0)) {
		throw new UserError("--ephemeral is for the changes to DIR: give it without --name, --lower and --upper.", 2);
	}
	if (trees.length === 0) {
		named.push(claimOne(mountPath ?? "/", directory, given));
		return;
	}
	if (namesLayers(directory, given) || given.work !== undefined || given.dataLower.length > 0 || mountPath !== undefined) {
		throw new UserError(
			"--export names trees, and their names: give it without DIR, --lower, --data-lower, --upper, --work, --name and --mount-path.",
			2,
		);
	}
	for (const one of trees) {
		const claim = claimOne(one.name, one.directory, given);
		const other = named.find(({ paths }) => paths.upper === claim.paths.upper);
		named.push(claim);
		if (other !== undefined) {
			const { name } = (claim.claimed as ClaimedSet).set;
			throw new UserError(
				`The exports ${other.name} and ${one.name} would have one set of changes, ${name}. A further set of the tree is made by: ` +
					`holdfast serve ${quoteForShell(one.directory)} --name ANOTHER --new; then its name stands for the tree, as in --export ${one.name}=ANOTHER.`,
				2,
			);
		}
	}
}

/** Asks before a set is made, or, where the set tells the tree, before that is opened. */
function claimOne(name: string, directory: string | undefined, given: ServeArguments): NamedPaths {
	const again = given.keeperAgain;
	const isAsked = given.empty === true || again !== undefined;
	confirmEmptyMountPoints(directory === undefined ? given.lower : [directory], isAsked);
	const { paths, claimed } = claimPaths(directory, again === undefined || again.set === null ? given : { ...given, resume: again.set });
	if (claimed !== null && claimed.lower !== directory) confirmEmptyMountPoints(paths.lowers, isAsked);
	return { name, paths, claimed };
}

function squashGiven(given: ServeArguments): Partial<SquashOptions> {
	return {
		...(given.rootSquash === undefined ? {} : { rootSquash: given.rootSquash }),
		allSquash: given.allSquash ?? false,
		...(given.anonUid === undefined ? {} : { anonUid: given.anonUid }),
		...(given.anonGid === undefined ? {} : { anonGid: given.anonGid }),
	};
}

function reportOpened(opened: OpenedOverlay): void {
	for (const path of opened.foreignLowers) complain(`The lower ${path} belongs to another user, who may change it: then handles go stale.`);
	if (opened.isUpperExposed) complain(`Other users of this machine reach the upper ${opened.upper}: keep it in a folder of mode 0700.`);
	if (opened.postponed > 0) {
		complain(
			`The file system of ${opened.upper} is full: a change that was interrupted is completed when there is room. Until then clients wait for its objects; the rest is served.`,
		);
	}
	if (opened.adopted !== null) reportAdoption(opened.adopted);
}

function reportMove({ objects, linked, lost }: MoveReport): void {
	complain(`The upper was copied since it was served last: looked at ${objects} files, made ${linked} links again.`);
	for (const path of lost.slice(0, PROBLEMS_SHOWN))
		complain(`Its id did not come along: ${path}; copy upper and work in one go, with hard links.`);
}

function reportLinkWalk({ lower, directories, files }: LinkWalk): void {
	complain(
		files === null
			? `Files of several names in ${lower} wait until it has been looked through for them, once: ${directories} directories so far.`
			: `Looked through ${lower} for files of several names: ${files} in ${directories} directories.`,
	);
}

const changesTold = new Set<string>();
const CHANGES_TOLD_MAX = 100;

function onChanged(path: string): void {
	if (changesTold.has(path) || changesTold.size >= CHANGES_TOLD_MAX) return;
	changesTold.add(path);
	complain(`${path} is not what it was when its handle was given out: the lower was changed, and the handle is stale.`);
}

const PROBLEMS_SHOWN = 20;

/** An upper that was not as we left it has been looked through. One that was new had nothing to say. */
function reportAdoption(report: UpperReport): void {
	const { layer, directories, identities, tombstones, problems } = report;
	if (identities + tombstones > 0) {
		complain(`Adopted ${layer}: ${directories} directories, ${identities} copied up objects, ${tombstones} removed ones.`);
	}
	for (const { path, reason } of problems.slice(0, PROBLEMS_SHOWN)) complain(`Not adopted: ${path}: ${reason}.`);
	if (problems.length > PROBLEMS_SHOWN) complain(`${problems.length - PROBLEMS_SHOWN} more were not adopted: holdfast check lists them.`);
}

/** Each damage is told once, and no more than these. */
const DAMAGES_MAX = 100;

function reportDamage(): (damage: unknown) => void {
	const told = new Set<string>();
	return (damage) => {
		const { what } = damage as Damage;
		if (told.size >= DAMAGES_MAX || told.has(what)) return;
		told.add(what);
		complain(`${what}.`);
	};
}

function reportFailure(failure: unknown): void {
	const { error } = failure as { error?: unknown };
	complainOfFault("A request failed where it must not", error ?? failure);
}

/** What timers and threads meet of a disk that is full or fails is told, and ends no server; and Node.js itself prints nothing. */
function outliveFailures(): void {
	printToLogs({ stdout: new ServerLog(1), stderr: new ServerLog(2) });
	process.removeAllListeners("warning");
	process.on("warning", ({ message }) => complain(`${message}.`));
	process.on("uncaughtException", (error: unknown) => {
		const failure = describeFailure(error);
		if (failure !== null) {
			complain(`${failure}.`);
			return;
		}
		complainOfFault("This should not have happened", error);
		process.exit(1);
	});
}

/** To be called at signals: the first drains, the second waits for no client any more, and the third for nothing at all. All but the last end in order. */
function ending(served: OpenServer, named: readonly NamedPaths[], beforeEnd: () => void): () => Promise<void> {
	let signals = 0;
	return async () => {
		signals++;
		if (signals > 2) process.exit(1);
		if (signals > 1) {
			served.server.destroy();
			return;
		}
		beforeEnd();
		try {
			await served.close();
			for (const { claimed } of named) claimed?.end();
			process.exit(0);
		} catch (error) {
			complain(`The server did not end cleanly: ${describeThrown(error)}.`);
			process.exit(1);
		}
	};
}

/** Which of its promises an export keeps over a copy of its layers, in one line. */
function overCopies({ handles, upper, actsAs }: OpenedOverlay): string {
	if (handles.kind === "kernel") {
		return `In copies of the layers no handle holds${upper === null ? "" : ", and the copy is refused"}: before they are copied run holdfast rebind.`;
	}
	const lost = actsAs === null ? "" : "; symlinks need their hard links into the work folder";
	return upper === null
		? "Handles hold in a copy of the layers, with this state folder."
		: `Handles hold in a copy of lowers, upper and work (cp -a, rsync -aHAX); times are to be kept${lost}.`;
}

/** How to mount each export, and what its user should know of it. */
function describe(
	{ exports, server }: OpenServer,
	named: readonly NamedPaths[],
	versions: readonly NfsVersion[],
	given: ServeArguments,
): string[] {
	const lines: string[] = [];
	for (const [i, { name, opened }] of exports.entries()) {
		if (exports.length > 1) lines.push("", `Export ${name}`);
		if (!given.isMountOnly) lines.push(...mountLines(server.addresses, name, versions));
		if (given.mount !== undefined) lines.push(`Mounted at ${given.mount}; to end that: holdfast unmount ${quoteForShell(given.mount)}`);
		lines.push(`Handles: ${opened.handles.kind} (${opened.handles.why})`, overCopies(opened));
		if (opened.actsAs !== null && !given.isMountOnly) lines.push(`Every client has the rights of user ${opened.actsAs.uid}.`);
		lines.push(opened.upper === null ? "Read-only: there is no upper." : `Changes: ${opened.upper}`);
		const { claimed } = named[i];
		if (claimed !== null) lines.push(`Set of changes: ${describeSet(claimed)}`);
		else if (opened.isNewUpper) lines.push("This upper is new: it was made just now, and shows the tree as it is.");
	}
	return lines;
}

function describeSet({ set, isNew }: ClaimedSet): string {
	if (set.record?.isEphemeral) return `${set.name}, which goes when the server ends`;
	return isNew ? `${set.name}, new and empty` : set.name;
}
