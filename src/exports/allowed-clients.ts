// Allowed clients: which peers may use an export, and how.

import { contains, type Network, parseAddress, parseNetwork } from "./network.ts";
import type { SquashOptions } from "./squash.ts";

/** Some clients, and what they may do. */
export interface ClientRule {
	/** An IP address, a network (ADDRESS/BITS), "unix" for those who come over Unix sockets, or "*" for everybody. */
	readonly clients: string;
	/** They may change nothing; default: false. */
	readonly readOnly?: boolean;
	/** Calls of theirs are taken from privileged peers only; default: as the export says. */
	readonly isSecure?: boolean;
	/** In place of the export's own options. */
	readonly squash?: Partial<SquashOptions>;
}

/** The clients that nobody beyond this host can be. */
export const LOCAL_CLIENTS: readonly ClientRule[] = [{ clients: "127.0.0.0/8" }, { clients: "::1" }, { clients: "unix" }];

/** The rules that one export may have: each new caller is compared with all of them. */
export const CLIENT_RULES_MAX = 1024;

interface ParsedRule {
	readonly rule: ClientRule;
	/** Null: by its words alone. */
	readonly network: Network | null;
	readonly rank: number;
}

/** How closely rules fit whose clients are no network. */
const RANK_EVERYBODY = -1;
const RANK_UNIX = 0;

/** Finds the rule of an export for a client: the narrowest, and of equals the first. */
export class AllowedClients {
	/** As given. */
	readonly rules: readonly ClientRule[];
	readonly #parsed: readonly ParsedRule[];

	/** No rules: everybody is allowed. RangeError with a sentence for the user where a rule cannot be understood. */
	constructor(rules: readonly ClientRule[]) {
		if (rules.length > CLIENT_RULES_MAX) throw new RangeError(`An export has at most ${CLIENT_RULES_MAX} rules for clients.`);
		this.rules = rules;
		this.#parsed = rules.map(parseRule).sort((a, b) => b.rank - a.rank);
	}

	/** The rule for a peer (its address without port, or "unix"); null: it is not allowed. */
	ruleFor(peer: string): ClientRule | null {
		if (this.rules.length === 0) return EVERYBODY;
		const address = parseAddress(peer);
		for (const { rule, network } of this.#parsed) {
			if (network === null ? rule.clients === "*" || rule.clients === peer : address !== null && contains(network, address)) return rule;
		}
		return null;
	}
}

const EVERYBODY: ClientRule = { clients: "*" };

function parseRule(rule: ClientRule): ParsedRule {
	if (rule.clients === "*") return { rule, network: null, rank: RANK_EVERYBODY };
	if (rule.clients === "unix") return { rule, network: null, rank: RANK_UNIX };
	const network = parseNetwork(rule.clients);
	if (network === null) {
		throw new RangeError(
			`"${rule.clients}" names no clients: give an IP address, a network (ADDRESS/BITS, no bits behind those), unix or *.`,
		);
	}
	return { rule, network, rank: network.bits };
}
