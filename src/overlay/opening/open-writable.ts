// Opens what an export can write: upper's ids, and the index, journal and records in work.

import { join } from "node:path";
import type { Layer } from "../../layer/layer.ts";
import { PortableUpper } from "../../layer/portable-upper.ts";
import { KeptRights } from "../../layer/rights.ts";
import { moveChangeTime } from "../../linux/attributes.ts";
import { close } from "../../linux/open.ts";
import { pathExists } from "../../linux/read-file.ts";
import { Journal } from "../journal/journal.ts";
import type { Writable } from "../journal/writable.ts";
import { IndexDirectory } from "../work/index-directory.ts";
import { LinkCounts } from "../work/link-counts.ts";
import { LongRedirects } from "../work/long-redirects.ts";
import { RecordMap } from "../work/record-map.ts";
import { WorkFolder } from "../work/work-folder.ts";
import type { Attempt } from "./attempt.ts";
import { ALL_BASES_FILE } from "./export-folder.ts";
import { type ExportPaths, indexPath } from "./export-paths.ts";
import type { SharedTree } from "./shared-tree.ts";

/** Owners of symlinks are kept by the ids of those. */
function keepLinkOwners(upper: Layer, marks: RecordMap): void {
	const { rights, handles } = upper;
	if (!(rights instanceof KeptRights) || !rights.asRoot) return;
	const keyOf = (fd: number) => {
		const id = handles.of(fd);
		return typeof id === "number" ? null : Buffer.concat([Buffer.of(id.type), id.bytes, Buffer.from("owner")]);
	};
	rights.links = {
		get(fd) {
			const key = marks.isEmpty ? null : keyOf(fd);
			return key === null ? null : marks.get(key);
		},
		set(fd, value) {
			const key = keyOf(fd);
			if (key === null) return 0;
			// as chown(2) of the inode would; first, since owners that clients' caches do not learn of are worse than a ctime for nothing
			const status = moveChangeTime(fd);
			if (status === 0) marks.set(key, value);
			return status;
		},
	};
}

/** What is removed from work was never seen, or is not seen any more. */
function openIds(upper: Layer, work: WorkFolder, keep: Attempt["keep"]): PortableUpper | null {
	if (!upper.handles.isPortable) return null;
	const ids = keep(new PortableUpper(upper.root, work.own, upper.xattr, upper.fileSystem.name));
	upper.handles = ids;
	work.onRemoval = (fd) => ids.forgetBuilt(fd);
	return ids;
}

export function openWritable(upper: Layer, paths: ExportPaths, tree: SharedTree, keep: Attempt["keep"]): Writable {
	const work = paths.work as string;
	const folder = (path: string) => tree.open(path);
	const workFolder = keep(new WorkFolder(folder(join(work, "work")), folder(paths.folder), paths.folder));
	const index = folder(indexPath(work, upper.handles.isPortable));
	const indexDirectory = new IndexDirectory(index, upper, workFolder);
	keep({
		close() {
			indexDirectory.endListing();
			close(index);
		},
	});
	const writable: Writable = {
		layer: upper,
		work: workFolder,
		index: indexDirectory,
		linkCounts: keep(new LinkCounts(workFolder.own)),
		journal: keep(new Journal(paths.folder, () => writable)),
		longRedirects: new LongRedirects(workFolder.own, workFolder.ownPath, upper),
		bases: keep(new RecordMap(paths.folder, "bases")),
		recordsAllBases: pathExists(join(paths.folder, ALL_BASES_FILE)),
		marks: keep(new RecordMap(paths.folder, "marks")),
		ids: openIds(upper, workFolder, keep),
	};
	if (upper.rights.isKept) workFolder.whiteoutXattr = upper.xattr.whiteout;
	keepLinkOwners(upper, writable.marks);
	return writable;
}
