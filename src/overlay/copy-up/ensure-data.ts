// Fills a metacopy file with its data.

import { changeTimes } from "../../linux/attributes.ts";
import { close, O } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { getXattr, setXattr } from "../../linux/xattr.ts";
import { Pending } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { dataOf, removeIfThere, unmarkMetacopy } from "../data/data-files.ts";
import type { Engine } from "../engine/engine.ts";
import type { Node } from "../nodes/node.ts";
import { startCopy } from "./copy-job.ts";

/** What `security.capability` was before a write took it away; put back when the data is complete. */
const CAPABILITY = "security.capability";

/** Makes an upper file hold its own data. Copied off the main thread: Pending until it is there. A crash leaves a metacopy file, to be begun again. */
export function ensureData(engine: Engine, node: Node): void {
	if (node.type !== FileType.reg || !node.isUpper || !node.top.layer.mayHoldMetacopies) return;
	const data = dataOf(engine, node);
	if (data === node.top) return;
	const job = node.copyUp;
	const fd = engine.descriptors.path(node.top);
	const kept = `${engine.xattr.identity}.capability`;
	if (job === null) {
		const stat = new Stat();
		must(fstat(fd, stat), "Cannot read an upper file");
		const capability = getXattr(fd, CAPABILITY);
		if (typeof capability !== "number") must(setXattr(fd, kept, capability), "Cannot keep the capabilities of a file");
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
	const capability = getXattr(fd, kept);
	if (typeof capability !== "number") must(setXattr(fd, CAPABILITY, capability), "Cannot set the capabilities of a file");
	changeTimes(fd, { sec: job.before.atimeSec, nsec: job.before.atimeNsec }, { sec: job.before.mtimeSec, nsec: job.before.mtimeNsec });
	unmarkMetacopy(engine, fd);
	removeIfThere(fd, kept);
	node.data = node.top;
}
