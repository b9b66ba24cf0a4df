import type { Observed } from "./observed.ts";
import type { Operation } from "./scenario.ts";

/** Where the results of an operation may differ for good. */
const RESULTS: readonly {
	readonly why: string;
	readonly is: (operation: Operation, kernel: string, holdfast: string) => boolean;
}[] = [
	{
		why: "link(2) of a directory is EPERM, after EEXIST; NFS servers answer ISDIR, before they look at the new name",
		is: ({ kind }, kernel, holdfast) => kind === "link" && (kernel === "EPERM" || kernel === "EEXIST") && holdfast === "EISDIR",
	},
	{
		why: "the kernel finds that the target is a folder above the source (ENOTEMPTY) before it compares the kinds",
		is: ({ kind }, kernel, holdfast) => kind === "rename" && kernel === "ENOTEMPTY" && holdfast === "EISDIR",
	},
	{
		why: "the kernel writes redirects of at most 256 bytes, holdfast longer ones; from here on there is nothing to compare with",
		is: (operation, kernel, holdfast) =>
			operation.kind === "rename" && kernel === "EXDEV" && holdfast === "ok" && operation.path.join("/").length > 200,
	},
];

export interface FieldContext {
	/** "kernel": both did the same. "released": the kernel has mounted what holdfast wrote. */
	readonly oracle: "kernel" | "released";
	readonly first: Observed;
	readonly second: Observed;
	/** The link count as the operations made it; null where nothing tells it. */
	readonly links: number | null;
	/** A rename from or to this folder has failed. */
	readonly hasFailedRename: boolean;
	/** The object was born in a lower. */
	readonly isOfLower: boolean;
}

/** Where a field of the trees may differ for good: `first` is the kernel's (before release: holdfast's own), `second` the other. */
const FIELDS: readonly { readonly why: string; readonly is: (field: keyof Observed, context: FieldContext) => boolean }[] = [
	{ why: "nobody counts the subdirectories of a merged directory", is: (field, { first }) => field === "nlink" && first.type === "dir" },
	{
		why: "the kernel counts the index entry of a copied up file as a name, after a mount and after some links (overlay-format.md)",
		is: (field, { oracle, first, second, links, isOfLower }) => {
			if (field !== "nlink" || !isOfLower) return false;
			const [kernel, holdfast] = oracle === "kernel" ? [first, second] : [second, first];
			return holdfast.nlink === links && kernel.nlink === links + 1;
		},
	},
	{
		why: "the kernel places a whiteout before it learns from the file system of upper that a rename cannot be, which moves the clock of the folder",
		is: (field, { oracle, first, hasFailedRename }) => field === "mtime" && oracle === "kernel" && hasFailedRename && first.mtime === "now",
	},
];

export function isAllowedResult(operation: Operation, kernel: string, holdfast: string): boolean {
	return RESULTS.some((one) => one.is(operation, kernel, holdfast));
}

export function isAllowedField(field: keyof Observed, context: FieldContext): boolean {
	return FIELDS.some((one) => one.is(field, context));
}
