// The arguments of OPEN (RFC 8881 section 18.16.1).

import { XdrError } from "../xdr/xdr-error.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { checkExclusive, readWanted, type Wanted } from "./attributes.ts";
import type { Compound } from "./compound.ts";
import { readOwner } from "./lock-owner.ts";
import { readComponent } from "./names.ts";
import { CreateMode, OpenClaim, Share, VERIFIER_BYTES, Want } from "./protocol.ts";
import { readStateid } from "./stateid.ts";
import { Nfs4Error, Status } from "./status.ts";

export type OpenHow =
	| { readonly mode: "unchecked" | "guarded"; readonly wanted: Wanted }
	| { readonly mode: "exclusive"; readonly verifier: Uint8Array; readonly wanted: Wanted | null };

export interface OpenArguments {
	readonly access: number;
	readonly deny: number;
	/** The wish for a delegation, among the bits of share_access; 0: none was said. */
	readonly want: number;
	readonly owner: Uint8Array;
	/** Null: the file must be there. */
	readonly how: OpenHow | null;
	readonly claim: number;
	/** Of CLAIM_NULL. */
	readonly name: Uint8Array | null;
}

export function readOpen(compound: Compound, args: XdrReader): OpenArguments {
	args.u32(); // the sequence number of minor version 0
	const shareAccess = args.u32();
	const deny = args.u32();
	const owner = readOwner(args);
	const how = args.enumeration(1) === 1 ? readHow(compound, args) : null;
	const claim = args.enumeration(OpenClaim.delegatePreviousHandle);
	const name = readClaim(compound, args, claim);
	const access = accessOf(shareAccess, deny);
	const want = shareAccess & Want.mask;
	if (want > Want.cancel) throw new Nfs4Error(Status.inval, "No such wish for a delegation");
	return { access, deny, want, owner, how, claim, name };
}

/** The access among the bits of share_access. "inval" for what is no way to share. */
export function accessOf(shareAccess: number, deny: number): number {
	const access = shareAccess & Share.both;
	if (access === 0 || (shareAccess & ~(Share.both | Want.mask | Want.signals)) !== 0 || deny > Share.both) {
		throw new Nfs4Error(Status.inval, "No such way to share");
	}
	return access;
}

/** createhow4. What it says of attributes counts only once everything is read. */
function readHow(compound: Compound, args: XdrReader): OpenHow {
	const mode = args.u32();
	const { context } = compound;
	if (mode === CreateMode.unchecked || mode === CreateMode.guarded) {
		return { mode: mode === CreateMode.unchecked ? "unchecked" : "guarded", wanted: readWanted(args, context) };
	}
	if (mode !== CreateMode.exclusive && mode !== CreateMode.exclusiveWithAttributes) throw new XdrError(`${mode} is no way to create`);
	const verifier = args.fixedCopy(VERIFIER_BYTES);
	if (mode === CreateMode.exclusive) return { mode: "exclusive", verifier, wanted: null };
	const wanted = readWanted(args, context);
	checkExclusive(wanted);
	return { mode: "exclusive", verifier, wanted };
}

/** open_claim4; the name of CLAIM_NULL. */
function readClaim(compound: Compound, args: XdrReader, claim: number): Uint8Array | null {
	switch (claim) {
		case OpenClaim.null:
			return readComponent(args);
		case OpenClaim.previous:
			args.u32();
			return null;
		case OpenClaim.delegateCurrent:
			readStateid(args, compound.stateid);
			readComponent(args);
			return null;
		case OpenClaim.delegatePrevious:
			readComponent(args);
			return null;
		case OpenClaim.delegateCurrentHandle:
			readStateid(args, compound.stateid);
			return null;
		default:
			return null;
	}
}
