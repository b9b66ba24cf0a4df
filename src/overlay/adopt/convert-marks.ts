// Converts what fuse-overlayfs, AUFS and overlays with attributes of the other kind leave in an upper into marks of this export's own.

import { hiddenByFile, isWhiteoutFile, OPAQUE_FILE, OPAQUE_NAMES } from "../../layer/hiding.ts";
import { isOverride, OVERRIDE_XATTR, OVERRIDE_XATTRS, REAL_RIGHTS, showOverride } from "../../layer/rights.ts";
import { walkTree } from "../../layer/walk-tree.ts";
import { changeTimes } from "../../linux/attributes.ts";
import { ENODATA, ERRNO } from "../../linux/errno.ts";
import { makeNode, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { removeXattr, setXattr } from "../../linux/xattr.ts";
import { FileType } from "../../vfs/operations.ts";
import { isFound, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import type { Writable } from "../journal/writable.ts";
import { moveToLostAndFound } from "../work/lost-and-found.ts";
import { giveOwnerAccess } from "./give-ids.ts";

const Y = Buffer.from("y");
const ORIGIN_OF_FUSE = "user.fuseoverlayfs.origin";
const SLASH = 0x2f;

const UNREAD = "Cannot read the marks of an object of upper";

/**
 * Makes of an upper that another overlay has written one in the form of this export: whiteouts, opaque directories, and owners and modes that stand
 * in xattrs. Everything here can be repeated; nothing that may be data is removed. The number of marks that were converted.
 */
export function convertMarks(writable: Writable, hasFiles: boolean, progress: (directories: number) => void): number {
	const converter = new Converter(writable, hasFiles);
	converter.run(progress);
	return converter.count;
}

class Converter {
	count = 0;
	readonly #writable: Writable;
	readonly #hasFiles: boolean;
	/** Where owner and mode stand that are not this export's own way; null: nowhere. */
	readonly #override: string | null;
	readonly #stat = new Stat();

	constructor(writable: Writable, hasFiles: boolean) {
		const { layer } = writable;
		this.#writable = writable;
		this.#hasFiles = hasFiles;
		const override = OVERRIDE_XATTRS.find((name) => xattrOrNone(layer.root, name, UNREAD) !== null) ?? null;
		this.#override = override === OVERRIDE_XATTR && layer.rights.isKept ? null : override;
	}

	run(progress: (directories: number) => void): void {
		const { layer } = this.#writable;
		this.#convertDirectory(layer.root);
		const visit = (directory: { readonly fd: number }, name: Buffer): true | null => this.#visit(directory.fd, name);
		walkTree(layer, true, visit, progress);
		// it says that the others carry one, so it goes last
		if (this.#override !== null) this.#takeRights(layer.root);
	}

	#visit(directory: number, name: Buffer): true | null {
		const fd = openAt(directory, name, O.path | O.nofollow);
		// taken away together with what it stood for
		if (fd === -ERRNO.ENOENT) return null;
		must(fd, "Cannot open an object of upper");
		try {
			must(fstat(fd, this.#stat), "Cannot read an object of upper");
			const { type } = this.#stat;
			if (!this.#stat.sameDevice(this.#writable.layer.rootStat)) return null;
			if (this.#hasFiles && isWhiteoutFile(name, type)) {
				this.#convertFile(directory, name, type);
				return null;
			}
			if (type === FileType.dir) {
				// what it denies its owner stands in an xattr from now on
				if ((this.#stat.mode & 0o700) !== 0o700) giveOwnerAccess(this.#writable, fd, this.#stat);
				this.#convertDirectory(fd);
			} else if (type === FileType.reg) this.#convertXattrWhiteout(directory, fd);
			if (this.#override !== null && (type === FileType.dir || type === FileType.reg)) this.#takeRights(fd, { directory, name });
			this.#dropOrigin(fd);
			return type === FileType.dir ? true : null;
		} finally {
			close(fd);
		}
	}

	/** `.wh.NAME` becomes a whiteout of NAME, or goes where the directory has that itself; of a directory it hid what is below. */
	#convertFile(directory: number, name: Buffer, type: number): void {
		const target = name.toString("latin1") === OPAQUE_FILE ? null : hiddenByFile(name);
		keepingTimes(directory, () => {
			if (name.toString("latin1") === OPAQUE_FILE) this.#makeOpaque(directory);
			if (target !== null && !isDots(target)) this.#hide(directory, target);
			if (type === FileType.dir) {
				const { own } = this.#writable.work;
				moveToLostAndFound(own, directory, name, name.toString("latin1"), "Cannot move a folder of AUFS away");
			} else must(unlinkName(directory, name), "Cannot remove a whiteout file");
		});
		this.count++;
	}

	#hide(directory: number, target: Uint8Array): void {
		const { work, layer } = this.#writable;
		const found = new Stat();
		if (!isFound(statAt(directory, target, found), "Cannot read a directory of upper")) {
			if (work.whiteoutXattr !== null && !this.#isOpaque(directory)) {
				must(setXattr(directory, layer.xattr.opaque, Buffer.from("x")), "Cannot say that a directory has whiteouts");
			}
			work.placeWhiteout(directory, target);
		} else if (found.type === FileType.dir) {
			const fd = must(openAt(directory, target, O.path | O.nofollow), "Cannot open a directory of upper");
			this.#makeOpaque(fd);
			close(fd);
		}
	}

	/** Says in this export's own way what a directory says in another one. */
	#convertDirectory(fd: number): void {
		const { xattr } = this.#writable.layer;
		for (const { opaque } of OPAQUE_NAMES) {
			const value = opaque === xattr.opaque ? null : xattrOrNone(fd, opaque, UNREAD);
			if (value === null) continue;
			const letter = value.toString("latin1");
			// no overlay says so: it is a client's own
			if (letter !== "y" && letter !== "x") continue;
			if (letter === "y") this.#makeOpaque(fd);
			else if (!this.#isOpaque(fd)) must(setXattr(fd, xattr.opaque, value), "Cannot say that a directory has whiteouts");
			// of "x" the whiteouts follow, which are known by it
			if (letter === "y") this.#drop(fd, opaque);
			this.count++;
		}
	}

	#isOpaque(fd: number): boolean {
		return xattrOrNone(fd, this.#writable.layer.xattr.opaque, UNREAD)?.equals(Y) ?? false;
	}

	#makeOpaque(fd: number): void {
		if (!this.#isOpaque(fd)) must(setXattr(fd, this.#writable.layer.xattr.opaque, Y), "Cannot make a directory opaque");
	}

	#convertXattrWhiteout(directory: number, fd: number): void {
		const { xattr } = this.#writable.layer;
		if (this.#stat.size !== 0) return;
		for (const { opaque, whiteout } of OPAQUE_NAMES) {
			if (whiteout === null || opaque === xattr.opaque || xattrOrNone(fd, whiteout, UNREAD) === null) continue;
			if (xattrOrNone(directory, opaque, UNREAD)?.toString("latin1") !== "x") continue;
			must(setXattr(fd, xattr.whiteout, Y), "Cannot mark a whiteout");
			this.count++;
		}
	}

	/** Owner, mode and type as the xattr has them, in this export's own way. */
	#takeRights(fd: number, place: { readonly directory: number; readonly name: Buffer } | null = null): void {
		const xattr = this.#override as string;
		const value = xattrOrNone(fd, xattr, UNREAD);
		if (value === null || !isOverride(value)) return;
		const { rights } = this.#writable.layer;
		if (rights.isKept) {
			must(setXattr(fd, OVERRIDE_XATTR, value), "Cannot keep owner and mode of an object of upper");
		} else {
			const shown = new Stat();
			must(fstat(fd, shown), "Cannot read an object of upper");
			const { type } = shown;
			showOverride(shown, value);
			if (shown.type !== type && place !== null) {
				this.#makeSpecial(place.directory, place.name, shown);
				this.count++;
				return;
			}
			const { uid, gid } = shown;
			must(REAL_RIGHTS.change(fd, shown.type, { uid, gid, mode: shown.mode & 0o7777 }), "Cannot give an object of upper its owner");
		}
		this.#drop(fd, xattr);
		this.count++;
	}

	/** An empty file that stood for a device, fifo or socket becomes one. */
	#makeSpecial(directory: number, name: Buffer, shown: Stat): void {
		const { temporaries } = this.#writable.work;
		const temporary = this.#writable.work.temporaryName();
		must(makeNode(temporaries, temporary, shown.mode, shown.rdevMajor, shown.rdevMinor), "Cannot make a device");
		const fd = must(openAt(temporaries, temporary, O.path | O.nofollow), "Cannot open a device");
		try {
			const { uid, gid } = shown;
			must(REAL_RIGHTS.change(fd, shown.type, { uid, gid, mode: shown.mode & 0o7777 }), "Cannot give a device its owner");
			setTimes(fd, shown);
		} finally {
			close(fd);
		}
		keepingTimes(directory, () => must(renameName(temporaries, temporary, directory, name), "Cannot put a device in its place"));
	}

	/** That of fuse-overlayfs is a path in its lowers. */
	#dropOrigin(fd: number): void {
		const value = xattrOrNone(fd, ORIGIN_OF_FUSE, UNREAD);
		if (value !== null && value.length > 0 && value[0] !== SLASH && !value.includes(0)) this.#drop(fd, ORIGIN_OF_FUSE);
	}

	#drop(fd: number, xattr: string): void {
		const status = removeXattr(fd, xattr);
		// who may not remove it leaves it, and it means nothing any more
		if (status < 0 && status !== -ENODATA && status !== -ERRNO.EPERM && status !== -ERRNO.EOPNOTSUPP && status !== -ERRNO.EACCES) {
			must(status, `Cannot remove ${xattr}`);
		}
	}
}

/** Names in a directory are exchanged for their equals: clients shall not see that it has changed. */
function keepingTimes(directory: number, act: () => void): void {
	const stat = new Stat();
	must(fstat(directory, stat), "Cannot read a directory of upper");
	act();
	setTimes(directory, stat);
}

function setTimes(fd: number, stat: Stat): void {
	const times = changeTimes(fd, { sec: stat.atimeSec, nsec: stat.atimeNsec }, { sec: stat.mtimeSec, nsec: stat.mtimeNsec });
	must(times, "Cannot set the times of an object of upper");
}

function isDots(name: Uint8Array): boolean {
	return name.every((byte) => byte === 0x2e) && name.length <= 2;
}
