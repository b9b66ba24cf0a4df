import { isAllowedField, isAllowedPartition, type Oracle } from "./allowed-differences.ts";
import type { HoldfastOverlay, ObservedWithHandle } from "./holdfast-overlay.ts";
import type { Model, ModelObject } from "./model.ts";
import type { Observed, Tree } from "./observed.ts";

/** Something is not as it must be. `signature` is the same for differences of one kind. */
export class Difference extends Error {
	readonly signature: string;

	constructor(signature: string, detail: string) {
		super(detail);
		this.name = "Difference";
		this.signature = signature;
	}
}

/** What the trees of a run are compared with besides each other. */
export interface Known {
	readonly model: Model;
	/** Objects of a lower have a serial below this one. */
	readonly firstObjects: number;
	/** Whether an object that was met later is one of several that a lower file has become. */
	readonly wasPartOfLower?: (object: ModelObject) => boolean;
	/** Folders from or to which a rename has failed. */
	readonly failedRenames: ReadonlySet<ModelObject | null>;
	/** The kernel's tree was seen under a mount without index. */
	readonly isUnindexed?: boolean;
	/** What objects of the lowers were before anything was done. */
	readonly before?: (object: ModelObject) => Observed | undefined;
	/** Names of the fields whose allowed differences were met, for the tally. */
	readonly note: (why: string) => void;
}

const FIELDS: readonly (keyof Observed)[] = ["type", "mode", "owner", "size", "content", "mtime", "atime", "xattrs", "rdev", "nlink"];

const SIDES: Readonly<Record<Oracle, readonly [first: string, second: string]>> = {
	kernel: ["the kernel", "holdfast"],
	released: ["holdfast before release", "the kernel after release"],
	adopted: ["the kernel before adoption", "holdfast after adoption"],
};

/** Throws a Difference where two trees differ in what is not allowed to. */
export function compareTrees(oracle: Oracle, first: Tree, second: Tree, known: Known): void {
	const lines: string[] = [];
	const kinds = new Set<string>();
	const [name, other] = SIDES[oracle];
	for (const [path, one] of first) {
		const two = second.get(path);
		if (two === undefined) {
			lines.push(`${path}: only ${name} has it (${one.type})`);
			kinds.add("name missing");
			continue;
		}
		const object = known.model.at(path === "" ? [] : path.split("/"));
		const context = {
			oracle,
			first: one,
			second: two,
			links: object?.links ?? null,
			hasFailedRename: known.failedRenames.has(object),
			isOfLower: object !== null && (object.serial < known.firstObjects || (known.wasPartOfLower?.(object) ?? false)),
			isUnindexed: known.isUnindexed ?? false,
			before: (object === null ? undefined : known.before?.(object)) ?? null,
		};
		for (const field of FIELDS) {
			if (one[field] === two[field]) continue;
			const allowed = isAllowedField(field, context);
			if (allowed !== null) {
				known.note(allowed);
				continue;
			}
			const links = field === "nlink" ? ` (by the operations ${object?.links})` : "";
			lines.push(`${path}: ${field}: ${name} ${one[field]}, ${other} ${two[field]}${links}`);
			kinds.add(one.type === two.type ? `${field} of ${one.type}` : "type");
		}
	}
	for (const [path, two] of second) {
		if (first.has(path)) continue;
		lines.push(`${path}: only ${other} has it (${two.type})`);
		kinds.add("name too many");
	}
	for (const [path, one, two] of partitions(first, second)) {
		if (isAllowedPartition(oracle, known.isUnindexed ?? false, one, two)) continue;
		lines.push(`${path}: ${name} has it as one object with ${one}, ${other} with ${two}`);
		kinds.add("objects");
	}
	if (lines.length === 0) return;
	throw new Difference(`${oracle}: ${[...kinds].sort().join(", ")}`, `the trees differ:\n    ${lines.join("\n    ")}`);
}

/** Paths whose set of other names differs. */
function partitions(first: Tree, second: Tree): [string, string, string][] {
	const groups = (tree: Tree) => {
		const byObject = new Map<string, string[]>();
		for (const [path, { object }] of tree) byObject.set(object, [...(byObject.get(object) ?? []), path]);
		return new Map([...tree].map(([path, { object }]) => [path, (byObject.get(object) as string[]).sort().join(" ")]));
	};
	const one = groups(first);
	const two = groups(second);
	return [...one]
		.filter(([path, group]) => two.has(path) && two.get(path) !== group)
		.map(([path, group]) => [path, group, two.get(path) as string]);
}

/** Every name leads to the object that the operations have put there, and each of these has the handle and number that it always had. */
export function compareNames(tree: ReadonlyMap<string, ObservedWithHandle>, model: Model): void {
	for (const [path, object] of model.paths()) {
		const observed = tree.get(path);
		if (observed === undefined) throw new Difference("model: name missing", `${path} (${object.type}) must be there`);
		if (observed.handle !== object.handle?.toString("hex")) {
			throw new Difference("handle changed", `${path} (${object.type}) has another handle than before`);
		}
		if (observed.object !== object.fileid)
			throw new Difference("fileid changed", `${path} has file id ${observed.object}, not ${object.fileid}`);
	}
	for (const [path, observed] of tree) {
		if (model.at(path === "" ? [] : path.split("/")) === null) {
			throw new Difference("model: name too many", `${path} (${observed.type}) must not be there`);
		}
	}
}

/** Every handle ever given out leads to its object, or is stale because that is gone. */
export async function compareHandles(
	holdfast: HoldfastOverlay,
	tree: ReadonlyMap<string, ObservedWithHandle>,
	model: Model,
): Promise<void> {
	const pathOf = new Map<ModelObject, string>();
	for (const [path, object] of model.paths()) pathOf.set(object, path);
	for (const [handle, object] of model.objects) {
		const path = pathOf.get(object);
		const what = `${object.type} number ${object.serial} (${path ?? "without a name"}; ${object.links} links)`;
		const found = await holdfast.outcome(() => holdfast.observeHandle(Buffer.from(handle, "hex")));
		if (object.links === 0) {
			if (found !== "ESTALE") throw new Difference("gone, not stale", `${what} is gone, but its handle says ${JSON.stringify(found)}`);
			continue;
		}
		if (typeof found === "string") throw new Difference(`handle: ${found}`, `the handle of ${what} says ${found}`);
		if (found.handle !== handle) throw new Difference("handle changed", `${what} shows another handle by its handle`);
		if (found.object !== object.fileid) throw new Difference("fileid changed", `${what} has file id ${found.object}, not ${object.fileid}`);
		if (object.type !== "dir" && found.nlink !== object.links) throw new Difference("nlink by handle", `${what} has nlink ${found.nlink}`);
		const named = path === undefined ? undefined : tree.get(path);
		if (named !== undefined && JSON.stringify(named) !== JSON.stringify(found)) {
			throw new Difference("handle differs from name", `${what}: by name ${JSON.stringify(named)}, by handle ${JSON.stringify(found)}`);
		}
	}
}

export function mistake(what: string): never {
	throw new Difference(what.replace(/: .*/, ""), what);
}
