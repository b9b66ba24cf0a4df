// The request "diff" of the control socket: the change list of an export, an item for each change.

import { changeInJson } from "../overlay/changes/change-in-json.ts";
import { changeList } from "../overlay/changes/change-list.ts";
import { pathsInExport } from "../overlay/changes/path-in-export.ts";
import { ControlError } from "./control-error.ts";
import type { ControlRequest } from "./control-request.ts";

/** As `holdfast diff` has it. */
export interface DiffArgument {
	/** Paths of the export as people type them; none: all. */
	readonly paths: readonly string[];
	readonly isExact: boolean;
	/** Whether each change says if its base has changed since. */
	readonly tellsBase: boolean;
}

export const diffRequest: ControlRequest = {
	name: "diff",
	async run({ opened, send }, { paths, isExact, tellsBase }) {
		if (
			!Array.isArray(paths) ||
			!paths.every((path) => typeof path === "string") ||
			typeof isExact !== "boolean" ||
			typeof tellsBase !== "boolean"
		)
			throw new ControlError('A request "diff" has paths, which are texts, isExact and tellsBase.', "bad");
		const wanted = await pathsInExport(opened, paths);
		for await (const change of changeList(opened, { isExact, tellsBase, paths: wanted })) await send(changeInJson(change));
		return null;
	},
};
