// `--allow`: a client, and what it may do, as exports(5) writes it.

import { InvalidArgumentError } from "commander";
import type { ClientRule } from "../exports/allowed-clients.ts";
import { parseNetwork } from "../exports/network.ts";
import type { SquashOptions } from "../exports/squash.ts";
import { isHostName } from "../server/client-names.ts";

export const ID_MAX = 0xfffffffe;

/** Under the names of exports(5). */
const OPTIONS: Readonly<Record<string, { readonly rule?: Omit<ClientRule, "clients">; readonly squash?: Partial<SquashOptions> }>> = {
	ro: { rule: { readOnly: true } },
	rw: { rule: { readOnly: false } },
	secure: { rule: { isSecure: true } },
	insecure: { rule: { isSecure: false } },
	root_squash: { squash: { rootSquash: true } },
	no_root_squash: { squash: { rootSquash: false } },
	all_squash: { squash: { allSquash: true } },
	no_all_squash: { squash: { allSquash: false } },
};

/** HOST|NETWORK[,OPTION...] as one rule more. The clients may be a host's name, to be resolved. */
export function parseAllow(value: string, before: readonly ClientRule[]): ClientRule[] {
	const [client, ...options] = value.split(",");
	const bracketed = /^\[(.*)\]$/.exec(client);
	const clients = bracketed === null ? client : bracketed[1];
	const isNetwork = parseNetwork(clients) !== null;
	if (!isNetwork && (bracketed !== null || !(clients === "*" || clients === "unix" || isHostName(clients)))) {
		throw new InvalidArgumentError(
			"A client is the name of a host, an IP address without a zone, a network (ADDRESS/BITS, no bits set behind those), unix or *.",
		);
	}
	let rule: ClientRule = { clients };
	for (const option of options) rule = withOption(rule, option);
	return [...before, rule];
}

function withOption(rule: ClientRule, option: string): ClientRule {
	const name = option.replaceAll("-", "_");
	const known = Object.hasOwn(OPTIONS, name) ? OPTIONS[name] : idOption(name);
	if (known === null) {
		throw new InvalidArgumentError(
			`Its options are ${Object.keys(OPTIONS).join(", ")}, anonuid=N and anongid=N, with commas between them.`,
		);
	}
	return { ...rule, ...known.rule, ...(known.squash === undefined ? {} : { squash: { ...rule.squash, ...known.squash } }) };
}

function idOption(option: string): (typeof OPTIONS)[string] | null {
	const [, which, id] = /^anon_?(uid|gid)=(\d{1,10})$/.exec(option) ?? [];
	if (id === undefined || Number(id) > ID_MAX) return null;
	return { squash: which === "uid" ? { anonUid: Number(id) } : { anonGid: Number(id) } };
}
