// OPEN: opens a file, and makes it where that is asked for.

import type { Export } from "../exports/export.ts";
import { OverlayError } from "../vfs/errors.ts";
import { Access, type CreateHow, type OverlayObject, type SetAttributes } from "../vfs/operations.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import { AttributeNumber, settled } from "./attributes.ts";
import { type Bitmap, bitmapOf, NO_BITS, numbersOf, writeBitmap } from "./bitmap.ts";
import { CHANGE_INFO_BYTES, type ChangeValue, changeOf, UNKNOWN_CHANGE, writeChangeAgain, writeChangeInfo } from "./change-info.ts";
import type { Compound, Place } from "./compound.ts";
import { findName } from "./find-name.ts";
import { directoryToSearch, regularFile } from "./kinds.ts";
import { checkComponent } from "./names.ts";
import { type OpenArguments, type OpenHow, readOpen } from "./open-arguments.ts";
import type { Finish, Operation, Outcome } from "./operation.ts";
import { Delegation, Op, OpenClaim, OpenResult, Share, Want, WhyNoDelegation } from "./protocol.ts";
import { STATEID_BYTES, writeStateid } from "./stateid.ts";
import { Nfs4Error, Status } from "./status.ts";

/** A file that is there, ready to be opened. */
interface Ready {
	readonly file: Place;
	/** The directory and what its change attribute was before, where a name was given; null of what was opened before a restart. */
	readonly directory: Place | null;
	readonly before: ChangeValue | null;
	/** Of what was made or cut. */
	readonly set: Bitmap;
}

const RESULT_FLAGS = OpenResult.locktypePosix | OpenResult.preserveUnlinked | OpenResult.mayNotifyLock;

/** RFC 8881 section 18.16. */
export const open: Operation = {
	number: Op.open,
	name: "OPEN",
	resultBytesMax: STATEID_BYTES + CHANGE_INFO_BYTES + 4 + 16 + 12,
	run(compound, args) {
		const request = readOpen(compound, args);
		// the arguments may be overwritten before all is done
		const owner = new Uint8Array(request.owner);
		return openBy(compound, { ...request, owner });
	},
};

function openBy(compound: Compound, request: OpenArguments): Outcome {
	const { claim, how } = request;
	const place = compound.here();
	const answer = compound.context.claims.answerOf(compound.claimChange());
	if (answer !== null && answer.handle !== null) return openedBefore(compound, request, place, answer.handle);
	if (claim === OpenClaim.null) return openByName(compound, request, place, request.name as Uint8Array);
	if (claim !== OpenClaim.handle && claim !== OpenClaim.previous) {
		throw new Nfs4Error(Status.reclaimBad, "There are no delegations");
	}
	if (how !== null) throw new Nfs4Error(Status.inval, "Only a name can be created");
	const isReclaim = claim === OpenClaim.previous;
	const object = regularFile(compound.object(place));
	const { slot } = compound.claimChange();
	compound.context.claims.prepareOpen(slot, isReclaim, request.deny);
	checkAccess(compound, place, object, request.access);
	return opened(compound, request, { file: place, directory: null, before: null, set: NO_BITS });
}

function openByName(compound: Compound, request: OpenArguments, place: Place, name: Uint8Array): Outcome {
	const { claims } = compound.context;
	const directory = directoryToSearch(compound.object(place));
	checkComponent(name);
	const { slot } = compound.claimChange();
	claims.prepareOpen(slot, false, request.deny);
	const before = changeOf(compound, place);
	if (request.how !== null) return create(compound, request, request.how, place, directory, name, before);
	const found = findName(compound, place, name);
	if (found === null) return Status.noent;
	const file = compound.placeOf(found.served, regularFile(found.object));
	checkAccess(compound, file, found.object, request.access);
	return opened(compound, request, { file, directory: place, before, set: NO_BITS });
}

/** The same request was answered before a restart: the object is known by its handle, whatever has its name now. */
function openedBefore(compound: Compound, request: OpenArguments, place: Place, handle: Uint8Array): Outcome {
	const file = compound.placeOfHandle(place.served, handle);
	const directory = request.claim === OpenClaim.null ? place : null;
	return opened(compound, request, { file, directory, before: null, set: setBy(request.how, true) });
}

function create(
	compound: Compound,
	request: OpenArguments,
	how: OpenHow,
	place: Place,
	directory: OverlayObject,
	name: Uint8Array,
	before: ChangeValue,
): Outcome {
	const { served } = place;
	const { overlay } = served;
	const who = compound.who(served);
	const { wanted } = how;
	const cuts = wanted?.change.size === 0;
	/** A file that is there is opened as any other, and cut where that is asked for. */
	const takeExisting = (file: OverlayObject): boolean => {
		checkAccess(compound, compound.placeOf(served, regularFile(file)), file, cuts ? request.access | Share.write : request.access);
		compound.context.claims.checkShare(file.handle, request);
		return cuts;
	};
	if (how.mode === "unchecked" && !cuts && isReadOnly(compound, served)) {
		const known = overlay.lookup(directory, name, who);
		if (known !== null) {
			takeExisting(known);
			return opened(compound, request, { file: compound.placeOf(served, known), directory: place, before, set: NO_BITS });
		}
	}
	const attributes: SetAttributes = wanted === null ? {} : settled(wanted, 0);
	const key = compound.mayChange(served);
	const { object, made } = overlay.create(directory, name, who, createHow(how, attributes, takeExisting), key);
	if (made || cuts) compound.changed(served);
	return opened(compound, request, { file: compound.placeOf(served, object), directory: place, before, set: setBy(how, made) });
}

function createHow(how: OpenHow, attributes: SetAttributes, takeExisting: (file: OverlayObject) => boolean): CreateHow {
	switch (how.mode) {
		case "exclusive":
			return { mode: "exclusive", verifier: how.verifier, attributes };
		case "guarded":
			return { mode: "guarded", attributes };
		case "unchecked":
			return { mode: "unchecked", attributes, takeExisting };
	}
}

const SIZE_ALONE = bitmapOf([AttributeNumber.size]);
const VERIFIER_TIMES = [AttributeNumber.timeAccess, AttributeNumber.timeModify];

/** The attributes that were set. An exclusive create keeps its verifier in the times, which the client then sets itself. */
function setBy(how: OpenHow | null, made: boolean): Bitmap {
	if (how === null) return NO_BITS;
	if (!made) return how.wanted?.change.size === 0 ? SIZE_ALONE : NO_BITS;
	const set = how.wanted?.bitmap ?? NO_BITS;
	return how.mode === "exclusive" ? bitmapOf([...numbersOf(set), ...VERIFIER_TIMES]) : set;
}

/** By the caller, or at all. */
function isReadOnly(compound: Compound, served: Export): boolean {
	return compound.admission(served).readOnly || served.overlay.readOnly;
}

/** By the caller's own rights, when a file is opened that was there. */
function checkAccess(compound: Compound, { served }: Place, object: OverlayObject, access: number): void {
	const { overlay } = served;
	const writes = (access & Share.write) !== 0;
	if (writes && isReadOnly(compound, served)) {
		throw new OverlayError("rofs", "The export is read-only for this client");
	}
	// who may execute a file has to read it
	const reading = Access.read | Access.execute;
	const wanted = ((access & Share.read) !== 0 ? reading : 0) | (writes ? Access.modify : 0);
	const granted = overlay.access(object, compound.who(served), wanted);
	const mayRead = (access & Share.read) === 0 || (granted & reading) !== 0;
	if (!mayRead || (writes && (granted & Access.modify) === 0)) throw new OverlayError("acces", "The file may not be opened so");
}

/** The file is there, and nothing but the claim is left. Whatever waits from here on, it is not made again. */
function opened(compound: Compound, request: OpenArguments, ready: Ready): Finish {
	const { access, deny, owner, want, claim } = request;
	const { file, directory, before, set } = ready;
	const change = compound.claimChange();
	return (reply) => {
		const after = directory === null || before === null ? UNKNOWN_CHANGE : changeOf(compound, directory);
		const isReclaim = claim === OpenClaim.previous;
		const stateid = compound.context.claims.open(change, { access, deny, owner, handle: file.handle, isReclaim });
		writeStateid(reply, stateid);
		if (directory !== null && before === null) writeChangeAgain(compound, reply, directory);
		else writeChangeInfo(compound, reply, before ?? UNKNOWN_CHANGE, after);
		reply.u32(RESULT_FLAGS);
		writeBitmap(reply, set.words);
		writeNoDelegation(reply, want);
		compound.moveTo(file);
		compound.stateid = stateid;
		return Status.ok;
	};
}

/** open_delegation4: none, with the reason where a wish was told. */
function writeNoDelegation(reply: XdrWriter, want: number): void {
	if (want === 0) {
		reply.u32(Delegation.none);
		return;
	}
	reply.u32(Delegation.noneWithReason);
	if (want === Want.none) reply.u32(WhyNoDelegation.notWanted);
	else if (want === Want.cancel) reply.u32(WhyNoDelegation.cancelled);
	else {
		reply.u32(WhyNoDelegation.resource);
		reply.bool(false);
	}
}
