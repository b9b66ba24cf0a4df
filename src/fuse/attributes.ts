// Attributes on the wire: fuse_attr, fuse_attr_out, fuse_entry_out, and how long the kernel may believe them.

import type { Attributes, OverlayObject } from "../vfs/operations.ts";
import type { FuseMount } from "./mount.ts";
import { ATTRIBUTES_BYTES } from "./protocol.ts";
import type { FuseReply } from "./reply.ts";

/** What programs should read and write at a time (st_blksize). */
export const PREFERRED_BYTES = 4096;

/** In a millisecond. */
const NANOSECONDS = 1_000_000;

/** struct fuse_attr. */
function writeAttributes(reply: FuseReply, mount: FuseMount, attributes: Attributes): void {
	const { atime, mtime, ctime } = attributes;
	const { uid, gid, mode } = mount.shown(attributes);
	reply.u64(attributes.fileidHi, attributes.fileidLo);
	reply.u64(attributes.sizeHi, attributes.sizeLo);
	reply.number(attributes.blocks);
	reply.number(atime.sec);
	reply.number(mtime.sec);
	reply.number(ctime.sec);
	reply.u32(atime.nsec);
	reply.u32(mtime.nsec);
	reply.u32(ctime.nsec);
	reply.u32((attributes.type << 12) | mode);
	reply.u32(attributes.nlink);
	reply.u32(uid);
	reply.u32(gid);
	reply.u32(deviceNumber(attributes.rdevMajor, attributes.rdevMinor));
	reply.u32(PREFERRED_BYTES);
	reply.u32(0);
}

/** As the kernel's new_encode_dev. */
function deviceNumber(major: number, minor: number): number {
	return (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
}

/** The other way round. */
export function devicePair(device: number): readonly [major: number, minor: number] {
	return [(device >>> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)];
}

/** attr_valid and attr_valid_nsec, of the structures that begin with them. */
export function writeAttributesValid(reply: FuseReply, { validity: { attributeMilliseconds } }: FuseMount): void {
	reply.number(Math.floor(attributeMilliseconds / 1000));
	reply.u32((attributeMilliseconds % 1000) * NANOSECONDS);
}

/** struct fuse_attr_out. */
export function writeAttributesOut(reply: FuseReply, mount: FuseMount, object: OverlayObject): void {
	const attributes = mount.overlay.getattr(object, false);
	writeAttributesValid(reply, mount);
	reply.u32(0);
	writeAttributes(reply, mount, attributes);
}

/** struct fuse_entry_out of an object, which counts as a look-up of it. Its attributes. */
export function writeEntry(reply: FuseReply, mount: FuseMount, object: OverlayObject): Attributes {
	// what may fail or wait comes before what is counted
	const attributes = mount.overlay.getattr(object, false);
	writeEntryHead(reply, mount, mount.lookUp(object));
	writeAttributes(reply, mount, attributes);
	return attributes;
}

/** struct fuse_entry_out of node id 0: there is no such name, which the kernel may go on believing as long; in a listing it says nothing. */
export function writeNoEntry(reply: FuseReply, mount: FuseMount): void {
	writeEntryHead(reply, mount, 0);
	reply.zeros(ATTRIBUTES_BYTES);
}

/** The part of struct fuse_entry_out that is no attribute. */
function writeEntryHead(reply: FuseReply, mount: FuseMount, id: number): void {
	reply.u64(0, id);
	// generation: no id comes back to another object while the kernel knows it
	reply.u64(0, 0);
	const { nameMilliseconds, attributeMilliseconds } = mount.validity;
	reply.number(Math.floor(nameMilliseconds / 1000));
	reply.number(Math.floor(attributeMilliseconds / 1000));
	reply.u32((nameMilliseconds % 1000) * NANOSECONDS);
	reply.u32((attributeMilliseconds % 1000) * NANOSECONDS);
}
