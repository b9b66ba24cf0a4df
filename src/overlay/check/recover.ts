// Completes the change that a killed server has left, before a check looks.

import { join } from "node:path";
import { close, descriptorPath, O, openAt } from "../../linux/open.ts";
import { must } from "../../vfs/system-errors.ts";
import { isInterrupted, Journal } from "../journal/journal.ts";
import type { Writable } from "../journal/writable.ts";
import { IndexDirectory } from "../work/index-directory.ts";
import { LinkCounts } from "../work/link-counts.ts";
import { LongRedirects } from "../work/long-redirects.ts";
import { RecordMap } from "../work/record-map.ts";
import { WorkFolder } from "../work/work-folder.ts";
import type { CheckedLayers } from "./layers.ts";

/** Whether a server may have been killed in the middle of a change, which the next start completes. */
export function hasInterruptedChange({ own, state, isLive }: CheckedLayers): boolean {
	return own >= 0 && state === "of holdfast" && !isLive && isInterrupted(descriptorPath(own));
}

/** Completes the change that a server was killed in, as its next start would. */
export function completeInterruptedChange({ work, workPath, index, upper }: CheckedLayers): void {
	const folder = (name: string) => must(openAt(work, name, O.rdonly | O.directory), `Cannot open work/${name}`);
	const ownPath = join(workPath, "holdfast");
	const workFolder = new WorkFolder(folder("work"), folder("holdfast"), ownPath);
	const linkCounts = new LinkCounts(workFolder.own);
	const indexFd = must(openAt(index, ".", O.rdonly | O.directory), "Cannot open the index");
	const bases = new RecordMap(ownPath, "bases");
	const marks = new RecordMap(ownPath, "marks");
	const journal = new Journal(ownPath, () => writable);
	const writable: Writable = {
		layer: upper,
		work: workFolder,
		index: new IndexDirectory(indexFd, upper, workFolder),
		linkCounts,
		journal,
		longRedirects: new LongRedirects(workFolder.own, ownPath, upper),
		bases,
		recordsAllBases: false,
		marks,
		ids: null,
	};
	try {
		journal.recover();
	} finally {
		journal.close();
		marks.close();
		bases.close();
		linkCounts.close();
		workFolder.close();
		close(indexFd);
	}
}
