// What a worker thread can be asked to do.

import type { Ranges } from "../../layer/copy-data.ts";
import type { TrashRequest } from "./empty-trash.ts";
import type { LinksRequest, LinksResult } from "./find-links.ts";
import type { FoundPath, PathRequest } from "./find-path.ts";
import type { ScanRequest, ScanResult } from "./scan.ts";
import type { WarmRequest } from "./warm.ts";

/** Work that may wait for a disk for long, and so never runs on the main thread. Descriptors stay open until it is done. */
export type Job =
	/** Without `flush` what was copied is written out, and not made stable. */
	| { readonly kind: "copy"; readonly from: number; readonly to: number; readonly size: number; readonly flush: boolean }
	/** Part of a file: see copyRanges. */
	| { readonly kind: "fill"; readonly from: number; readonly to: number; readonly ranges: Ranges; readonly flush: boolean }
	/** Shares a range of one file with another. */
	| {
			readonly kind: "clone";
			readonly from: number;
			readonly sourceOffset: number;
			readonly length: number;
			readonly to: number;
			readonly offset: number;
	  }
	/** Sets the size of an open file. */
	| { readonly kind: "cut"; readonly fd: number; readonly size: number }
	| ({ readonly kind: "trash" } & TrashRequest)
	| { readonly kind: "sync"; readonly fd: number; readonly scope: "file" | "file system" }
	| ({ readonly kind: "scan" } & ScanRequest)
	| ({ readonly kind: "warm" } & WarmRequest)
	/** The path of a portable id below the root of its lower. */
	| ({ readonly kind: "search" } & PathRequest)
	| ({ readonly kind: "links" } & LinksRequest)
	/** The names in the index: see EntryHashes. */
	| { readonly kind: "entries"; readonly fd: number };

/** A negated error number, 0, a count, or what a scan, a search or a walk found, or the slots of EntryHashes. */
export type JobResult = number | ScanResult | FoundPath | LinksResult | Uint32Array;
