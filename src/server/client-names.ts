// Names of hosts in rules for clients, and in addresses to listen at, resolved once at the start.

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { ClientRule } from "../exports/allowed-clients.ts";
import { parseNetwork } from "../exports/network.ts";
import { formatListenAddress, type ListenAddress } from "./listen-address.ts";

/** All addresses of a host, as text; rejects where there is none. */
export type Resolve = (host: string) => Promise<readonly string[]>;

const NAME_CHARACTERS_MAX = 253;

/** Whether a rule's clients are told by the name of a host: letters, digits, hyphens and dots (RFC 952), underscores too, and not digits alone. */
export function isHostName(clients: string): boolean {
	return (
		clients.length <= NAME_CHARACTERS_MAX &&
		/^\w[\w-]*(\.\w[\w-]*)*\.?$/.test(clients) &&
		!/^[\d.]+$/.test(clients) &&
		clients !== "unix" &&
		parseNetwork(clients) === null
	);
}

/** The same rules with addresses in place of names, a rule for each address. Rejects with a sentence for the user. */
export async function resolveClients(rules: readonly ClientRule[], resolve: Resolve = addressesOf): Promise<ClientRule[]> {
	const resolved = await Promise.all(
		rules.map(async (rule) => {
			if (!isHostName(rule.clients)) return [rule];
			const addresses = await resolve(rule.clients).catch(() => []);
			if (addresses.length === 0)
				throw new Error(`Cannot allow the host ${rule.clients}: it has no address. Give an address, or a network.`);
			return [...new Set(addresses)].map((clients) => ({ ...rule, clients }));
		}),
	);
	return resolved.flat();
}

/** The same addresses to listen at, with an IP address for each name of a host. Rejects with a sentence for the user. */
export function resolveListen(addresses: readonly ListenAddress[], resolve: Resolve = addressesOf): Promise<ListenAddress[]> {
	return Promise.all(
		addresses.map(async (address) => {
			if ("path" in address || isIP(address.host) !== 0) return address;
			const [host] = await resolve(address.host).catch(() => []);
			if (host === undefined) throw new Error(`Cannot listen at ${formatListenAddress(address)}: no address is known of that name.`);
			return { ...address, host };
		}),
	);
}

async function addressesOf(host: string): Promise<string[]> {
	const found = await lookup(host, { all: true });
	// a link's address without its zone: rules hold on every link
	return found.map(({ address }) => address.replace(/%.*$/, ""));
}
