// An upper and its work folder on a tmpfs of their own, without an overlay around them.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { needs } from "../../../test/support/requirements.ts";
import { cannotMount, scratch } from "../../../test/support/scratch.ts";
import { LayerOpener, TRUSTED_XATTRS } from "../../layer/layer.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { close, O, openPath } from "../../linux/open.ts";
import type { Descriptors } from "../journal/steps.ts";
import { IndexDirectory } from "./index-directory.ts";
import { LinkCounts } from "./link-counts.ts";
import { LongRedirects } from "./long-redirects.ts";
import { RecordMap } from "./record-map.ts";
import type { UpperState } from "./upper-state.ts";
import { WorkFolder } from "./work-folder.ts";

/** Why a test of an upper cannot run here; false: it can. */
export const cannotMakeUpper: string | false = needs("root") || cannotMount("tmpfs");

export interface TestUpper {
	/** Folders on disk: upper, and `work` with `work/work`, `work/index` and `work/holdfast` in it. */
	readonly upper: string;
	readonly work: string;
	/** The disk that both lie on, for lowers beside them. */
	readonly disk: string;
	readonly state: UpperState;
	/** The kernel handle of a path below the disk, its link not followed. */
	handle(path: string): FileHandle;
	/** A descriptor that is closed with the test. */
	open(path: string, flags: number): number;
}

export function makeUpper(context: TestContext): TestUpper {
	const folder = scratch(context);
	const disk = folder.mount("tmpfs", "disk", 16);
	const [upper, work] = [join(disk, "upper"), join(disk, "work")];
	for (const path of [upper, work, join(work, "work"), join(work, "index"), join(work, "holdfast")]) mkdirSync(path);
	const open = (path: string, flags: number) => {
		const fd = openPath(join(disk, path), flags);
		if (fd < 0) throw new Error(`Cannot open ${path}: ${fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	const keep = <T extends { close(): void }>(resource: T): T => {
		folder.beforeRemoval(() => resource.close());
		return resource;
	};
	const directory = O.rdonly | O.directory;
	const own = join(work, "holdfast");
	const layer = keep(new LayerOpener(TRUSTED_XATTRS).openUpper(upper, openPath(upper, directory)));
	const workFolder = keep(new WorkFolder(openPath(join(work, "work"), directory), openPath(own, directory), own));
	const state: UpperState = {
		layer,
		work: workFolder,
		index: new IndexDirectory(open("work/index", directory), layer, workFolder),
		linkCounts: keep(new LinkCounts(workFolder.own)),
		longRedirects: new LongRedirects(workFolder.own, own, layer),
		bases: keep(new RecordMap(own, "bases")),
		recordsAllBases: true,
		marks: keep(new RecordMap(own, "marks")),
		ids: null,
	};
	return {
		upper,
		work,
		disk,
		state,
		handle(path) {
			const handle = layer.handles.of(open(path, O.path | O.nofollow));
			if (typeof handle === "number") throw new Error(`Cannot take the handle of ${path}: ${handle}`);
			return handle;
		},
		open,
	};
}

/** Opens by handle, as a recovery does, for steps that are run by themselves. */
export function descriptorsOf(state: UpperState, opened: number[]): Descriptors {
	const keep = (fd: number) => {
		opened.push(fd);
		return fd;
	};
	return {
		directory(of) {
			if (of === "work") return state.work.temporaries;
			if (of === "index") return state.index.fd;
			if (of === "orphans") return state.work.orphans;
			return keep(state.layer.handles.open(of, O.path | O.directory));
		},
		inode: (inode, forData) => keep(state.layer.handles.open(inode, (forData ? O.rdwr : O.path) | O.nofollow)),
		isRecovery: false,
		keep,
	};
}
