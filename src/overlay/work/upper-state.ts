// The part of an export that can be written, without its journal.

import type { Layer } from "../../layer/layer.ts";
import type { PortableUpper } from "../../layer/portable-upper.ts";
import type { IndexDirectory } from "./index-directory.ts";
import type { LinkCounts } from "./link-counts.ts";
import type { LongRedirects } from "./long-redirects.ts";
import type { RecordMap } from "./record-map.ts";
import type { WorkFolder } from "./work-folder.ts";

/** What can be written in an export: its upper, and all that lies in work. */
export interface UpperState {
	readonly layer: Layer;
	readonly work: WorkFolder;
	readonly index: IndexDirectory;
	readonly linkCounts: LinkCounts;
	readonly longRedirects: LongRedirects;
	/** Of lower objects that the index says are gone: in what version they were removed, as `encodeBase` has it. */
	readonly bases: RecordMap;
	/** Nothing was ever copied up or removed here without being recorded. */
	readonly recordsAllBases: boolean;
	/** See getMark. */
	readonly marks: RecordMap;
	/** Portable ids of upper; null: kernel handles. */
	readonly ids: PortableUpper | null;
}
