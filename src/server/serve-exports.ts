// One server with all that belongs to it: opens exports, listens, and closes everything in order.

import type { ClientRule } from "../exports/allowed-clients.ts";
import type { SquashOptions } from "../exports/squash.ts";
import { allocate } from "../linux/memory.ts";
import { Budget, type BudgetLimits } from "../overlay/opening/budget.ts";
import type { OpenOptions } from "../overlay/opening/open-options.ts";
import { openOverlay } from "../overlay/opening/open-overlay.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { holdKeys } from "../overlay/upkeep/keys.ts";
import { DEFAULT_RPC_LIMITS } from "../rpc/limits.ts";
import type { ListenAddress } from "./listen-address.ts";
import { NfsServer } from "./nfs-server.ts";
import { restoreReplies, saveReplies } from "./saved-replies.ts";

/** What is to be served under a name. */
export interface ExportToServe {
	/** The path by which clients mount it. */
	readonly name: string;
	readonly layers: Omit<OpenOptions, "budget" | "nodesMax" | "descriptorsMax" | "purpose" | "isPatient">;
	/** Where the layers can be served with the rights of an ordinary user only, every client has those, whatever this says. */
	readonly squash?: Partial<SquashOptions>;
	readonly clients?: readonly ClientRule[];
}

export interface ServeOptions {
	readonly exports: readonly ExportToServe[];
	readonly listen: readonly ListenAddress[];
	/** Where the server keeps what is its own. */
	readonly stateFolder: string;
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
	/** Resolves when clients may come. ServeError: they cannot, and everything is closed. */
	listen(): Promise<void>;
	/**
	 * Answers what was taken, saves the replies, closes every export. An export that cannot be closed cleanly keeps none of the others from it;
	 * the first such error is thrown when all are closed.
	 */
	close(): Promise<void>;
}

/** The addresses cannot be listened at, or two exports are one: the message is a sentence for the user. */
export class ServeError extends Error {
	override readonly name = "ServeError";
}

/** Opens all exports, or none: ServeError, LayerError, RegistryError, KeyError. */
export async function openExports(options: ServeOptions): Promise<OpenServer> {
	const budget = new Budget(options.limits);
	const exports: ServedExport[] = [];
	try {
		for (const { name, layers } of options.exports) {
			const opened = openOverlay({ ...layers, purpose: "serve", isPatient: true, budget });
			const served = { name, opened, releaseKeys: () => {} };
			exports.push(served);
			if (opened.upper === null) served.releaseKeys = holdKeys(opened);
			options.onOpened?.(name, opened);
		}
		const server = makeServer(options, exports, budget);
		let closing: Promise<void> | undefined;
		return {
			exports,
			server,
			listen: () => listen(options, exports, server),
			close: () => {
				closing ??= closeServer(options, exports, server);
				return closing;
			},
		};
	} catch (error) {
		await closeAll(exports).catch(() => {});
		throw error;
	}
}

async function listen({ stateFolder, listen, warn }: ServeOptions, exports: readonly ServedExport[], server: NfsServer): Promise<void> {
	restoreReplies(
		server.duplicateRequests,
		stateFolder,
		listen,
		exports.map(({ opened }) => opened),
		warn ?? (() => {}),
	);
	try {
		await server.listen();
	} catch (error) {
		await closeAll(exports).catch(() => {});
		throw new ServeError((error as Error).message);
	}
}

/** However few descriptors there are. */
const CONNECTIONS_FEWEST = 16;

function makeServer(options: ServeOptions, exports: readonly ServedExport[], budget: Budget): NfsServer {
	try {
		return new NfsServer({
			exports: exports.map(({ name, opened }, i) => {
				const { squash, clients } = options.exports[i];
				return {
					name,
					overlay: opened.overlay,
					squash: squashFor(opened, squash),
					// a rule's own squashing must not give back what an ordinary user has not
					...(clients === undefined ? {} : { clients: opened.actsAs === null ? clients : clients.map(({ squash: _, ...rule }) => rule) }),
				};
			}),
			listen: options.listen,
			allocate,
			rpcbind: options.rpcbind ?? false,
			limits: {
				connections: Math.max(CONNECTIONS_FEWEST, Math.min(DEFAULT_RPC_LIMITS.connections, budget.descriptorsForConnections)),
			},
			...(options.warn === undefined ? {} : { warn: options.warn }),
		});
	} catch (error) {
		throw error instanceof RangeError ? new ServeError(error.message) : error;
	}
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
		warn?.(`The replies of this server are not saved: ${(error as Error).message}.`);
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
