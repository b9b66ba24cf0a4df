import { closeSync, openSync, readdirSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";

/** What programs do on a mounted peer, each file of a folder once. Returns what nfsload prints. */

const block = Buffer.alloc(4096);

export const onMount = {
	overwrite: (folder, bytes) =>
		each(folder, (path) => {
			const file = openSync(path, "r+");
			writeSync(file, block, 0, bytes, 0);
			closeSync(file);
		}),
	remove: (folder) => each(folder, unlinkSync),
};

function each(folder, act) {
	const paths = readdirSync(folder).map((name) => join(folder, name));
	const begun = performance.now();
	for (const path of paths) act(path);
	const seconds = (performance.now() - begun) / 1000;
	return { seconds, ops: paths.length, ops_per_s: paths.length / seconds };
}
