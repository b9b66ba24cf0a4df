// What peers can make a server hold: records that do not come whole, and requests that wait, over all connections.

import assert from "node:assert/strict";
import { test } from "node:test";
import { xdr } from "../rpc/rpc-client.test-support.ts";
import { gate, Nfs, nfsRecord, startServer, until } from "./test-server.test-support.ts";

const MEGABYTE = 1 << 20;

test("a record that does not come whole in its time ends its connection, whatever trickles in, and no other", async (t) => {
	let now = 0;
	const { connect, overlay, server } = await startServer(t, { now: () => now, limits: { recordSeconds: 100 } });
	const [slow, fragments, mark, idle, busy] = [await connect(), await connect(), await connect(), await connect(), await connect()];
	const record = nfsRecord(1, Nfs.getattr, [overlay.root.handle]);
	const answered = async (client: typeof busy): Promise<void> => {
		client.send(record);
		assert.equal((await client.receive())?.readUInt32BE(0), 1);
	};
	// each has been read once the answer before it is there
	for (const [client, begun] of [
		[slow, record.subarray(0, 20)],
		[fragments, xdr(4, 7, 8)],
		[mark, record.subarray(0, 2)],
	] as const) {
		client.send(Buffer.concat([record, begun]));
		assert.equal((await client.receive())?.readUInt32BE(0), 1);
	}
	await answered(idle);
	await answered(busy);
	now = 99_000;
	slow.send(record.subarray(20, 24));
	await answered(busy);
	server.closeLate();
	assert.equal(server.connectionCount, 5);
	now = 101_000;
	busy.send(Buffer.concat([record, record.subarray(0, 20)]));
	await busy.receive();
	server.closeLate();
	for (const client of [slow, fragments, mark]) await client.end();
	await until(() => server.connectionCount === 2);
	busy.send(record.subarray(20));
	assert.equal((await busy.receive())?.readUInt32BE(0), 1);
	await answered(idle);
});

test("records that are not whole have a bound over all connections: who has sent nothing for the longest goes, and others are served", async (t) => {
	let now = 0;
	const { connect, overlay, server, file } = await startServer(t, { now: () => now, limits: { recordBytesTotal: 8 * MEGABYTE } });
	const { handle } = file("file", "");
	const write = nfsRecord(1, Nfs.write, [handle, 0, 0, MEGABYTE, 2, Buffer.alloc(MEGABYTE)]);
	const begun = [];
	for (let index = 0; index < 30; index++) {
		const client = await connect();
		begun.push(client);
		now = index;
		// in fragments or not
		if (index % 2 === 0) client.send(write.subarray(0, 600_000));
		else client.send(Buffer.concat([xdr(900_000), write.subarray(4, 600_000)]));
		const other = await connect();
		other.send(write);
		assert.equal((await other.receive())?.readUInt32BE(24), 0, "whoever sends whole records is served");
		other.close();
	}
	await until(() => server.connectionCount <= 10);
	const left = begun.filter(({ closed, ended }) => !closed && !ended);
	assert.ok(left.length >= 1, "not more than have to are closed");
	assert.equal(begun.indexOf(left[0]), begun.length - left.length, "the oldest are");
	assert.equal(overlay.calls.filter((call) => call === "write").length > 0, true);
});

test("requests that wait have a bound over all connections, and beyond it each connection has one all the same", async (t) => {
	const { connect, overlay, file } = await startServer(t, { limits: { requestsInFlightTotal: 10 } });
	const { handle } = file("file", "content");
	const { opened, open } = gate();
	overlay.flush = () => opened;
	const commits = (count: number) =>
		Buffer.concat(Array.from({ length: count }, (_, xid) => nfsRecord(xid, Nfs.commit, [handle, 0, 0, 0])));
	const begun = () => overlay.calls.filter((call) => call === "commit").length;
	const greedy = await connect();
	greedy.send(commits(50));
	await until(() => begun() === 10);
	const others = [await connect(), await connect()];
	for (const [index, client] of others.entries()) {
		client.send(nfsRecord(77, Nfs.getattr, [handle]));
		assert.equal((await client.receive())?.readUInt32BE(0), 77);
		client.send(commits(5));
		await until(() => begun() === 11 + index);
	}
	await new Promise((resolve) => setTimeout(resolve, 30));
	assert.equal(begun(), 12);
	open();
	for (const [client, count] of [
		[greedy, 50],
		[others[0], 5],
		[others[1], 5],
	] as const) {
		for (let index = 0; index < count; index++) assert.ok(await client.receive());
	}
	assert.equal(begun(), 60);
});
