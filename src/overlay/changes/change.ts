// What one change of a change list says.

import type { Real } from "../../layer/real.ts";
import type { FileType } from "../../vfs/operations.ts";
import type { BaseState } from "../format/base-version.ts";

/**
 * - "added": there is nothing of the path in the base;
 * - "removed": only the base has it, and with a directory all that is below;
 * - "changed": its content, its type, or what a symlink or device leads to;
 * - "metadata": owner, mode or extended attributes alone;
 * - "renamed": a directory of the base that stands here now with what it holds. What changed in it follows below the new path.
 */
export type ChangeKind = "added" | "removed" | "changed" | "metadata" | "renamed";

/** How one path of the overlay differs from the base, which is the lowers without the upper. */
export interface Change {
	/** Names with "/" between them; empty for the root. */
	readonly path: Buffer;
	readonly kind: ChangeKind;
	/** Of what is there now; of what was removed, what it was. */
	readonly type: FileType;
	/** The type that the base has at this path; null where it has nothing. */
	readonly baseType: FileType | null;
	/** Where the base has a renamed directory; null for all other kinds. */
	readonly from: Buffer | null;
	/** A directory in the place of another: what that had is gone, each told as removed unless it is there again. */
	readonly isReplaced: boolean;
	/** Bytes of a regular file, now and in the base; 0 for what is none. */
	readonly size: number;
	readonly baseSize: number;
	/** Names of one object that is no directory have the same: its file id. Null: it has one name. */
	readonly group: string | null;
	/** The handle of what is there now; null for what was removed. */
	readonly handle: Buffer | null;
	/** What the base has there, of a renamed directory what it was; null where it has nothing. */
	readonly base: Real | null;
	/** Whether that is what it was when the change was made; null where there is no base, or nobody has asked. */
	readonly baseState: BaseState | null;
}
