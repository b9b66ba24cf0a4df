import { readFileSync } from "node:fs";
import { changeMode, changeOwner, changeTimes } from "../../src/linux/attributes.ts";
import { truncateFile, writeFrom } from "../../src/linux/data.ts";
import { errnoName } from "../../src/linux/errno.ts";
import { declare, result } from "../../src/linux/libc.ts";
import {
	linkDescriptor,
	makeDirectory,
	makeNode,
	makeSymlink,
	RENAME,
	removeDirectory,
	renameName,
	unlinkName,
} from "../../src/linux/names.ts";
import { close, descriptorPath, O, openAt, openPath } from "../../src/linux/open.ts";
import { fstat, Stat } from "../../src/linux/stat.ts";
import { removeXattr } from "../../src/linux/xattr.ts";
import { FileType } from "../../src/vfs/operations.ts";
import { namesIn, observeDescriptor, observeTree, type Tree } from "./observed.ts";
import { openWalk } from "./plant.ts";
import type { LayerPaths } from "./rig.ts";
import { type Change, isOn, type Operation, type Path, XATTR_VALUES } from "./scenario.ts";

type Text = (...parameters: (string | number)[]) => number;
const mountCall = declare("mount", "int", ["str", "str", "str", "ulong", "str"]) as unknown as Text;
const umountCall = declare("umount2", "int", ["str", "int"]) as unknown as Text;
const UMOUNT_NOFOLLOW = 8;
const MS_NOATIME = 1024;

const setxattrCall = declare("setxattr", "int", ["str", "str", "void *", "size_t", "int"]) as unknown as (
	path: string,
	name: string,
	value: Uint8Array,
	size: number,
	flags: number,
) => number;
const SETXATTR_FLAGS = { any: 0, create: 1, replace: 2 } as const;

/** The kernel's overlayfs on a set of layers: the oracle. */
export class KernelOverlay {
	readonly #paths: LayerPaths;
	readonly #options: readonly string[];
	#isMounted = false;
	/** Names that a listing had and a look-up had not. */
	readonly ghosts = new Set<string>();

	constructor(paths: LayerPaths, options: readonly string[]) {
		this.#paths = paths;
		this.#options = options;
	}

	mount(): void {
		const { lowers, upper, work, mountPoint } = this.#paths;
		const data = [...this.#options, `lowerdir=${lowers.join(":")}`, `upperdir=${upper}`, `workdir=${work}`].join(",");
		const status = result(mountCall("overlay", mountPoint, "overlay", MS_NOATIME, data));
		this.#isMounted = status >= 0;
		if (status < 0) throw new Error(`the kernel refuses to mount: ${errnoName(status)}`);
		const options = readFileSync("/proc/self/mounts", "utf8")
			.split("\n")
			.find((line) => line.split(" ")[1] === mountPoint)
			?.split(" ")[3]
			.split(",");
		// what is off by default is not shown, and xino not where all layers are on one file system
		const wanted = this.#options.filter((option) => !option.endsWith("=off") && !option.startsWith("xino="));
		const lacking = ["rw", ...wanted].filter((option) => !options?.includes(option));
		if (lacking.length > 0) {
			this.unmount();
			throw new Error(`the kernel mounts without ${lacking.join(", ")}`);
		}
	}

	/** Nothing, if it is not mounted. */
	unmount(): void {
		if (!this.#isMounted) return;
		this.#isMounted = false;
		const status = result(umountCall(this.#paths.mountPoint, UMOUNT_NOFOLLOW));
		if (status < 0) throw new Error(`umount: ${errnoName(status)}`);
	}

	observe(): Tree {
		return this.#at([], (root) => observeTree(root, (path) => this.ghosts.add(path))) as Tree;
	}

	/** "ok", with what was read, or the name of the error. */
	perform(operation: Operation): string {
		if (!isOn(operation)) {
			this.unmount();
			this.mount();
			return "ok";
		}
		const outcome = this.#perform(operation);
		if (typeof outcome === "string") return outcome;
		return outcome < 0 ? nameOf(outcome) : "ok";
	}

	#perform(operation: Change): number | string {
		switch (operation.kind) {
			case "create":
				return this.#in(operation.path, (fd, name) => opened(openAt(fd, name, O.creat | O.excl | O.wronly, operation.mode)));
			case "overwrite":
				return this.#in(operation.path, (fd, name) => overwrite(fd, name, operation.mode));
			case "write":
				return this.#data(operation.path, (fd) => writeFrom(fd, Buffer.alloc(operation.length, operation.byte), operation.offset));
			case "truncate":
				return this.#data(operation.path, (fd) => truncateFile(fd, operation.size));
			case "link":
				return this.#at(operation.path, (source) => this.#in(operation.to, (fd, name) => linkDescriptor(source, fd, name)));
			case "symlink":
				return this.#in(operation.path, (fd, name) => makeSymlink(operation.target, fd, name));
			case "fifo":
				return this.#in(operation.path, (fd, name) => makeNode(fd, name, (FileType.fifo << 12) | operation.mode, 0, 0));
			case "device": {
				const { type, major, minor } = operation.device;
				return this.#in(operation.path, (fd, name) => makeNode(fd, name, (FileType[type] << 12) | operation.mode, major, minor));
			}
			case "mkdir":
				return this.#in(operation.path, (fd, name) => makeDirectory(fd, name, operation.mode));
			case "rename":
			case "exchange": {
				const flags = operation.kind === "exchange" ? RENAME.exchange : 0;
				// both walks come first, as a client's would
				return this.#at(operation.path.slice(0, -1), (from) =>
					this.#at(operation.to.slice(0, -1), (to) => renameName(from, lastOf(operation.path), to, lastOf(operation.to), flags)),
				);
			}
			case "unlink":
				return this.#in(operation.path, (fd, name) => unlinkName(fd, name));
			case "rmdir":
				return this.#in(operation.path, (fd, name) => removeDirectory(fd, name));
			case "chmod":
				// a symlink has no mode of its own
				return this.#at(operation.path, (fd) => (typeOf(fd) === FileType.lnk ? 0 : changeMode(fd, operation.mode)));
			case "chown":
				return this.#at(operation.path, (fd) => changeOwner(fd, operation.uid, operation.gid));
			case "utimes":
				return this.#at(operation.path, (fd) =>
					changeTimes(fd, { sec: operation.seconds + 7, nsec: 0 }, { sec: operation.seconds, nsec: 7 }),
				);
			case "setxattr": {
				const { name, mode } = operation;
				const value = XATTR_VALUES[operation.value];
				return this.#at(operation.path, (fd) => result(setxattrCall(descriptorPath(fd), name, value, value.length, SETXATTR_FLAGS[mode])));
			}
			case "removexattr":
				return this.#at(operation.path, (fd) => removeXattr(fd, operation.name));
			case "read":
				return this.#at(operation.path, (fd) => notRegular(fd) ?? `ok ${observeDescriptor(fd).content}`);
			case "readdir":
				return this.#at(operation.path, (fd) => (typeOf(fd) === FileType.dir ? `ok ${this.#visible(fd).join(" ")}` : "ENOTDIR"));
		}
	}

	#visible(fd: number): string[] {
		return namesIn(fd).filter((name) => {
			const child = openAt(fd, Buffer.from(name, "latin1"), O.path | O.nofollow);
			if (child >= 0) close(child);
			return child >= 0;
		});
	}

	#data(path: Path, action: (fd: number) => number): number | string {
		return this.#at(path, (object) => {
			const error = notRegular(object);
			if (error !== null) return error;
			const fd = openPath(`/proc/self/fd/${object}`, O.wronly);
			if (fd < 0) return fd;
			const status = action(fd);
			close(fd);
			return status;
		});
	}

	/** Runs with the descriptor of a path, or answers the error of the walk. */
	#at<T>(path: Path, action: (fd: number) => T): T | number {
		const root = openPath(this.#paths.mountPoint, O.path);
		const fd = openWalk(root, path);
		close(root);
		if (fd < 0) return fd;
		try {
			return action(fd);
		} finally {
			close(fd);
		}
	}

	#in(path: Path, action: (directory: number, name: Buffer) => number | string): number | string {
		return this.#at(path.slice(0, -1), (fd) => (typeOf(fd) === FileType.dir ? action(fd, lastOf(path)) : "ENOTDIR"));
	}
}

function nameOf(error: number): string {
	const name = errnoName(error);
	return name === "ENOTSUP" ? "EOPNOTSUPP" : name;
}

function lastOf(path: Path): Buffer {
	return Buffer.from(path[path.length - 1], "latin1");
}

function typeOf(fd: number): number {
	const stat = new Stat();
	fstat(fd, stat);
	return stat.type;
}

/** As RFC 1813 has it for READ, WRITE and a new size. */
function notRegular(fd: number): string | null {
	const type = typeOf(fd);
	return type === FileType.reg ? null : type === FileType.dir ? "EISDIR" : "EINVAL";
}

function opened(fd: number): number {
	if (fd >= 0) close(fd);
	return fd;
}

function overwrite(directory: number, name: Buffer, mode: number): number | string {
	const existing = openAt(directory, name, O.path | O.nofollow);
	if (existing >= 0) {
		const type = typeOf(existing);
		close(existing);
		if (type === FileType.dir) return "EISDIR";
		if (type !== FileType.reg) return "EEXIST";
	}
	return opened(openAt(directory, name, O.creat | O.trunc | O.wronly, mode));
}
