// How owner, mode and type of an object are kept: on the inode itself, or in an xattr where the server is no superuser.

import { changeMode, changeOwner } from "../linux/attributes.ts";
import { ENODATA } from "../linux/errno.ts";
import { close, O, openAt } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";
import { CAPABILITY_XATTR, getXattr, getXattrAt, removeXattr, setXattr } from "../linux/xattr.ts";
import { isNoXattr, unlessOfMachine } from "../vfs/system-errors.ts";

/** What programs for containers keep in an xattr for who may not say it of the real file. */
export const OVERRIDE_XATTR = "user.containers.override_stat";
/** By which xattr a layer does so, as fuse-overlayfs looks for it: what the root of the layer carries holds for all of it. */
export const OVERRIDE_XATTRS = ["security.fuseoverlayfs.override_stat", "user.fuseoverlayfs.override_stat", OVERRIDE_XATTR] as const;

/** S_IFMT >> 12. */
const FIFO = 1;
const CHARACTER = 2;
const DIRECTORY = 4;
const BLOCK = 6;
const REGULAR = 8;
const SYMLINK = 10;
const SOCKET = 12;

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;

const UNCHANGED = 0xffffffff;

/** Owner and permission bits that are to be changed; what is absent stays. */
export interface RightsChange {
	readonly uid?: number | undefined;
	readonly gid?: number | undefined;
	readonly mode?: number | undefined;
}

/** How owner, mode and type of the objects of a layer are kept. */
export interface Rights {
	/** Some of it is kept beside the inode. */
	readonly isKept: boolean;
	/** An object can be given to another user or group. */
	readonly keepsOwners: boolean;
	/** What clients see of an inode whose attributes were just read. */
	show(fd: number, stat: Stat): void;
	showAt(directory: number, name: Uint8Array | string, stat: Stat): void;
	/** 0, or the negated error number. `type`: as S_IFMT >> 12, what clients see. */
	change(fd: number, type: number, change: RightsChange): number;
	/** The permission bits that a new real file or directory is made with. */
	realMode(type: number, mode: number): number;
	/** What a device, fifo or socket is made as: itself, or a regular file that says what it stands for. */
	realType(type: number): number;
	/** Has a regular file stand for a device, fifo or socket. */
	disguise(fd: number, type: number, major: number, minor: number): number;
}

/** For who may change everything: real owners, modes and types. */
export const REAL_RIGHTS: Rights = {
	isKept: false,
	keepsOwners: true,
	show() {},
	showAt() {},
	change(fd, type, { uid, gid, mode }) {
		if (uid !== undefined || gid !== undefined) {
			const status = changeOwner(fd, uid ?? UNCHANGED, gid ?? UNCHANGED);
			if (status < 0) return status;
		}
		return mode === undefined || type === SYMLINK ? 0 : changeMode(fd, mode);
	},
	realMode: (_type, mode) => mode,
	realType: (type) => type,
	disguise: () => 0,
};

/** Where owners of symlinks are kept, which can have no xattr of ours. */
export interface LinkOwners {
	get(fd: number): Buffer | null;
	/** 0, or the negated error number: then nothing is set. */
	set(fd: number, value: Buffer): number;
}

/**
 * For an ordinary user. Real files always give their owner, who is this process, access: else it could not set xattrs on what is read-only, or
 * read what has no permissions at all. What clients see stands in an xattr, `uid:gid:0mode`, and with `asRoot` the owner and the type too
 * (`:char-1-3`, `:block-8-0`, `:pipe`, `:socket`): this user is the superuser then, and every client who says so too.
 */
export class KeptRights implements Rights {
	readonly isKept = true;
	readonly asRoot: boolean;
	links: LinkOwners | null = null;
	readonly #uid: number;
	readonly #gid: number;
	readonly #xattrs: readonly string[];

	/** `xattrs`: where it stands in layers that are only read; the first that an object carries counts. */
	constructor(asRoot: boolean, uid: number, gid: number, xattrs: readonly string[] = [OVERRIDE_XATTR]) {
		this.asRoot = asRoot;
		this.#uid = uid;
		this.#gid = gid;
		this.#xattrs = xattrs;
	}

	get keepsOwners(): boolean {
		return this.asRoot;
	}

	show(fd: number, stat: Stat): void {
		const type = stat.type;
		if (type === REGULAR || type === DIRECTORY)
			this.#apply(
				stat,
				this.#first((xattr) => getXattr(fd, xattr)),
			);
		else this.#apply(stat, this.asRoot && type === SYMLINK ? (this.links?.get(fd) ?? -ENODATA) : -ENODATA);
	}

	showAt(directory: number, name: Uint8Array | string, stat: Stat): void {
		const type = stat.type;
		if (type === REGULAR || type === DIRECTORY) {
			this.#apply(
				stat,
				this.#first((xattr) => getXattrAt(directory, name, xattr)),
			);
			return;
		}
		const fd = type === SYMLINK && this.asRoot && this.links !== null ? openAt(directory, name, O.path | O.nofollow) : -1;
		if (fd < 0) {
			this.#apply(stat, -ENODATA);
			return;
		}
		this.show(fd, stat);
		close(fd);
	}

	#first(read: (xattr: string) => Buffer | number): Buffer | number {
		let value = read(this.#xattrs[0]);
		for (let i = 1; i < this.#xattrs.length && typeof value === "number"; i++) value = read(this.#xattrs[i]);
		return value;
	}

	change(fd: number, _type: number, { uid, gid, mode }: RightsChange): number {
		const real = new Stat();
		const status = fstat(fd, real);
		if (status < 0) return status;
		const shown = Object.assign(new Stat(), real);
		this.show(fd, shown);
		const isMoved = uid !== undefined || gid !== undefined;
		// as chown(2) does, of a symlink too; who may not remove one cannot have set it either
		if (isMoved && real.type !== DIRECTORY) removeXattr(fd, CAPABILITY_XATTR);
		if (real.type === SYMLINK) {
			return this.asRoot ? (this.links?.set(fd, Buffer.from(`${uid ?? shown.uid}:${gid ?? shown.gid}:0777`)) ?? 0) : 0;
		}
		const bits = mode === undefined && isMoved ? modeOfMoved(shown) : (mode ?? shown.mode) & 0o7777;
		const isOwned = real.type === REGULAR || real.type === DIRECTORY;
		if (!isOwned) return mode === undefined ? 0 : changeMode(fd, bits & 0o777);
		const owner = this.asRoot ? { uid: uid ?? shown.uid, gid: gid ?? shown.gid } : { uid: this.#uid, gid: this.#gid };
		// an xattr can be set only on what its owner may write to
		const open = (real.mode & 0o7777) | this.realMode(real.type, 0);
		if (open !== (real.mode & 0o7777)) {
			const opened = changeMode(fd, open);
			if (opened < 0) return opened;
		}
		const kept = this.#keep(fd, real, owner, bits, typeSuffix(shown, real));
		if (kept < 0) return kept;
		const access = this.realMode(real.type, bits);
		return open === access ? 0 : changeMode(fd, access);
	}

	realMode(type: number, mode: number): number {
		return (mode & 0o777) | (type === DIRECTORY ? 0o700 : 0o600);
	}

	realType(type: number): number {
		return this.asRoot && (type === FIFO || type === CHARACTER || type === BLOCK || type === SOCKET) ? REGULAR : type;
	}

	disguise(fd: number, type: number, major: number, minor: number): number {
		const shown = new Stat();
		fstat(fd, shown);
		this.show(fd, shown);
		shown.mode = (type << 12) | (shown.mode & 0o7777);
		shown.rdevMajor = major;
		shown.rdevMinor = minor;
		return this.#set(fd, shown, shown.mode & 0o7777, typeName(shown));
	}

	/** What the real file says itself needs no xattr. */
	#keep(fd: number, real: Stat, owner: { readonly uid: number; readonly gid: number }, bits: number, suffix: string): number {
		const saysOwner = this.asRoot ? owner.uid === 0 && owner.gid === 0 : true;
		const value = getXattr(fd, OVERRIDE_XATTR);
		if (typeof value === "number" && !isNoXattr(value, OVERRIDE_XATTR)) return value;
		const had = typeof value !== "number";
		if (saysOwner && suffix === "" && this.realMode(real.type, bits) === bits) {
			const removed = had ? removeXattr(fd, OVERRIDE_XATTR) : 0;
			return removed === -ENODATA ? 0 : removed;
		}
		return this.#set(fd, owner, bits, suffix);
	}

	#set(fd: number, { uid, gid }: { readonly uid: number; readonly gid: number }, bits: number, suffix: string): number {
		const value = `${uid}:${gid}:0${bits.toString(8)}${suffix === "" ? "" : `:${suffix}`}`;
		return setXattr(fd, OVERRIDE_XATTR, Buffer.from(value));
	}

	#apply(stat: Stat, value: Buffer | number): void {
		// to others it would look as the server's user owns it
		if (typeof value === "number") unlessOfMachine(value, "Cannot read the owner and mode of an object");
		const kept = typeof value === "number" ? null : KEPT.exec(value.toString("latin1"));
		if (kept !== null) {
			const { type } = stat;
			if (type !== SYMLINK) stat.mode = (type << 12) | (Number.parseInt(kept[3], 8) & 0o7777);
			if (!this.asRoot) return;
			stat.uid = Number(kept[1]) >>> 0;
			stat.gid = Number(kept[2]) >>> 0;
			if (type === REGULAR && stat.size === 0) showType(stat, kept[4] ?? "");
			return;
		}
		if (!this.asRoot) return;
		if (stat.uid === this.#uid) stat.uid = 0;
		if (stat.gid === this.#gid) stat.gid = 0;
	}
}

/** The permission bits behind a change of owner, as chown(2) leaves them. */
function modeOfMoved(stat: Stat): number {
	const bits = stat.mode & 0o7777;
	if (stat.type === DIRECTORY) return bits;
	return bits & ~((bits & S_IXGRP) !== 0 ? S_ISUID | S_ISGID : S_ISUID);
}

/** Has attributes that were just read show what such an xattr says; nothing where it is not understood. */
export function showOverride(stat: Stat, value: Buffer): void {
	const kept = KEPT.exec(value.toString("latin1"));
	if (kept === null) return;
	const { type } = stat;
	if (type !== SYMLINK) stat.mode = (type << 12) | (Number.parseInt(kept[3], 8) & 0o7777);
	stat.uid = Number(kept[1]) >>> 0;
	stat.gid = Number(kept[2]) >>> 0;
	if (type === REGULAR && stat.size === 0) showType(stat, kept[4] ?? "");
}

/** Whether a value is one that such an xattr has. */
export function isOverride(value: Buffer): boolean {
	return KEPT.test(value.toString("latin1"));
}

const KEPT = /^(\d{1,10}):(\d{1,10}):0?([0-7]{1,7})(?::(.*))?$/;
const DEVICE = /^(char|block)-(\d{1,10})-(\d{1,10})$/;

function showType(stat: Stat, name: string): void {
	const bits = stat.mode & 0o7777;
	if (name === "pipe") stat.mode = (FIFO << 12) | bits;
	else if (name === "socket") stat.mode = (SOCKET << 12) | bits;
	else {
		const device = DEVICE.exec(name);
		if (device === null) return;
		const [major, minor] = [Number(device[2]), Number(device[3])];
		// that would be a whiteout
		if (device[1] === "char" && major === 0 && minor === 0) return;
		stat.mode = ((device[1] === "char" ? CHARACTER : BLOCK) << 12) | bits;
		stat.rdevMajor = major;
		stat.rdevMinor = minor;
	}
}

function typeName(stat: Stat): string {
	if (stat.type === FIFO) return "pipe";
	if (stat.type === SOCKET) return "socket";
	return `${stat.type === CHARACTER ? "char" : "block"}-${stat.rdevMajor}-${stat.rdevMinor}`;
}

function typeSuffix(shown: Stat, real: Stat): string {
	return shown.type === real.type ? "" : typeName(shown);
}
