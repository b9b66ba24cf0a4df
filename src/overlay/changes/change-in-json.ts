// A change as JSON between processes: all but what only the process that found it can use.

import type { Change } from "./change.ts";

/** A change that another process has found. */
export type ToldChange = Omit<Change, "base">;

/** The fields of a change that hold bytes, which are base64 in JSON. */
const BYTES = ["path", "from", "handle"] as const;

export function changeInJson({ base: _, ...told }: Change): object {
	return { ...told, ...Object.fromEntries(BYTES.map((field) => [field, told[field]?.toString("base64") ?? null])) };
}

/** The reverse, of what a server of ours has written. */
export function changeFromJson(json: unknown): ToldChange {
	const told = json as Record<string, unknown>;
	const bytes = BYTES.map((field) => [field, told[field] === null ? null : Buffer.from(String(told[field]), "base64")]);
	return { ...told, ...Object.fromEntries(bytes) } as ToldChange;
}
