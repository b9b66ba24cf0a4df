// Registration with an rpcbind that answers, refuses or is not there.

import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { inFragments, xdr } from "./rpc-client.test-support.ts";
import { type RpcbindMapping, registerWithRpcbind, unregisterFromRpcbind } from "./rpcbind.ts";

const MAPPING: RpcbindMapping = { program: 100003, version: 3, networkId: "tcp", host: "127.0.0.1", port: 2049 };

/** A rpcbind that answers each call with `results`, and notes what was asked. */
async function fakeRpcbind(t: TestContext, results: (xid: number) => Buffer): Promise<{ port: number; asked: string[] }> {
	const asked: string[] = [];
	const answer = (socket: Socket, record: Buffer): void => {
		const call = XdrReader.over(record);
		const [xid, , , program, version, procedure] = Array.from({ length: 10 }, () => call.u32());
		const mapping = [call.u32(), call.u32(), ...Array.from({ length: 3 }, () => Buffer.from(call.opaque(100)).toString())];
		asked.push([program, version, procedure, ...mapping].join(" "));
		socket.write(inFragments(results(xid)));
	};
	const server = createServer((socket) => {
		socket.on("data", (bytes) => answer(socket, bytes.subarray(4)));
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	t.after(() => server.close());
	return { port: (server.address() as AddressInfo).port, asked };
}

test("a mapping is set after an old one was taken back, and taken back at the end", async (t) => {
	const { port, asked } = await fakeRpcbind(t, (xid) => xdr(xid, 1, 0, 0, 0, 0, 1));
	const addresses = [{ path: "/nonexistent" }, { host: "127.0.0.1", port }];
	await registerWithRpcbind([MAPPING, { ...MAPPING, program: 100005, networkId: "tcp6", host: "::1" }], addresses);
	await unregisterFromRpcbind([MAPPING], addresses);
	assert.deepEqual(asked, [
		"100000 4 2 100003 3 tcp 127.0.0.1.8.1 holdfast",
		"100000 4 1 100003 3 tcp 127.0.0.1.8.1 holdfast",
		"100000 4 2 100005 3 tcp6 ::1.8.1 holdfast",
		"100000 4 1 100005 3 tcp6 ::1.8.1 holdfast",
		"100000 4 2 100003 3 tcp 127.0.0.1.8.1 holdfast",
	]);
});

test("a refusal, a failure and no rpcbind at all are errors with a sentence", async (t) => {
	const refusing = await fakeRpcbind(t, (xid) => xdr(xid, 1, 0, 0, 0, 0, 0));
	const at = (port: number): { host: string; port: number }[] => [{ host: "127.0.0.1", port }];
	await assert.rejects(registerWithRpcbind([MAPPING], at(refusing.port)), /rpcbind refused program 100003 version 3 for tcp/);
	const failing = await fakeRpcbind(t, (xid) => xdr(xid, 1, 0, 0, 0, 2, 3, 4));
	await assert.rejects(registerWithRpcbind([MAPPING], at(failing.port)), /rpcbind answered with status 2/);
	await assert.rejects(registerWithRpcbind([MAPPING], [{ path: "/nonexistent" }]), /No rpcbind is running here/);
});
