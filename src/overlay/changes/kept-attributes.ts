// Owner, mode, times and extended attributes of an object as clients see them, and how they are given to a real one.

import { OVERRIDE_XATTRS } from "../../layer/rights.ts";
import { changeMode, changeOwner, changeTimes } from "../../linux/attributes.ts";
import { ENODATA, ERRNO, whyNot } from "../../linux/errno.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { getXattr, listXattrs, removeXattr, setXattr } from "../../linux/xattr.ts";
import { FileType, SUPERUSER, type Timespec } from "../../vfs/operations.ts";
import type { Engine } from "../engine/engine.ts";
import { statOf } from "../lookup/stat.ts";
import type { Node } from "../nodes/node.ts";
import { getExtendedAttribute, listExtendedAttributes } from "../operations/extended-attributes.ts";

/** Set-user-ID and set-group-ID: for an owner who cannot be had they would be somebody else's. */
const SET_IDS = 0o6000;

export interface Times {
	readonly atime: Timespec;
	readonly mtime: Timespec;
}

/** As JSON can hold it: names and values of xattrs in base64. */
export interface KeptAttributes extends Times {
	readonly uid: number;
	readonly gid: number;
	readonly mode: number;
	readonly xattrs: readonly (readonly [name: string, value: string])[];
}

/** Of an object of the overlay. OverlayError. */
export function attributesOf(engine: Engine, node: Node): KeptAttributes {
	const stat = statOf(engine, node);
	const xattrs = listExtendedAttributes(engine, node, SUPERUSER).map((name) => {
		const value = getExtendedAttribute(engine, node, SUPERUSER, name);
		return [name.toString("base64"), value.toString("base64")] as const;
	});
	return { uid: stat.uid, gid: stat.gid, mode: stat.mode & 0o7777, xattrs, ...timesOf(stat) };
}

export function timesOf(stat: Stat): Times {
	return {
		atime: { sec: stat.atimeSec, nsec: stat.atimeNsec },
		mtime: { sec: stat.mtimeSec, nsec: stat.mtimeNsec },
	};
}

const found = new Stat();

/**
 * Gives them to the object behind a descriptor (O_PATH will do), xattrs that it has beside them taken away. What the target cannot keep is told to
 * `lose`: owners that this user may not give, xattrs that its file system does not have. 0, or the negated error number.
 */
export function giveAttributes(fd: number, kept: KeptAttributes, lose: (what: string) => void): number {
	const status = fstat(fd, found);
	if (status < 0) return status;
	const type = found.type;
	let { mode } = kept;
	if (found.uid !== kept.uid || found.gid !== kept.gid) {
		const given = changeOwner(fd, kept.uid, kept.gid);
		if (given < 0 && given !== -ERRNO.EPERM && given !== -ERRNO.EINVAL) return given;
		if (given < 0) {
			lose(`owner ${kept.uid}:${kept.gid}`);
			mode &= ~SET_IDS;
		}
	}
	if (type !== FileType.lnk) {
		const changed = changeMode(fd, mode);
		if (changed < 0) return changed;
	}
	const error = giveXattrs(fd, kept, lose);
	return error < 0 ? error : changeTimes(fd, kept.atime, kept.mtime);
}

/** The kernel gives this one by itself, and says who may change it. */
const LABEL = "security.selinux";
/** What a target has as a layer is not the clients'. */
const OF_LAYERS = ["trusted.overlay.", "user.overlay.", ...OVERRIDE_XATTRS];
const NOT_KEPT: ReadonlySet<number> = new Set([ERRNO.EOPNOTSUPP, ERRNO.EPERM, ERRNO.EACCES]);

function giveXattrs(fd: number, { xattrs }: KeptAttributes, lose: (what: string) => void): number {
	const wanted = new Map(xattrs.map(([name, value]) => [Buffer.from(name, "base64").toString("latin1"), Buffer.from(value, "base64")]));
	const had = listXattrs(fd);
	for (const name of typeof had === "number" ? [] : had) {
		const text = name.toString("latin1");
		if (wanted.has(text) || text === LABEL || OF_LAYERS.some((own) => text.startsWith(own))) continue;
		const status = removeXattr(fd, name);
		if (status < 0 && status !== -ENODATA && !NOT_KEPT.has(-status)) return status;
	}
	for (const [text, value] of wanted) {
		const name = Buffer.from(text, "latin1");
		const now = getXattr(fd, name);
		if (typeof now !== "number" && now.equals(value)) continue;
		const status = setXattr(fd, name, value);
		if (status < 0 && !NOT_KEPT.has(-status)) return status;
		if (status < 0 && text !== LABEL) lose(`xattr ${text} (${whyNot(status)})`);
	}
	return 0;
}
