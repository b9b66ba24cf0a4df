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
export const RESULTS: readonly ResultDifference[] = [
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
}

interface FieldDifference {
	readonly name: string;
	readonly is: (field: keyof Observed, context: FieldContext) => boolean;
}

/** Where a field of the trees may differ for good: `first` is the kernel's (before release: holdfast's own), `second` the other. */
export const FIELDS: readonly FieldDifference[] = [
	{ name: "link counts of directories", is: (field, { first }) => field === "nlink" && first.type === "dir" },
	{
		name: "link counts of copied up files",
		is: (field, { oracle, first, second, links, isOfLower }) => {
			if (field !== "nlink" || !isOfLower || links === null) return false;
			const [kernel, holdfast] = oracle === "released" ? [second, first] : [first, second];
			return holdfast.nlink === links && kernel.nlink === links + 1;
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
