// One server with all that belongs to it: opens exports, listens, and closes everything in order.

import { ClaimFilesError } from "../claims/errors.ts";
import { HostLocks } from "../claims/host-locks.ts";
import { openClaims } from "../claims/open-claims.ts";
import { AllowedClients, type ClientRule, LOCAL_CLIENTS } from "../exports/allowed-clients.ts";
import type { ExportOptions } from "../exports/export.ts";
import { isLoopback } from "../exports/network.ts";
import type { SquashOptions } from "../exports/squash.ts";
import type { FuseDevice } from "../fuse/device.ts";
import { FuseSession } from "../fuse/session.ts";
import { whyNot } from "../linux/errno.ts";
import { allocate } from "../linux/memory.ts";
import type { Nfs4Options } from "../nfs4/nfs4-service.ts";
import { Owners } from "../nfs4/owners.ts";
import { Budget, type BudgetLimits } from "../overlay/opening/budget.ts";
import type { OpenOptions } from "../overlay/opening/open-options.ts";
import { openOverlay } from "../overlay/opening/open-overlay.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { holdKeys } from "../overlay/upkeep/keys.ts";
import { DEFAULT_RPC_LIMITS } from "../rpc/limits.ts";
import { describeThrown } from "../vfs/system-errors.ts";
import { claimFolder } from "./claim-folder.ts";
import { resolveClients, resolveListen } from "./client-names.ts";
import { CONTROL_REQUESTS } from "./control-requests.ts";
import { ControlSocket } from "./control-socket.ts";
import { HostNames } from "./host-names.ts";
import { formatListenAddress, type ListenAddress } from "./listen-address.ts";
import { NfsServer } from "./nfs-server.ts";
import { ownersError, processUser } from "./peer.ts";
import { restoreReplies, saveReplies } from "./saved-replies.ts";

/** What is to be served under a name. */
export interface ExportToServe {
	/** The path by which clients mount it. */
	readonly name: string;
	readonly layers: Omit<OpenOptions, "budget" | "nodesMax" | "descriptorsMax" | "purpose" | "isPatient">;
	/** Where the layers can be served with the rights of an ordinary user only, every client has those, whatever this says. */
	readonly squash?: Partial<SquashOptions>;
	/** By address, network or name; default: `LOCAL_CLIENTS`. Who comes from beyond loopback must be named here. */
	readonly clients?: readonly ClientRule[] | undefined;
	/** Where clients are who they say: take calls from peers too that are not privileged. */
	readonly insecure?: boolean;
	/** Where every client has the rights of this user: take calls from other users of this host too. */
	readonly allowOther?: boolean;
}

export type NfsVersion = 3 | 4;

export interface ServeOptions {
	readonly exports: readonly ExportToServe[];
	/** None: it is served by mounts alone. */
	readonly listen: readonly ListenAddress[];
	/** FUSE mounts are served too, or will be. */
	readonly isMounted?: boolean;
	/** Programs in a mount need not wait for their writes: of use without addresses only. */
	readonly writesBack?: boolean;
	/** Where the server keeps what is its own. */
	readonly stateFolder: string;
	/** Versions of NFS that are served; default: 3. */
	readonly versions?: readonly NfsVersion[];
	/** Names of owners and groups in version 4 have this domain; absent: they are numbers. */
	readonly ownerDomain?: string | undefined;
	/** How long a client of version 4 keeps what it has without a word, in seconds. */
	readonly leaseSeconds?: number | undefined;
	/** For all exports together. */
	readonly limits?: BudgetLimits;
	readonly rpcbind?: boolean;
	/** Told of each export once it is open, before clients may come. */
	readonly onOpened?: (name: string, opened: OpenedOverlay) => void;
	/** Is given a sentence about what went wrong without stopping the server. */
	readonly warn?: (sentence: string) => void;
}

export interface ServedExport {
	readonly name: string;
	readonly opened: OpenedOverlay;
	/** Lets others change the keys of an export without upper again. */
	readonly releaseKeys: () => void;
}

/** A server whose exports are open. */
export interface OpenServer {
	readonly exports: readonly ServedExport[];
	readonly server: NfsServer;
	readonly mounts: readonly FuseSession[];
	/** Resolves when clients may come. ServeError: they cannot, and everything is closed. */
	listen(): Promise<void>;
	/**
	 * Serves a mount of an export, by its number; before `listen`, when all that mounts hold must be known. ServeError: what is kept of it
	 * cannot be gone on with.
	 */
	startFuse(device: FuseDevice, number?: number): FuseSession;
	/**
	 * Answers what was taken, saves the replies, closes every export. An export that cannot be closed cleanly keeps none of the others from it;
	 * the first such error is thrown when all are closed.
	 */
	close(): Promise<void>;
}

/** The addresses cannot be listened at, or not so, or two exports are one: the message is a sentence for the user. */
export class ServeError extends Error {
	override readonly name = "ServeError";
	/** The options do not go together. */
	readonly isMisuse: boolean;

	constructor(message: string, isMisuse = false) {
		super(message);
		this.isMisuse = isMisuse;
	}
}

/** Opens all exports, or none: ServeError, LayerError, RegistryError, KeyError. */
export async function openExports(given: ServeOptions): Promise<OpenServer> {
	const options = await withAddresses(given);
	const budget = new Budget(options.limits);
	const exports: ServedExport[] = [];
	try {
		for (const { name, layers } of options.exports) {
			const restoresHolds = options.isMounted === true || servesVersion4(options);
			const opened = openOverlay({ ...layers, purpose: "serve", isPatient: true, budget, restoresHolds });
			const served = { name, opened, releaseKeys: () => {} };
			exports.push(served);
			if (opened.upper === null) served.releaseKeys = holdKeys(opened);
			options.onOpened?.(name, opened);
		}
		// also without a mount: one that has ended may have left locks
		const locks = servesVersion4(options) ? new HostLocks() : null;
		const server = makeServer(options, exports, budget, locks);
		const control = new ControlSocket({
			exports: exports.map(({ opened }) => opened),
			requests: CONTROL_REQUESTS,
			stateFolder: options.stateFolder,
			...(options.warn === undefined ? {} : { warn: options.warn }),
		});
		const sessions: FuseSession[] = [];
		let closing: Promise<void> | undefined;
		return {
			exports,
			server,
			mounts: sessions,
			listen: async () => {
				await control.listen();
				await listen(options, exports, { server, control, locks });
			},
			startFuse: (device, number = 0) => {
				const session = startFuse(options, exports[number].opened, device, locks);
				sessions.push(session);
				return session;
			},
			close: () => {
				closing ??= Promise.all([control.close(), ...sessions.map((session) => session.close())]).then(() => {
					locks?.stop();
					return closeServer(options, exports, server);
				});
				return closing;
			},
		};
	} catch (error) {
		await closeAll(exports).catch(() => {});
		throw error;
	}
}

function servesVersion4({ listen, versions }: ServeOptions): boolean {
	return listen.length > 0 && (versions?.includes(4) ?? false);
}

function startFuse(
	options: ServeOptions,
	{ overlay, actsAs }: OpenedOverlay,
	device: FuseDevice,
	hostLocks: HostLocks | null,
): FuseSession {
	let session: FuseSession;
	try {
		const locks = hostLocks === null ? null : (mountId: Uint8Array) => hostLocks.mount(mountId);
		session = new FuseSession({
			device,
			overlay,
			actsAs,
			isShared: options.listen.length > 0,
			writesBack: options.writesBack ?? false,
			locks,
		});
	} catch (error) {
		throw error instanceof RangeError ? new ServeError(error.message) : error;
	}
	session.start();
	return session;
}

/** With addresses in place of names of hosts. Refuses to listen where others come who were not named. */
async function withAddresses(options: ServeOptions): Promise<ServeOptions> {
	const known = new Map<readonly ClientRule[], Promise<ClientRule[]>>();
	const resolved = (rules: readonly ClientRule[]): Promise<ClientRule[]> => {
		const found = known.get(rules) ?? resolveClients(rules);
		known.set(rules, found);
		return found;
	};
	try {
		const listen = await resolveListen(options.listen);
		const open = listen.find((address) => "host" in address && !isLoopback(address.host));
		if (open !== undefined && options.exports.some(({ clients = [] }) => clients.length === 0)) {
			throw new ServeError(
				`Cannot listen at ${formatListenAddress(open)}, where other machines come, without --allow: it names the clients, ` +
					"such as --allow 192.0.2.7 or --allow 192.0.2.0/24,ro (and --allow '*' all of them).",
				true,
			);
		}
		const exports = await Promise.all(
			options.exports.map(async (one) => ({ ...one, clients: one.clients?.length ? await resolved(one.clients) : LOCAL_CLIENTS })),
		);
		tellUnreachable(listen, exports[0].clients, options.warn);
		return { ...options, listen, exports };
	} catch (error) {
		throw error instanceof ServeError ? error : new ServeError((error as Error).message);
	}
}

/** An address of this host where nobody may come is a mistake more often than a wish. Error: a rule cannot be understood. */
function tellUnreachable(listen: readonly ListenAddress[], rules: readonly ClientRule[], warn: ServeOptions["warn"]): void {
	const clients = new AllowedClients(rules);
	for (const address of listen) {
		const peer = "path" in address ? "unix" : address.host;
		if (!("path" in address || isLoopback(peer)) || clients.ruleFor(peer) !== null) continue;
		warn?.(`Nobody may come to ${formatListenAddress(address)}: with --allow only those come who are named, and it does not name ${peer}.`);
	}
}

/** What listens, and what is to be ready before it does. */
interface Listeners {
	readonly server: NfsServer;
	readonly control: ControlSocket;
	readonly locks: HostLocks | null;
}

async function listen(options: ServeOptions, exports: readonly ServedExport[], { server, control, locks }: Listeners): Promise<void> {
	const { stateFolder, listen, warn } = options;
	// else the claims of version 4 say when all is restored
	if (options.isMounted === true && !servesVersion4(options)) for (const { opened } of exports) opened.overlay.endOfRestore();
	restoreReplies(
		server.duplicateRequests,
		stateFolder,
		listen,
		exports.map(({ opened }) => opened),
		warn ?? (() => {}),
	);
	try {
		await server.listen();
		locks?.start();
	} catch (error) {
		await control.close();
		await closeAll(exports).catch(() => {});
		throw new ServeError((error as Error).message);
	}
}

/** However few descriptors there are. */
const CONNECTIONS_FEWEST = 16;

function makeServer(options: ServeOptions, exports: readonly ServedExport[], budget: Budget, locks: HostLocks | null): NfsServer {
	const user = processUser();
	const withoutSquash = new Map<readonly ClientRule[], ClientRule[]>();
	const toServe = exports.map(({ name, opened }, i): ExportOptions => {
		const { layers, squash, clients = LOCAL_CLIENTS, insecure = false, allowOther = false } = options.exports[i];
		// who acts for all users believes clients who they are, and the more so the more they may do
		const actsForAll = user.isSuperuser || (opened.actsAs === null && layers.fakeRoot !== true);
		// a rule's own squashing must not give back what an ordinary user has not
		const bare = withoutSquash.get(clients) ?? clients.map(({ squash: _, ...rule }) => rule);
		withoutSquash.set(clients, bare);
		return {
			name,
			overlay: opened.overlay,
			squash: squashFor(opened, squash),
			clients: opened.actsAs === null ? clients : bare,
			isSecure: actsForAll && !insecure,
			isOwnersOnly: !actsForAll && !allowOther,
		};
	});
	refuseUnknownOwners(options.listen, toServe);
	try {
		return new NfsServer({
			exports: toServe,
			listen: options.listen,
			allocate,
			rpcbind: options.rpcbind ?? false,
			nfs3: options.versions?.includes(3) ?? true,
			...(locks === null ? {} : { nfs4: nfs4Options(options, exports, locks) }),
			limits: {
				connections: Math.max(CONNECTIONS_FEWEST, Math.min(DEFAULT_RPC_LIMITS.connections, budget.descriptorsForConnections)),
			},
			...(options.warn === undefined ? {} : { warn: options.warn }),
		});
	} catch (error) {
		throw error instanceof RangeError || error instanceof ClaimFilesError ? new ServeError(error.message) : error;
	}
}

function nfs4Options(options: ServeOptions, exports: readonly ServedExport[], locks: HostLocks): Nfs4Options {
	const { listen, stateFolder, leaseSeconds, ownerDomain, warn } = options;
	const opened = exports.map((one) => one.opened);
	const changed = opened.find(({ upper }) => upper !== null)?.adopted ?? null;
	return {
		claims: (hooks) => {
			const claims = openClaims({
				folder: claimFolder(stateFolder, listen, opened, warn ?? (() => {})),
				hooks: locks.hooks(hooks),
				isChanged: changed !== null,
				...(leaseSeconds === undefined ? {} : { leaseSeconds }),
			});
			locks.attach(claims);
			return claims;
		},
		owners: ownerDomain === undefined ? new Owners() : new Owners(ownerDomain, new HostNames()),
	};
}

/** Where this system does not tell whose connections are, an export that is its owner's alone would be nobody's. */
function refuseUnknownOwners(listen: readonly ListenAddress[], exports: readonly ExportOptions[]): void {
	if (!exports.some(({ isOwnersOnly }) => isOwnersOnly)) return;
	const why = ownersError(listen.some((address) => "host" in address));
	if (why === null) return;
	throw new ServeError(
		`Cannot tell our own connections from others' (${typeof why === "number" ? whyNot(why) : why}): ` +
			"give --allow-other, and every user of this machine may do what we may.",
	);
}

function squashFor({ actsAs }: OpenedOverlay, squash: Partial<SquashOptions> | undefined): Partial<SquashOptions> {
	return actsAs === null ? (squash ?? {}) : { allSquash: true, anonUid: actsAs.uid, anonGid: actsAs.gid, anonGids: actsAs.gids };
}

async function closeServer(
	{ listen, stateFolder, warn }: ServeOptions,
	exports: readonly ServedExport[],
	server: NfsServer,
): Promise<void> {
	await server.close();
	try {
		saveReplies(
			server.duplicateRequests,
			stateFolder,
			withPorts(listen, server.addresses),
			exports.map(({ opened }) => opened),
		);
	} catch (error) {
		warn?.(`The replies of this server are not saved: ${describeThrown(error)}.`);
	}
	await closeAll(exports);
}

/** As the user named them, with the ports that they got. */
function withPorts(asked: readonly ListenAddress[], bound: readonly ListenAddress[]): ListenAddress[] {
	return asked.map((address, i) => {
		const got = bound[i];
		return "port" in address && got !== undefined && "port" in got ? { ...address, port: got.port } : address;
	});
}

async function closeAll(exports: readonly ServedExport[]): Promise<void> {
	const closed = await Promise.allSettled(exports.map(({ opened }) => opened.overlay.close()));
	for (const { releaseKeys } of exports) releaseKeys();
	for (const result of closed) {
		if (result.status === "rejected") throw result.reason;
	}
}
