import type { Observed } from "./observed.ts";
import type { RigName } from "./rig.ts";
import type { Operation } from "./scenario.ts";

/** Each has a section of this name in docs/differences.md. */
interface ResultDifference {
	readonly name: string;
	readonly is: (context: ResultContext) => boolean;
}

export interface ResultContext {
	readonly rig: RigName;
	readonly operation: Operation;
	/** "ok", with what was read, or the name of the error. */
	readonly kernel: string;
	readonly holdfast: string;
}

/** Where the results of an operation may differ for good. */
const RESULTS: readonly ResultDifference[] = [
	{
		name: "link of a directory",
		is: ({ operation: { kind }, kernel, holdfast }) =>
			kind === "link" && (kernel === "EPERM" || kernel === "EEXIST") && holdfast === "EISDIR",
	},
	{
		name: "rename of a file over a directory above it",
		is: ({ operation: { kind }, kernel, holdfast }) => kind === "rename" && kernel === "ENOTEMPTY" && holdfast === "EISDIR",
	},
	{
		// rename(2) knows both, and xfs says the other
		name: "rename over a directory that is not empty",
		is: ({ operation: { kind }, kernel, holdfast }) => kind === "rename" && kernel === "EEXIST" && holdfast === "ENOTEMPTY",
	},
	{
		name: "long redirects",
		is: ({ operation, kernel, holdfast }) =>
			(operation.kind === "rename" || operation.kind === "exchange") &&
			kernel === "EXDEV" &&
			holdfast === "ok" &&
			[operation.path, operation.to].some((path) => path.join("/").length > 200),
	},
	{
		name: "removal of an ACL that is not there",
		is: ({ operation, kernel, holdfast }) =>
			(operation.kind === "removexattr" || (operation.kind === "setxattr" && operation.value === "empty")) &&
			operation.name.startsWith("system.posix_acl_") &&
			kernel === "ENODATA" &&
			holdfast === "ok",
	},
	{
		name: "renames of lower directories with userxattr",
		is: ({ rig, operation: { kind }, kernel, holdfast }) =>
			rig === "userxattr" &&
			(kind === "rename" || kind === "exchange") &&
			kernel === "EXDEV" &&
			(holdfast === "ok" || holdfast === "ENOTEMPTY"),
	},
];

/** "kernel": both did the same. "released": the kernel has mounted what holdfast wrote. "adopted": holdfast has taken over what the kernel wrote. */
export type Oracle = "kernel" | "released" | "adopted";

export interface FieldContext {
	readonly oracle: Oracle;
	readonly first: Observed;
	readonly second: Observed;
	/** The link count as the operations made it; null where nothing tells it. */
	readonly links: number | null;
	/** A rename from or to this folder has failed. */
	readonly hasFailedRename: boolean;
	/** The object was born in a lower. */
	readonly isOfLower: boolean;
	/** The kernel's tree was seen under a mount without index. */
	readonly isUnindexed: boolean;
	/** What the object was in its lower before anything was done; null where it is not known. */
	readonly before: Observed | null;
}

interface FieldDifference {
	readonly name: string;
	readonly is: (field: keyof Observed, context: FieldContext) => boolean;
}

const UNINDEXED_LINKS = "hard links under a mount without index";

/** Whether the names that one tree has as one object, and the other has as another set, may differ: the kernel shows fewer of them together. */
export function isAllowedPartition(oracle: Oracle, isUnindexed: boolean, first: string, second: string): boolean {
	const names = new Set(second.split(" "));
	return oracle === "adopted" && isUnindexed && first.split(" ").every((name) => names.has(name));
}

/** Where a field of the trees may differ for good: `first` is the kernel's (before release: holdfast's own), `second` the other. */
const FIELDS: readonly FieldDifference[] = [
	{
		name: "link counts of directories",
		is: (field, { first, second }) => field === "nlink" && first.type === "dir" && (first.nlink === 1 || second.nlink === 1),
	},
	{
		name: "link counts of copied up files",
		is: (field, { oracle, first, second, links, isOfLower }) => {
			if (field !== "nlink" || !isOfLower || links === null) return false;
			const [kernel, holdfast] = oracle === "released" ? [second, first] : [first, second];
			return holdfast.nlink === links && kernel.nlink === links + 1;
		},
	},
	{
		name: UNINDEXED_LINKS,
		is: (field, { oracle, first, isUnindexed, before }) => {
			if (oracle !== "adopted" || !isUnindexed || before === null || first.type === "dir") return false;
			return field === "nlink" || (before.nlink > 1 && first[field] === before[field]);
		},
	},
	{
		name: "times of a folder after a rename that failed",
		is: (field, { oracle, first, hasFailedRename }) => field === "mtime" && oracle === "kernel" && hasFailedRename && first.mtime === "now",
	},
];

/** The name of the difference that it is, or null. */
export function isAllowedResult(context: ResultContext): string | null {
	return RESULTS.find((one) => one.is(context))?.name ?? null;
}

export function isAllowedField(field: keyof Observed, context: FieldContext): string | null {
	return FIELDS.find((one) => one.is(field, context))?.name ?? null;
}

/** The names of all of them. */
export const ALLOWED_DIFFERENCES: readonly string[] = [...RESULTS, ...FIELDS].map(({ name }) => name);
