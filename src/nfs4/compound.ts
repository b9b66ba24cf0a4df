// A COMPOUND, as its operations see it.

import type { ClaimChange, Session, Slot } from "../claims/operations.ts";
import type { Export } from "../exports/export.ts";
import type { Admission } from "../exports/exports.ts";
import type { Caller } from "../rpc/caller.ts";
import type { CallChannel } from "../rpc/program.ts";
import type { ChangeKey, ClientRequest, Credentials, OverlayObject } from "../vfs/operations.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import type { Nfs4Context } from "./context.ts";
import type { RequestDigest } from "./request-digest.ts";
import type { WireStateid } from "./stateid.ts";
import type { Status } from "./status.ts";

/** What a file handle stands for. The object is good in one pass; then it is found again by the handle (`Compound.object`). */
export interface Place {
	readonly served: Export;
	readonly handle: Uint8Array;
	object: OverlayObject;
	pass: number;
}

export interface Compound {
	readonly context: Nfs4Context;
	readonly caller: Caller;
	readonly channel: CallChannel;
	/** Bytes of the whole request, with its headers. */
	readonly requestBytes: number;
	/** Of what follows SEQUENCE, which sets it. */
	digest: RequestDigest;
	readonly tagBytes: number;
	/** Operations that it has. */
	readonly count: number;
	/** Which of them is being run. */
	readonly index: number;
	current: Place | null;
	saved: Place | null;
	/** The current stateid (RFC 8881 section 16.2.3.1.2), null where there is none. */
	stateid: WireStateid | null;
	savedStateid: WireStateid | null;
	/** Null until SEQUENCE, and for the operations that come without it. */
	slot: Slot | null;
	/** The kept reply of the slot, which is sent instead of a new one. */
	replay: Uint8Array | null;
	/** Of the slot. */
	readonly session: Session;

	/** Bytes that the reply may still grow by. */
	room(reply: XdrWriter): number;
	/** What is told of a reply that has no room: whether it could not be sent, or could not be kept. */
	tooBigStatus(reply: XdrWriter): Status;

	/** The current file handle. */
	here(): Place;
	/** The saved one. */
	savedPlace(): Place;
	/** The object of a place, as of this pass. */
	object(place: Place): OverlayObject;
	/** A place for an object of this pass. */
	placeOf(served: Export, object: OverlayObject): Place;
	/** A place whose object is found when it is asked for. */
	placeOfHandle(served: Export, handle: Uint8Array): Place;
	/** Makes an object the current one; there is no current stateid then. */
	moveTo(place: Place): void;
	/** Begins the pass of an export, once. */
	enter(served: Export): void;
	admission(served: Export): Admission;
	/** "acces" where the export is not for this caller. */
	who(served: Export): Credentials;
	/** What the changes of a compound in this slot are known by. */
	request(session: Session, sequence: number, slot: number): ClientRequest;
	/** To be called before each change of names or attributes: "rofs" where this caller may not. Gives the key of the change. */
	mayChange(served: Export): ChangeKey;
	/** The same before content is written. Writing it again does no harm, so nobody has to remember that it was done. */
	mayWrite(served: Export): void;
	/** An overlay was changed: the reply waits until that is stable. */
	changed(served: Export): void;
	/** This operation, as claims name it. */
	claimChange(): ClaimChange;
}
