import type { Observed } from "./observed.ts";
import type { Operation } from "./scenario.ts";

/** What holdfast does not do yet; where a flag is off, the operation must fail and change nothing, and the kernel is not asked. */
export interface AllowedDifferences {
	/** Rename of a directory with a part in a lower (EXDEV until then). */
	readonly directoryRenames: boolean;
	/** A further name for an object of a lower or one copied up (NOTSUPP until then). */
	readonly lowerLinks: boolean;
}

const fromEnvironment = (name: string, otherwise: boolean) => {
	const value = process.env[name];
	return value === undefined ? otherwise : value === "1";
};

export const ALLOWED: AllowedDifferences = {
	directoryRenames: fromEnvironment("HOLDFAST_DIRECTORY_RENAMES", true),
	lowerLinks: fromEnvironment("HOLDFAST_LOWER_LINKS", true),
};

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
		why: "rename of a file over a folder above it: the kernel says ENOTEMPTY before it looks at the kinds (reported, to be removed)",
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
];

export function isAllowedResult(operation: Operation, kernel: string, holdfast: string): boolean {
	return RESULTS.some((one) => one.is(operation, kernel, holdfast));
}

export function isAllowedField(field: keyof Observed, context: FieldContext): boolean {
	return FIELDS.some((one) => one.is(field, context));
}
