// channel_attrs4 and callback_sec_parms4 (RFC 8881 sections 18.33, 18.36).

import type { ChannelAttributes } from "../claims/operations.ts";
import { AUTH_SYS_GIDS_MAX, AUTH_SYS_NAME_BYTES_MAX, AuthFlavor } from "../rpc/rpc-message.ts";
import { XdrError } from "../xdr/xdr-error.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { XdrWriter } from "../xdr/xdr-writer.ts";
import { OPAQUE_BYTES_MAX } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

const RPCSEC_GSS = 6;
const SECURITY_MAX = 16;

export function readChannel(args: XdrReader): ChannelAttributes {
	const [headerPadBytes, requestBytes, responseBytes, keptResponseBytes, operations, requests] = Array.from({ length: 6 }, () =>
		args.u32(),
	);
	if (args.enumeration(1) === 1) args.u32();
	return { headerPadBytes, requestBytes, responseBytes, keptResponseBytes, operations, requests };
}

export function writeChannel(reply: XdrWriter, channel: ChannelAttributes): void {
	reply.u64(channel.headerPadBytes, channel.requestBytes);
	reply.u64(channel.responseBytes, channel.keptResponseBytes);
	reply.u64(channel.operations, channel.requests);
	// no RDMA
	reply.u32(0);
}

/** The credential for calls to the client, by the first way that it offers and we know: the body of AUTH_SYS, or nothing for AUTH_NONE. */
export function readSecurity(args: XdrReader): Uint8Array {
	const count = args.u32();
	if (count > SECURITY_MAX) throw new XdrError(`${count} ways to authenticate`);
	let found: Uint8Array | null = null;
	for (let index = 0; index < count; index++) {
		const one = readOne(args);
		found ??= one;
	}
	if (found === null && count > 0) throw new Nfs4Error(Status.inval, "No way to authenticate that is known here");
	return found ?? new Uint8Array(0);
}

function readOne(args: XdrReader): Uint8Array | null {
	const flavor = args.u32();
	if (flavor === AuthFlavor.none) return new Uint8Array(0);
	if (flavor === AuthFlavor.sys) return readAuthSys(args);
	if (flavor !== RPCSEC_GSS) throw new XdrError(`${flavor} is no flavor of callbacks`);
	args.u32();
	args.opaque(OPAQUE_BYTES_MAX);
	args.opaque(OPAQUE_BYTES_MAX);
	return null;
}

/** authsys_parms (RFC 5531 appendix A), written again as the body of a credential. */
function readAuthSys(args: XdrReader): Uint8Array {
	const body = XdrWriter.growing();
	body.u32(args.u32());
	body.opaque(args.opaque(AUTH_SYS_NAME_BYTES_MAX));
	body.u64(args.u32(), args.u32());
	const count = args.u32();
	if (count > AUTH_SYS_GIDS_MAX) throw new XdrError(`${count} groups where AUTH_SYS has at most ${AUTH_SYS_GIDS_MAX}`);
	body.u32(count);
	for (let index = 0; index < count; index++) body.u32(args.u32());
	return new Uint8Array(body.copyFrom(0));
}
