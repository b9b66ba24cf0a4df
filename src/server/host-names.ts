// Names of this host's users and groups, as /etc/passwd and /etc/group have them.

import { statSync } from "node:fs";
import { readFileNamed } from "../linux/read-file.ts";
import type { OwnerKind, OwnerNames } from "../nfs4/owners.ts";

const FILES = { user: "/etc/passwd", group: "/etc/group" } as const;
/** A change is seen after so long. */
const LOOKED_AT_EVERY_MILLISECONDS = 1000;

interface Table {
	readonly version: string;
	readonly ids: ReadonlyMap<string, number>;
	readonly names: ReadonlyMap<number, string>;
}

const NOTHING: Table = { version: "", ids: new Map(), names: new Map() };

/** Read again when the files change. What cannot be read names nobody. */
export class HostNames implements OwnerNames {
	readonly #files: Readonly<Record<OwnerKind, string>>;
	readonly #now: () => number;
	readonly #tables: Record<OwnerKind, Table> = { user: NOTHING, group: NOTHING };
	#lookedAt = Number.NEGATIVE_INFINITY;

	constructor(files: Readonly<Record<OwnerKind, string>> = FILES, now: () => number = () => performance.now()) {
		this.#files = files;
		this.#now = now;
	}

	idOf(kind: OwnerKind, name: string): number | null {
		return this.#table(kind).ids.get(name) ?? null;
	}

	nameOf(kind: OwnerKind, id: number): string | null {
		return this.#table(kind).names.get(id) ?? null;
	}

	#table(kind: OwnerKind): Table {
		const now = this.#now();
		if (now - this.#lookedAt >= LOOKED_AT_EVERY_MILLISECONDS) {
			this.#lookedAt = now;
			for (const one of ["user", "group"] as const) this.#tables[one] = read(this.#files[one], this.#tables[one]);
		}
		return this.#tables[kind];
	}
}

function read(path: string, known: Table): Table {
	try {
		const stat = statSync(path);
		const version = `${stat.ino} ${stat.size} ${stat.mtimeMs}`;
		if (version === known.version) return known;
		const [ids, names] = [new Map<string, number>(), new Map<number, string>()];
		for (const line of readFileNamed(path).toString("utf8").split("\n")) {
			const [name, , id] = line.split(":");
			if (!name || !/^\d{1,10}$/.test(id ?? "")) continue;
			if (!ids.has(name)) ids.set(name, Number(id));
			if (!names.has(Number(id))) names.set(Number(id), name);
		}
		return { version, ids, names };
	} catch {
		return NOTHING;
	}
}
