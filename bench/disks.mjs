import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { must, runFolder } from "./host.mjs";

/** File systems in sparse images, each mounted at a folder of its own. */

const mkfs = {
	ext4: (inodes) => ["mkfs.ext4", "-q", "-F", "-N", String(inodes)],
	xfs: () => ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
	btrfs: () => ["mkfs.btrfs", "-q", "-f"],
};
const options = {
	// Laying out tables in the background would disturb what is measured.
	ext4: "loop,noatime,noinit_itable",
	xfs: "loop,noatime",
	btrfs: "loop,noatime",
};
let made = 0;

/** A new, empty file system. `inodes` is what ext4 has room for. */
export function makeDisk(kind, { megabytes = 2048, inodes = 200_000 } = {}) {
	const name = `disk-${++made}`;
	const image = join(runFolder(), `${name}.img`);
	const at = join(runFolder(), name);
	writeFileSync(image, "");
	truncateSync(image, megabytes * 2 ** 20);
	must(...mkfs[kind](inodes), image);
	mkdirSync(at);
	must("mount", "-o", options[kind], image, at);
	return {
		path: at,
		remove() {
			// Busy for a moment after a server was killed: then it goes by itself.
			if (spawnSync("umount", [at], { stdio: "ignore" }).status !== 0) must("umount", "--lazy", at);
			rmSync(image);
		},
	};
}

/** Those of the kernel, for the whole machine. */
export function dropCaches() {
	must("sync");
	writeFileSync("/proc/sys/vm/drop_caches", "3");
}
