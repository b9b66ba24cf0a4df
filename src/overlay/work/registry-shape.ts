// What a registry holds, and what is wrong with one that was read: fields that are unknown, missing, malformed or contradict each other.

/**
 * What an export remembers for ever: its id, its secrets, the numbers of homes and inode spaces, and which directories its
 * layers are. One file, mode 0600, written aside, flushed and renamed; it is made at the first serve and never on a read.
 */
export interface Registry {
	/** 32 bits, part of every handle. */
	readonly exportId: number;
	/** 16 bytes in hex, on the root of upper too, so that an upper is not served with the work folder of another. */
	readonly uuid: string;
	/** 16 bytes in hex: orders listings. It never changes. */
	readonly cookieSecret: string;
	/** Every one of them verifies. */
	readonly keys: readonly KeyRecord[];
	/** The key that signs: one for all handles, or an object would have two. */
	readonly signingKey: number;
	readonly homes: readonly HomeRecord[];
	readonly spaces: readonly SpaceRecord[];
	/** From the topmost down. */
	readonly lowers: readonly LayerRecord[];
	readonly upper: LayerRecord | null;
	/** Layers that hold only data. */
	readonly dataLowers?: readonly LayerRecord[];
	/** The overlay's own xattrs are `user.overlay.*`. */
	readonly userXattrs?: boolean;
	/** Where ids come from; absent: kernel handles. */
	readonly handles?: "portable";
	/** Why, as it was said at the first serve. */
	readonly handlesWhy?: string;
	/** With portable handles: all names of a lower file are one object. Older exports that have it so have the names alone (`LinkNames`). */
	readonly linkNames?: boolean;
	/** It had kernel handles before (holdfast rebind), and what is from that time keeps them; 16 bytes in hex: the file system of upper then, or zeros. */
	readonly rebound?: string;
	/** The uuid of the export that this one was copied from (holdfast fork). */
	readonly forkedFrom?: string;
}

export interface KeyRecord {
	/** 1 .. 255; no number that has signed handles is used again. */
	readonly id: number;
	/** 16 bytes in hex. */
	readonly secret: string;
	/** When it was made, as ISO 8601; keys of older exports do not say it. */
	readonly made?: string;
}

export interface HomeRecord {
	/** 1 .. 65535; numbers only rise. */
	readonly number: number;
	readonly kind: "file system" | "layer" | "upper generation";
	/** 16 bytes in hex: the file system's own uuid, or a random one. A lower is a home of its own with portable handles. */
	readonly uuid: string;
}

/** A space of inode numbers: a home, or one subvolume of a btrfs. */
export interface SpaceRecord {
	readonly number: number;
	readonly home: number;
	/** Hex of the subvolume's id on btrfs, else empty. */
	readonly subvolume: string;
}

export interface LayerRecord {
	readonly home: number;
	/** Type and bytes of the root's kernel handle, `type:hex`; with portable handles `names:hex`, a hash of the names in the root. */
	readonly root: string;
	/** A lower that once was an upper, and whose redirects have been noted. */
	readonly adopted?: boolean;
	/** How often its image was exchanged under it: which rows count (see RebaseRows). */
	readonly rebases?: number;
}

/** A byte of every handle; 0 is none. */
export const KEY_ID_MAX = 255;
/** Homes and spaces are 16 bits of a handle and of a file id. */
const NUMBER_MAX = 65535;
const COUNT_MAX = 0x7fffffff;

type Check = (value: unknown) => boolean;
type Fields<T> = { readonly [name in keyof Required<T>]: { readonly check: Check; readonly isOptional?: boolean } };

const isWhole = (least: number, most: number): Check => {
	return (value) => typeof value === "number" && Number.isInteger(value) && value >= least && value <= most;
};
const isText = (pattern: RegExp): Check => {
	return (value) => typeof value === "string" && pattern.test(value);
};
const isTrue: Check = (value) => value === true;
const hex16 = isText(/^[0-9a-f]{32}$/);
/** `type:hex` of a kernel handle, `names:hex` of the names in the root, and before the first the file system's uuid where a layer has no home. */
const isRoot = isText(/^(([0-9a-f]{32}:)?\d{1,3}:([0-9a-f]{2})+|names:[0-9a-f]{32})$/);

const KEY: Fields<KeyRecord> = {
	id: { check: isWhole(1, KEY_ID_MAX) },
	secret: { check: hex16 },
	made: { check: isText(/^\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/), isOptional: true },
};

const HOME: Fields<HomeRecord> = {
	number: { check: isWhole(1, NUMBER_MAX) },
	kind: { check: isText(/^(file system|layer|upper generation)$/) },
	uuid: { check: hex16 },
};

const SPACE: Fields<SpaceRecord> = {
	number: { check: isWhole(1, NUMBER_MAX) },
	home: { check: isWhole(1, NUMBER_MAX) },
	subvolume: { check: isText(/^([0-9a-f]{16})?$/) },
};

const LAYER: Fields<LayerRecord> = {
	home: { check: isWhole(0, NUMBER_MAX) },
	root: { check: isRoot },
	adopted: { check: (value) => typeof value === "boolean", isOptional: true },
	rebases: { check: isWhole(1, COUNT_MAX), isOptional: true },
};

const REGISTRY: Fields<Registry> = {
	exportId: { check: isWhole(0, 0xffffffff) },
	uuid: { check: hex16 },
	cookieSecret: { check: hex16 },
	keys: { check: Array.isArray },
	signingKey: { check: isWhole(1, KEY_ID_MAX) },
	homes: { check: Array.isArray },
	spaces: { check: Array.isArray },
	lowers: { check: (value) => Array.isArray(value) && value.length > 0 },
	upper: { check: (value) => value === null || typeof value === "object" },
	dataLowers: { check: Array.isArray, isOptional: true },
	userXattrs: { check: isTrue, isOptional: true },
	handles: { check: isText(/^portable$/), isOptional: true },
	handlesWhy: { check: (value) => typeof value === "string", isOptional: true },
	linkNames: { check: isTrue, isOptional: true },
	rebound: { check: hex16, isOptional: true },
	forkedFrom: { check: hex16, isOptional: true },
};

/** What is wrong with the keys, or null: the end of a sentence. No secret is told. */
export function damageOfKeys({ keys, signingKey }: Pick<Registry, "keys" | "signingKey">): string | null {
	if (!Array.isArray(keys) || keys.length === 0) return "there are none";
	const ids = new Set<number>();
	for (const key of keys) {
		const id = key?.id;
		if (!KEY.id.check(id)) return "one of them has no number of 1 to 255";
		if (ids.has(id)) return `there are two of number ${id}`;
		if (!hex16(key.secret)) return `the secret of key ${id} is not 16 bytes in hex`;
		ids.add(id);
	}
	return ids.has(signingKey) ? null : `the key that signs (${signingKey}) is not among them`;
}

/** What else is wrong with what was read as a registry, or null: the end of a sentence. No secret is told. */
export function damageOf(value: unknown): string | null {
	const damage = damageOfFields(value, REGISTRY, "");
	if (damage !== null) return damage;
	const { keys, homes, spaces, lowers, upper, dataLowers = [], handles } = value as Registry;
	const records: readonly [readonly unknown[], Fields<unknown>, string][] = [
		[keys, KEY, "key"],
		[homes, HOME, "home"],
		[spaces, SPACE, "inode space"],
		[lowers, LAYER, "lower"],
		[upper === null ? [] : [upper], LAYER, "upper"],
		[dataLowers, LAYER, "data layer"],
	];
	for (const [list, fields, what] of records) {
		for (const record of list) {
			const found = damageOfFields(record, fields, ` of a${/^[iu]/.test(what) ? "n" : ""} ${what}`);
			if (found !== null) return found;
		}
	}
	return contradiction(homes, spaces, lowers, upper, dataLowers, handles === "portable");
}

function damageOfFields(value: unknown, fields: Fields<unknown>, where: string): string | null {
	if (typeof value !== "object" || value === null || Array.isArray(value)) return `it has no fields${where}`;
	const known = fields as Record<string, { readonly check: Check; readonly isOptional?: boolean }>;
	for (const name of Object.keys(value)) if (!Object.hasOwn(known, name)) return `the field "${name}"${where} is unknown`;
	for (const [name, { check, isOptional = false }] of Object.entries(known)) {
		const field = (value as Record<string, unknown>)[name];
		if (field === undefined ? !isOptional : !check(field))
			return `the field "${name}"${where} is ${field === undefined ? "missing" : "malformed"}`;
	}
	return null;
}

function contradiction(
	homes: readonly HomeRecord[],
	spaces: readonly SpaceRecord[],
	lowers: readonly LayerRecord[],
	upper: LayerRecord | null,
	dataLowers: readonly LayerRecord[],
	isPortable: boolean,
): string | null {
	const kinds = new Map(homes.map(({ number, kind }) => [number, kind]));
	if (kinds.size < homes.length) return "two homes have one number";
	if (new Set(homes.map(({ uuid }) => uuid)).size < homes.length) return "two homes have one uuid";
	if (new Set(spaces.map(({ number }) => number)).size < spaces.length) return "two inode spaces have one number";
	if (new Set(spaces.map(({ home, subvolume }) => `${home} ${subvolume}`)).size < spaces.length) return "one inode space has two numbers";
	if (spaces.some(({ home }) => !kinds.has(home))) return "an inode space is of a home that there is not";
	if (upper !== null && kinds.get(upper.home) !== "upper generation") return "the upper has no home";
	if ([...kinds.values()].filter((kind) => kind === "upper generation").length > (upper === null ? 0 : 1)) return "a home is of no upper";
	for (const { home, root } of lowers) {
		const kind = kinds.get(home);
		if (kind === undefined || kind === "upper generation") return "a lower has no home";
		if (root.startsWith("names:") !== isPortable) return "a lower is named as in another kind of export";
	}
	if (dataLowers.some(({ home }) => home !== 0 && !kinds.has(home))) return "a data layer has no home";
	return null;
}
