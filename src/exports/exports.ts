// The exports of a server: found by the id in a handle or by a path, and whom each of them takes a caller for.

import { exportIdOf } from "../handle/wire-handle.ts";
import type { Caller, Peer } from "../rpc/caller.ts";
import { OverlayError } from "../vfs/errors.ts";
import type { Credentials } from "../vfs/operations.ts";
import type { AllowedClients, ClientRule } from "./allowed-clients.ts";
import { components, type Export, type ExportOptions, makeExport } from "./export.ts";
import { isLoopback } from "./network.ts";
import { squash } from "./squash.ts";

/** A caller as an export sees them. */
export interface Admission {
	readonly export: Export;
	/** After squashing; null: the export is not for them. */
	readonly who: Credentials | null;
	readonly readOnly: boolean;
}

/** Why an export is not for a peer: no rule names it, it is not privileged, or it is another user of this host. */
export type Refusal = "unlisted" | "unprivileged" | "other-user";

/** Admissions kept for each caller, by the export's number: with more exports than this in turn they are made anew. */
const ADMISSIONS_MAX = 16;

export class Exports {
	readonly all: readonly Export[];
	readonly #byId = new Map<number, Export>();
	/** The longest name first: "/a/b" before "/a" before "/". */
	readonly #byLength: readonly Export[];
	/** One of all exports that are for the same peers. */
	readonly #gates: readonly Export[];
	/** A caller lives as long as a connection keeps it. */
	readonly #admissions = new WeakMap<Caller, (Admission | undefined)[]>();
	/** As found last. */
	#export: Export | null = null;
	#admission: Admission | null = null;
	#caller: Caller | null = null;

	/** RangeError with a sentence for the user where two exports cannot be told apart. */
	constructor(options: readonly ExportOptions[]) {
		const clients = new Map<readonly ClientRule[], AllowedClients>();
		this.all = options.map((one, number) => makeExport(one, number, clients));
		const gates = new Map(
			this.all.map((served) => [`${served.isSecure} ${served.isOwnersOnly} ${[...clients.values()].indexOf(served.clients)}`, served]),
		);
		this.#gates = [...gates.values()];
		for (const served of this.all) {
			const other = this.#byId.get(served.id);
			if (other !== undefined) {
				throw new RangeError(
					`The exports ${other.name} and ${served.name} have the same id, by what their layers are recognised by: their handles could not be told apart. ` +
						"Name each stack of layers once; read-only trees with the same names in their roots need an upper each, or kernel handles.",
				);
			}
			this.#byId.set(served.id, served);
			const { components: own, number } = served;
			if (this.all.some((twin) => twin.number < number && twin.components.length === own.length && isWithin(own, twin.components)))
				throw new RangeError(`Two exports have the name ${served.name}.`);
		}
		this.#byLength = [...this.all].sort((a, b) => b.components.length - a.components.length);
	}

	/** Whether it matters to an export which user of this host a peer belongs to. */
	get asksOwner(): boolean {
		return this.#gates.some(({ isOwnersOnly }) => isOwnersOnly);
	}

	/** Why no export is for a peer at all, whoever calls; null: one may be. */
	refusal(peer: Peer): Refusal | null {
		let found: Refusal | null = "unlisted";
		for (const served of this.#gates) {
			const refusal = refusalOf(served, peer, served.clients.ruleFor(peer.address));
			if (refusal === null) return null;
			if (refusal !== "unlisted") found = refusal;
		}
		return found;
	}

	/** The export that a handle names, whether it is one of its handles or not; null: there is none. Makes no system call. */
	byHandle(handle: Uint8Array): Export | null {
		const id = exportIdOf(handle);
		if (id === undefined) return null;
		if (this.#export?.id !== id) {
			const found = this.#byId.get(id);
			if (found === undefined) return null;
			this.#export = found;
		}
		return this.#export;
	}

	/** The export with the longest name that a path begins with, and the names behind it; null: there is none. */
	byPath(path: Uint8Array): { readonly export: Export; readonly names: readonly Uint8Array[] } | null {
		const names = components(path);
		const found = this.#byLength.find((served) => isWithin(served.components, names));
		return found === undefined ? null : { export: found, names: names.slice(found.components.length) };
	}

	/** What the export lets a caller do, and as whom. Allocates nothing for one who was here before. */
	admission(served: Export, caller: Caller): Admission {
		if (this.#admission !== null && this.#caller === caller && this.#admission.export === served) return this.#admission;
		let known = this.#admissions.get(caller);
		if (known === undefined) {
			known = new Array(Math.min(this.all.length, ADMISSIONS_MAX)).fill(undefined);
			this.#admissions.set(caller, known);
		}
		const slot = served.number % ADMISSIONS_MAX;
		let admission = known[slot];
		if (admission?.export !== served) {
			admission = admit(served, caller);
			known[slot] = admission;
		}
		this.#caller = caller;
		this.#admission = admission;
		return admission;
	}
}

/** Where the export is not for them: "acces". */
export function credentialsOf({ export: served, who }: Admission): Credentials {
	if (who === null) throw new OverlayError("acces", `The export ${served.name} is not for this client`);
	return who;
}

function admit(served: Export, { peer, flavor, user }: Caller): Admission {
	const rule = served.flavors.includes(flavor) ? served.clients.ruleFor(peer.address) : null;
	if (rule === null || refusalOf(served, peer, rule) !== null) return { export: served, who: null, readOnly: true };
	const options = rule.squash === undefined ? served.squash : { ...served.squash, ...rule.squash };
	const isLocal = peer.address === "unix" || isLoopback(peer.address);
	return { export: served, who: squash(user, options, isLocal), readOnly: rule.readOnly ?? false };
}

function refusalOf(served: Export, peer: Peer, rule: ClientRule | null): Refusal | null {
	if (rule === null) return "unlisted";
	if (served.isOwnersOnly && peer.isOtherUser) return "other-user";
	return (rule.isSecure ?? served.isSecure) && !peer.isPrivileged ? "unprivileged" : null;
}

/** Whether a path names an export's root or something below it. */
export function isWithin(root: readonly Uint8Array[], path: readonly Uint8Array[]): boolean {
	return path.length >= root.length && root.every((name, i) => Buffer.compare(name, path[i]) === 0);
}
