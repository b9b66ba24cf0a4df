// What a server rejects by RFC 5531, and how.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AUTH_NONE, authSys, type CallOptions, encodeCall, inFragments, xdr } from "../rpc/rpc-client.test-support.ts";
import { Nfs, nfsCall, startServer } from "./test-server.test-support.ts";

/** Accepted, with the AUTH_NONE verifier. */
const accepted = (...status: number[]): Buffer => xdr(9, 1, 0, 0, 0, ...status);
const authError = (status: number): Buffer => xdr(9, 1, 1, 1, status);
const NULL_CALL = nfsCall(Nfs.null, [], { xid: 9 });

const CASES: readonly (readonly [string, CallOptions, Buffer])[] = [
	["NULL with AUTH_NONE is done", { ...NULL_CALL, credential: AUTH_NONE }, accepted(0)],
	["NULL with AUTH_SYS is done", NULL_CALL, accepted(0)],
	["NULL of MOUNT is done", { ...NULL_CALL, program: 100005 }, accepted(0)],
	["RPC version 1 is RPC_MISMATCH 2 .. 2", { ...NULL_CALL, rpcVersion: 1 }, xdr(9, 1, 1, 0, 2, 2)],
	["RPC version 3 is RPC_MISMATCH 2 .. 2", { ...NULL_CALL, rpcVersion: 3 }, xdr(9, 1, 1, 0, 2, 2)],
	["another program is PROG_UNAVAIL", { ...NULL_CALL, program: 100021 }, accepted(1)],
	["NFS version 2 is PROG_MISMATCH 3 .. 3", { ...NULL_CALL, version: 2 }, accepted(2, 3, 3)],
	["MOUNT version 1 is PROG_MISMATCH 3 .. 3", { ...NULL_CALL, program: 100005, version: 1 }, accepted(2, 3, 3)],
	["NFS procedure 22 is PROC_UNAVAIL", { ...NULL_CALL, procedure: 22 }, accepted(3)],
	["MOUNT procedure 6 is PROC_UNAVAIL", { ...NULL_CALL, program: 100005, procedure: 6 }, accepted(3)],
	["procedure 2^32 - 1 is PROC_UNAVAIL", { ...NULL_CALL, procedure: 0xffffffff }, accepted(3)],
	["GETATTR without a handle is GARBAGE_ARGS", { ...NULL_CALL, procedure: 1 }, accepted(4)],
	["a handle of 65 bytes is GARBAGE_ARGS", { ...NULL_CALL, procedure: 1, args: xdr(Buffer.alloc(65)) }, accepted(4)],
	["17 groups are AUTH_BADCRED", { ...NULL_CALL, credential: authSys(1, 1, new Array<number>(17).fill(1)) }, authError(1)],
	["an AUTH_SYS body cut short is AUTH_BADCRED", { ...NULL_CALL, credential: [1, xdr(0, "host", 1)] }, authError(1)],
	["a credential of 401 bytes is AUTH_BADCRED", { ...NULL_CALL, credential: [1, Buffer.alloc(401)] }, authError(1)],
	["AUTH_SHORT is AUTH_REJECTEDCRED", { ...NULL_CALL, credential: [2, xdr(1)] }, authError(2)],
	["RPCSEC_GSS is AUTH_REJECTEDCRED", { ...NULL_CALL, credential: [6, xdr(1, 1, 0, 1, 0)] }, authError(2)],
	["AUTH_TLS is AUTH_REJECTEDCRED", { ...NULL_CALL, credential: [7, Buffer.alloc(0)] }, authError(2)],
	["a verifier of 401 bytes is AUTH_BADVERF", { ...NULL_CALL, verifier: [0, Buffer.alloc(401)] }, authError(3)],
	["AUTH_SYS with another verifier is AUTH_BADVERF", { ...NULL_CALL, verifier: [6, xdr(1)] }, authError(3)],
];

test("every refusal of RFC 5531 has its bytes", async (t) => {
	const { connect } = await startServer(t);
	const client = await connect();
	for (const [name, call, expected] of CASES) {
		await t.test(name, async () => assert.deepEqual(await client.call(call), expected));
	}
});

test("a call whose header is cut is GARBAGE_ARGS, at every length that has an xid", async (t) => {
	const { connect } = await startServer(t);
	const client = await connect();
	const whole = encodeCall(NULL_CALL);
	for (let length = 8; length < whole.length; length += 1) {
		client.send(inFragments(whole.subarray(0, length)));
		assert.deepEqual(await client.receive(), accepted(4), `${length} bytes`);
	}
});

test("a reply that comes as a call is passed over, and the connection lives on", async (t) => {
	const { connect } = await startServer(t);
	const client = await connect();
	client.send(inFragments(xdr(9, 1, 0, 0, 0, 0)));
	assert.deepEqual(await client.call(NULL_CALL), accepted(0));
});

test("records that are no messages, or too large, end the connection", async (t) => {
	const { connect } = await startServer(t);
	for (const bytes of [inFragments(xdr(9, 2)), inFragments(xdr(9)), inFragments(Buffer.alloc(0)), xdr(0xffffffff), Buffer.alloc(8192)]) {
		const client = await connect();
		client.send(bytes);
		assert.equal(await client.receive(), null);
	}
	const client = await connect();
	assert.deepEqual(await client.call(NULL_CALL), accepted(0));
});

test("a call is answered alike however it is cut into fragments", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const whole = encodeCall(nfsCall(Nfs.getattr, [overlay.root.handle], { xid: 9 }));
	client.send(inFragments(whole));
	const expected = await client.receive();
	for (let first = 0; first <= whole.length; first++) {
		client.send(inFragments(whole, [first, 0]));
		assert.deepEqual(await client.receive(), expected);
	}
	client.send(inFragments(whole, new Array<number>(whole.length).fill(1)));
	assert.deepEqual(await client.receive(), expected);
});
