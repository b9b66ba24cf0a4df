/** Clients that share an address, and strangers at many addresses: nobody gets another's reply, and nobody waits for others. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { Nfs3Status } from "../support/nfs3-client.ts";
import { needs } from "../support/requirements.ts";
import { decodeReply, encodeCall, RpcConnection } from "../support/rpc-connection.ts";
import { scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";
import { XdrWriter } from "../support/xdr-codec.ts";

const NFS = 100003;
const [MKDIR, REMOVE] = [9, 12];
const skip = needs("root");
/** More than there are rings. */
const STRANGERS = 140;

function mkdirArguments(directory: Buffer, name: string): Buffer {
	const arguments_ = new XdrWriter().opaque(directory).string(name);
	for (let field = 0; field < 6; field++) arguments_.u32(0);
	return arguments_.bytes();
}

test("two processes of one address with equal xids get each their own reply, over a kill too, and strangers with refused changes hold up nobody", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { "taken/inside": "x", file: "content" });
	const options = { lowers: [lower], upper: made.folder("upper"), args: ["--state-dir", made.folder("state")] };
	let server = await startServer(made, options);
	const client = await server.client();
	const root = await client.root();
	client.close();
	const connections: RpcConnection[] = [];
	t.after(() => {
		for (const connection of connections) connection.close();
	});
	const from = async (localAddress = "127.0.0.1"): Promise<RpcConnection> => {
		const to = { host: "127.0.0.1", port: server.port, localAddress };
		const connection = await RpcConnection.connect(to);
		connections.push(connection);
		return connection;
	};
	const status = async (connection: RpcConnection, xid: number, procedure: number, arguments_: Buffer): Promise<number> => {
		const reply = connection.reply(xid);
		connection.sendRecord(encodeCall(xid, NFS, 3, procedure, arguments_, { uid: 0, gid: 0 }));
		return decodeReply(await reply).u32();
	};
	const lock = (connection: RpcConnection, name = "lock"): Promise<number> => status(connection, 77, MKDIR, mkdirArguments(root, name));

	const [a, b] = [await from(), await from()];
	const both = await Promise.all([lock(a), lock(b)]);
	assert.deepEqual(both.toSorted(), [0, Nfs3Status.exist], "one has the lock");
	assert.deepEqual([await lock(a), await lock(b)], both, "each is told again what it was told");

	for (let stranger = 0; stranger < STRANGERS; stranger++) {
		const connection = await from(`127.0.1.${stranger + 1}`);
		assert.equal(await lock(connection, "taken"), Nfs3Status.exist);
		connection.close();
	}
	const late = await from("127.0.2.1");
	assert.equal(await lock(late, "made by a new client"), 0);
	assert.equal(await status(late, 78, REMOVE, new XdrWriter().opaque(root).string("file").bytes()), 0);

	await server.kill();
	server = await startServer(made, options);
	const again = [await from(), await from(), await from()];
	const told = [];
	for (const connection of again) told.push(await lock(connection));
	assert.equal(told.filter((one) => one === 0).length, 1, "after the kill one of all who come again has the lock");
	assert.equal(await lock(await from("127.0.2.1"), "made by a new client"), 0, "its change is known");
	assert.equal(await lock(await from("127.0.2.2"), "made by another new client"), 0);
	await server.terminate();
});
