// CREATE: makes anything but a regular file, and the new object becomes the current one.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import { OverlayError } from "../vfs/errors.ts";
import { FileType, type OverlayObject, type SetAttributes } from "../vfs/operations.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { readWanted, settled, typeOfKind } from "./attributes.ts";
import { writeBitmap } from "./bitmap.ts";
import { CHANGE_INFO_BYTES, changeOf, writeChangeAgain, writeChangeInfo } from "./change-info.ts";
import type { Compound, Place } from "./compound.ts";
import { directory } from "./kinds.ts";
import { checkComponent, readComponent } from "./names.ts";
import type { Operation } from "./operation.ts";
import { FileKind, Op } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

interface Made {
	readonly kind: number;
	readonly target: Uint8Array;
	readonly major: number;
	readonly minor: number;
}

/** createtype4 (RFC 8881 section 18.4.1). */
function readType(args: XdrReader): Made {
	const kind = args.u32();
	const hasDevice = kind === FileKind.blk || kind === FileKind.chr;
	const target = kind === FileKind.lnk ? args.opaque(RECORD_BYTES_MAX) : NOTHING;
	return { kind, target, major: hasDevice ? args.u32() : 0, minor: hasDevice ? args.u32() : 0 };
}

const NOTHING = new Uint8Array(0);
/** Of what is made without a mode: then a masked one is over nothing. */
const NO_MODE = 0;

/** RFC 8881 section 18.4. */
export const create: Operation = {
	number: Op.create,
	name: "CREATE",
	resultBytesMax: CHANGE_INFO_BYTES + 16,
	run(compound, args) {
		const type = readType(args);
		const name = readComponent(args);
		const wanted = readWanted(args, compound.context);
		const place = compound.here();
		const { served } = place;
		directory(compound.object(place));
		if (typeOfKind(type.kind) === null) throw new Nfs4Error(Status.badtype, "CREATE makes everything but regular files");
		checkComponent(name);
		const change = settled(wanted, NO_MODE);
		if (change.size !== undefined) throw new OverlayError("inval", "Only a regular file has a size to set");
		const before = changeOf(compound, place);
		const object = make(compound, place, type, name, change);
		compound.changed(served);
		const made = compound.placeOf(served, object);
		return (reply) => {
			const after = changeOf(compound, place);
			writeChangeInfo(compound, reply, before, after);
			writeBitmap(reply, wanted.bitmap.words);
			compound.moveTo(made);
			return Status.ok;
		};
	},
	again(compound, args, reply, handle) {
		readType(args);
		readComponent(args);
		const place = compound.here();
		const { bitmap } = readWanted(args, compound.context);
		writeChangeAgain(compound, reply, place);
		writeBitmap(reply, bitmap.words);
		if (handle !== null) compound.moveTo(compound.placeOfHandle(place.served, handle));
	},
};

function make(compound: Compound, place: Place, type: Made, name: Uint8Array, change: SetAttributes): OverlayObject {
	const { overlay } = place.served;
	const key = compound.mayChange(place.served);
	const who = compound.who(place.served);
	const parent = compound.object(place);
	const fileType = typeOfKind(type.kind) as FileType;
	if (fileType === FileType.dir) return overlay.mkdir(parent, name, who, change, key);
	if (fileType === FileType.lnk) return overlay.symlink(parent, name, who, type.target, change, key);
	return overlay.mknod(parent, name, who, fileType, type.major, type.minor, change, key);
}
