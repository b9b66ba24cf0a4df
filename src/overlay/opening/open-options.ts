// What a caller may ask of `openOverlay`.

import type { HandleKind } from "../../layer/layer.ts";
import type { MoveReport } from "../adopt/moved.ts";
import type { PartialLimits } from "../data/partials.ts";
import type { ListingLimits } from "../listing/listing.ts";
import type { LinkWalk } from "../threads/link-walks.ts";
import type { Budget } from "./budget.ts";
import type { WhiteoutFiles } from "./layer-forms.ts";

export interface OpenOptions {
	/** Directories, from the topmost down; at least one. */
	readonly lowers: readonly string[];
	/** Layers below them that hold only the data of metacopy files, from the topmost down (`::` of the kernel). */
	readonly dataLowers?: readonly string[];
	/** The overlay's own xattrs are `user.overlay.*`, as of the kernel's `userxattr`. */
	readonly userXattrs?: boolean;
	/** What files named `.wh.NAME` in layers are. By default what each layer tells, and it is refused where it tells nothing. */
	readonly whiteoutFiles?: WhiteoutFiles;
	/** Where ids come from; "auto" (the default): kernel handles where everything allows them. An export that exists keeps its kind. */
	readonly handles?: "auto" | HandleKind;
	/**
	 * With portable ids: a walk finds which names of a lower lead to one file, when the first such is met, so that they stay one object. True: at the
	 * first serve, before it is ready. False: each name is an object of its own.
	 */
	readonly linkNames?: boolean;
	/** With portable ids: this user is the superuser of the export; owners, modes and devices are kept in an xattr. */
	readonly fakeRoot?: boolean;
	/** Absent for a read-only export. */
	readonly upper?: string | undefined;
	/** By default a sibling of upper. */
	readonly work?: string | undefined;
	/** Where exports without an upper keep their registry, and `serve DIR` its changes. */
	readonly stateFolder: string;
	/** Answer a change only when it is stable. */
	readonly isSync: boolean;
	/** `inspect` reads what is there, beside a running server, and changes nothing. */
	readonly purpose: "serve" | "inspect" | "release" | "adopt" | "rebind";
	/** Told what was found where upper and work were copied since the last time. */
	readonly onMoved?: (report: MoveReport) => void;
	/** Told of a walk for names of one file that takes long (`LinkWalk`). */
	readonly onLinkWalk?: (walk: LinkWalk) => void;
	/** Told the path of an object of a lower that has changed although it must not. */
	readonly onChanged?: (path: string) => void;
	/** Calls that may wait for the disk of a lower are made in other threads, and answered by Pending: for those who serve many at once. */
	readonly isPatient?: boolean;
	/** Shared with other exports; the bounds below are of an export that has one of its own. */
	readonly budget?: Budget;
	/** A front end will say what it still holds (`restoreHolds`): what is held and has no name stays until `endOfRestore`. */
	readonly restoresHolds?: boolean;
	readonly nodesMax?: number;
	readonly descriptorsMax?: number;
	readonly listingLimits?: ListingLimits;
	readonly partialLimits?: Partial<PartialLimits>;
}

/** May make an export of layers that were never one. */
export function isFirst(options: OpenOptions): boolean {
	return options.purpose === "serve" || options.purpose === "adopt";
}
