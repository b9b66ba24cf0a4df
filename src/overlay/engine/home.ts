// Where objects were born: layers of one file system, which share its handles.

import type { Layer } from "../../layer/layer.ts";

export interface Home {
	readonly number: number;
	readonly uuid: Buffer;
	/** Layers whose objects were born here; any of them opens its handles. */
	readonly layers: readonly Layer[];
	readonly isUpper: boolean;
	/** One descriptor for each mount that the layers were named on, for climbing by "..". */
	readonly mounts: readonly number[];
}
