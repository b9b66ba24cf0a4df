// Fills a metacopy file with its data.

import { changeTimes } from "../../linux/attributes.ts";
import { close, O } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { Pending } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { dataOf, unmarkMetacopy } from "../data/data-files.ts";
import { keepCapability, restoreCapability } from "../data/kept-capability.ts";
import type { Engine } from "../engine/engine.ts";
import type { Node } from "../nodes/node.ts";
import { startCopy } from "./copy-job.ts";

/** Makes an upper file hold its own data. Copied off the main thread: Pending until it is there. A crash leaves a metacopy file, to be begun again. */
export function ensureData(engine: Engine, node: Node): void {
	if (node.type !== FileType.reg || !node.isUpper || !node.top.layer.mayHoldMetacopies) return;
	const data = dataOf(engine, node);
	if (data === node.top) return;
	const job = node.copyUp;
	const fd = engine.descriptors.path(node.top);
	if (job === null) {
		const stat = new Stat();
		must(fstat(fd, stat), "Cannot read an upper file");
		keepCapability(engine.xattr, fd);
		const from = must(data.layer.handles.open(data.handle, O.rdonly | O.noatime), "Cannot open a lower file");
		const to = node.top.layer.handles.open(node.top.handle, O.rdwr | O.nofollow);
		if (to < 0) close(from);
		throw new Pending(startCopy(engine, node, null, must(to, "Cannot open an upper file"), from, stat));
	}
	if (job.state === "running") throw new Pending(job.ready);
	node.copyUp = null;
	close(job.fd);
	node.stat = null;
	if (job.error !== null) throw job.error;
	restoreCapability(engine.xattr, fd);
	changeTimes(fd, { sec: job.before.atimeSec, nsec: job.before.atimeNsec }, { sec: job.before.mtimeSec, nsec: job.before.mtimeNsec });
	unmarkMetacopy(engine, fd);
	node.data = node.top;
}
