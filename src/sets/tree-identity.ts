// What a tree is known by: its real path, and an identity of its root that tells it from another tree at the same path.

import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { openDirectory } from "../layer/layer.ts";
import { realPathOf } from "../linux/covered-directories.ts";
import { namesOf } from "../linux/directory.ts";
import { handleOf } from "../linux/file-handle.ts";
import { FILE_SYSTEM_NAMES, fileSystemFigures, fileSystemUuid } from "../linux/file-system.ts";
import { close, O, openAt } from "../linux/open.ts";

/** The root of a tree, as it was seen at some time. What could not be found out is null; nothing here needs a privilege. */
export interface TreeIdentity {
	/** Without symbolic links. */
	readonly path: string;
	/** Of the file system, in hex. */
	readonly uuid: string | null;
	/** `major:minor`. It may be another one after a boot, so it only tells two trees apart that are there at once. */
	readonly device: string;
	readonly inode: string;
	/** The kernel's handle, with the generation of the inode: type and bytes in hex. */
	readonly handle: string | null;
	/** Birth time in nanoseconds. */
	readonly birth: string | null;
	/** Hash of the names in the root; null where there are none. It says which tree this may be a copy of. */
	readonly names: string | null;
}

/** LayerError: there is no such directory, or it cannot be opened. */
export function identityOf(path: string): TreeIdentity {
	const fd = openDirectory(path, "lower");
	try {
		const { dev, ino, birthtimeNs } = statSync(`/proc/self/fd/${fd}`, { bigint: true });
		const figures = fileSystemFigures(fd);
		const uuid = fileSystemUuid(fd, typeof figures === "number" ? "" : (FILE_SYSTEM_NAMES.get(figures.magic) ?? ""));
		const handle = handleOf(fd);
		return {
			path: realPathOf(path),
			uuid: typeof uuid === "number" || uuid.every((byte) => byte === 0) ? null : uuid.toString("hex"),
			device: deviceOf(dev),
			inode: `${BigInt.asUintN(64, ino)}`,
			handle: typeof handle === "number" ? null : `${handle.type}:${handle.bytes.toString("hex")}`,
			birth: birthtimeNs === 0n ? null : `${birthtimeNs}`,
			names: hashOfNames(fd),
		};
	} finally {
		close(fd);
	}
}

/** Null: nothing is there, or nothing that this process may open. */
export function identityIfThere(path: string): TreeIdentity | null {
	try {
		return identityOf(path);
	} catch {
		return null;
	}
}

/** Whether two looks saw one directory, be it at another path, through another mount or after a boot. */
export function isSameTree(one: TreeIdentity, other: TreeIdentity): boolean {
	if (one.inode !== other.inode || (one.uuid !== null && other.uuid !== null && one.uuid !== other.uuid)) return false;
	if (one.handle !== null && other.handle !== null) return one.handle === other.handle;
	return one.birth === null || other.birth === null || one.birth === other.birth;
}

/** makedev(3) of glibc, undone. */
function deviceOf(dev: bigint): string {
	const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
	const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
	return `${major}:${minor}`;
}

/** Leaves no access time, which only the owner of the directory and root can see to: for others null. */
function hashOfNames(root: number): string | null {
	const fd = openAt(root, ".", O.rdonly | O.directory | O.noatime);
	if (fd < 0) return null;
	const names = namesOf(fd);
	close(fd);
	if (typeof names === "number" || names.length === 0) return null;
	const hash = createHash("sha256");
	for (const name of names.map((bytes) => bytes.toString("latin1")).sort()) hash.update(Buffer.from(`${name}/`, "latin1"));
	return hash.digest("hex").slice(0, 32);
}

/**
 * The names of folders in which earlier versions kept the changes to a tree: by the uuid of its file system and the handle of its root, where the
 * process could use kernel handles and where it could not.
 */
export function formerNames({ uuid, device, inode, handle }: TreeIdentity): string[] {
	const [major, minor] = device.split(":");
	const number = BigInt(inode);
	const kernel = createHash("sha256")
		.update(uuid === null ? Buffer.alloc(16) : Buffer.from(uuid, "hex"))
		.update(handle ?? "")
		.update("\n");
	const portable = createHash("sha256").update("portable\n");
	portable.update(uuid === null ? `${major}:${minor}\n` : Buffer.from(uuid, "hex"));
	portable.update(handle ?? `${number >> 32n}:${number & 0xffffffffn}\n`);
	return [...(handle === null ? [] : [kernel]), portable].map((hash) => hash.digest("hex").slice(0, 24));
}
