// Opens the overlay of some layers for one piece of work of a command.

import { PathError } from "../overlay/changes/path-in-export.ts";
import { type LayerPaths, type OpenedLayers, openPaths } from "./layer-options.ts";
import { UserError } from "./user-error.ts";

/** Opens them for as long as `act` takes. UserError: they cannot be opened, or a word of the command line is no path of the export. */
export async function withOverlay<T>(
	paths: LayerPaths,
	purpose: "inspect" | "release",
	act: (opened: OpenedLayers) => Promise<T>,
	{ isSync, restoresHolds = false }: { readonly isSync: boolean; readonly restoresHolds?: boolean },
): Promise<T> {
	const opened = openPaths(paths, purpose, isSync, restoresHolds);
	try {
		return await act(opened);
	} catch (error) {
		throw error instanceof PathError ? new UserError(error.message) : error;
	} finally {
		await opened.overlay.close();
	}
}
