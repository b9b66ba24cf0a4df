import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { mountload } from "./client.mjs";
import { makeDisk } from "./disks.mjs";
import { must, runFolder } from "./host.mjs";
import { newLayers, start } from "./servers.mjs";
import { fill, largeFile } from "./trees.mjs";

/**
 * Mounts on this machine: `holdfast mount` beside fuse-overlayfs and the kernel's overlayfs, by system calls of one program, one after the other.
 * Layers lie in memory, unless the name says ext4. Each measurement has a mount of its own, of which the code is warm and nothing of the
 * folder that is measured has been asked for.
 */

export const mountNames = { "holdfast-mount": "holdfast", kernel: "kernel overlayfs", "fuse-overlayfs": "fuse-overlayfs" };

const SMALL_BYTES = 4096;
const LARGE_MEGABYTES = 64;
const LISTED = 10_000;
/** Folders as the one that is measured, on which the same was done before. */
const WARM = Array.from({ length: 4 }, (_, i) => `warm-${i}`);

export function mountCases({ quick, seconds }) {
	const files = quick ? 1000 : 2000;
	const small = (folder) => fill(folder, files, SMALL_BYTES);
	const large = (folder) => largeFile(folder, "large", LARGE_MEGABYTES);
	const listed = (folder) => fill(folder, LISTED);
	const empty = (folder) => mkdirSync(folder, { recursive: true });
	const entry = (name, op, unit, fill, more) => ({
		name: `fuse/${name}`,
		stage: "mounts",
		servers: Object.keys(mountNames),
		unit,
		fill,
		load: ["--op", op, "--count", op === "write" ? LARGE_MEGABYTES : files, "--seconds", seconds],
		target: { mount: 1 },
		isWhole: true,
		...more,
	});
	return [
		entry("getattr", "getattr", "calls/s", small, { target: { mount: 2 } }),
		entry("open-read-close-4k", "open-read", "calls/s", small, { target: { mount: 2 } }),
		entry("read-1m", "read", "MB/s", large),
		entry("write-1m", "write", "MB/s", empty),
		entry("create", "create", "calls/s", empty),
		entry("rename", "rename", "calls/s", empty),
		entry("unlink/lower", "unlink", "calls/s", small, { target: { mount: 2 } }),
		entry("rename/copy-up", "rename-each", "calls/s", small),
		entry("chmod/copy-up", "chmod", "calls/s", small),
		entry("chmod/copy-up/ext4", "chmod", "calls/s", small, { fs: "ext4" }),
		entry("list-10k", "list", "entries/s", listed),
		entry("list-10k-stat", "list-stat", "entries/s", listed),
	];
}

export function mountsStage() {
	return { measure, close: async () => {} };
}

async function measure(entry, kind) {
	const disk = entry.fs === undefined ? memory() : makeDisk(entry.fs);
	try {
		for (const folder of [...WARM, "work"]) entry.fill(join(disk.path, "lower", folder));
		const server = await start[kind](newLayers(disk.path, kind, [join(disk.path, "lower")]));
		try {
			const load = async (folder) => {
				const result = await mountload(server, [...entry.load, "--path", join(server.root, folder)]);
				if (result.failure !== undefined) throw new Error(result.failure);
				return result;
			};
			for (const folder of WARM) await load(folder);
			return { ...(await load("work")), memory: server.memory?.() };
		} finally {
			await server.stop();
		}
	} finally {
		disk.remove();
	}
}

function memory() {
	const path = join(runFolder(), "memory");
	mkdirSync(path, { recursive: true });
	must("mount", "-t", "tmpfs", "holdfast-bench", path);
	return {
		path,
		remove() {
			must("umount", path);
			rmSync(path, { recursive: true });
		},
	};
}
