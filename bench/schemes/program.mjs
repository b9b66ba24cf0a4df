import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The compiled modules of holdfast: the run's own copy of them, since somebody may compile meanwhile. */
const root = process.env.HOLDFAST_BENCH_FOLDER
	? join(process.env.HOLDFAST_BENCH_FOLDER, "program")
	: fileURLToPath(new URL("../..", import.meta.url));

export const load = (module) => import(join(root, "dist/src", module));

export const { fstat, Stat, statAt } = await load("linux/stat.js");
export const { close, O, openPath } = await load("linux/open.js");
export const { handleAt, handleOf, openByHandle } = await load("linux/file-handle.js");
export const { getXattr, setXattr } = await load("linux/xattr.js");
export const { makeNode, readLink } = await load("linux/names.js");
