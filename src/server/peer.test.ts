// Who is at the other end: ports, owners of sockets, and what cannot be told.

import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type NetConnectOpts, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { OWN_ADDRESS } from "../../test/support/peers.ts";
import type { Peer } from "../rpc/caller.ts";
import { type ProcessUser, peerOf, processUser } from "./peer.ts";

const OTHER = 65534;
const uid = process.geteuid?.() ?? 0;
const isRoot = uid === 0;
const skip = isRoot ? false : "to be two users, and to take a port below 1024, takes root";
const user = (of = uid, isAmbiguous = false): ProcessUser => ({ uid: of, isSuperuser: of === 0, isAmbiguous });

interface Ends {
	readonly near: Socket;
	readonly far: Socket;
}

/** A connection to `host` (or a Unix socket in a new folder, for null), made by a user of this host. */
async function pair(t: TestContext, host: string | null, by = uid, more: Partial<NetConnectOpts> = {}): Promise<Ends> {
	const folder = mkdtempSync(join(tmpdir(), "holdfast-peer-"));
	chmodSync(folder, 0o755);
	const path = join(folder, "socket");
	const server = createServer({ pauseOnConnect: true, allowHalfOpen: true });
	if (host === null) server.listen({ path, writableAll: true });
	else server.listen(0, host);
	await once(server, "listening");
	t.after(() => {
		server.close();
		rmSync(folder, { recursive: true, force: true });
	});
	const accepted = once(server, "connection");
	if (by !== uid) process.seteuid?.(by);
	let far: Socket;
	try {
		const to = host === null ? { path } : { host, port: (server.address() as { port: number }).port };
		far = connect({ allowHalfOpen: true, ...to, ...more } as NetConnectOpts);
		t.after(() => far.destroy());
		await once(far, "connect");
	} finally {
		if (by !== uid) process.seteuid?.(uid);
	}
	const [near] = (await accepted) as [Socket];
	t.after(() => near.destroy());
	return { near, far };
}

/** A connection from the first port that is free among `ports`. */
async function pairFrom(t: TestContext, host: string, ports: readonly number[], by = uid): Promise<Ends> {
	for (const localPort of ports) {
		try {
			return await pair(t, host, by, { localPort });
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
		}
	}
	throw new Error(`Every port is in use: ${ports}`);
}

const RESERVED = Array.from({ length: 200 }, (_, i) => 1023 - i);
const UNRESERVED = Array.from({ length: 200 }, (_, i) => 1024 + i);

function ask({ near }: Ends, as = user(), asksOwner = true): Peer {
	const peer = peerOf(near, near.remoteAddress === undefined, as, asksOwner);
	assert.ok(peer !== null);
	return peer;
}

test("our own connections are ours, over TCP of both families and Unix sockets", async (t) => {
	for (const [host, address] of [
		["127.0.0.1", "127.0.0.1"],
		["127.3.2.1", "127.0.0.1"],
		["::1", "::1"],
		[null, "unix"],
	] as const) {
		const peer = ask(await pair(t, host));
		assert.equal(peer.address, address);
		assert.equal(peer.isOtherUser, false, address);
	}
	const half = await pair(t, "127.0.0.1");
	half.far.end("some bytes");
	await once(half.far, "finish");
	assert.equal(ask(half).isOtherUser, false, "a peer that has ended its side");
});

test("another user's are another's, root's are ours", { skip }, async (t) => {
	for (const host of ["127.0.0.1", "::1", null]) {
		const other = await pair(t, host, OTHER);
		assert.deepEqual(ask(other), { address: host ?? "unix", isPrivileged: false, isOtherUser: true });
		assert.equal(ask(other, user(OTHER)).isOtherUser, false);
		const roots = await pair(t, host);
		assert.equal(ask(roots, user(OTHER)).isOtherUser, false);
	}
});

test("where other users look as we do nobody is ours, root neither", async (t) => {
	for (const host of ["127.0.0.1", null]) assert.equal(ask(await pair(t, host), user(uid, true)).isOtherUser, true);
});

test("a peer that has left before it was looked at is nobody's", async (t) => {
	const closed = await pair(t, "127.0.0.1");
	closed.far.end("some bytes");
	await once(closed.far, "finish");
	closed.far.destroy();
	await once(closed.far, "close");
	assert.notEqual(peerOf(closed.near, false, user(), true)?.isOtherUser, false, "closed");
	const reset = await pair(t, "127.0.0.1");
	reset.far.resetAndDestroy();
	await once(reset.far, "close");
	assert.notEqual(peerOf(reset.near, false, user(), true)?.isOtherUser, false, "reset");
});

test("a connection that was reset is not taken for another one, of ours, that has its addresses and ports since", { skip }, async (t) => {
	const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(0, "127.0.0.1");
	await once(server, "listening");
	t.after(() => server.close());
	const { port } = server.address() as { port: number };
	const to = { host: "127.0.0.1", port, localAddress: OWN_ADDRESS };
	const connected = async (by: number, localPort?: number): Promise<Ends> => {
		const accepted = once(server, "connection");
		process.seteuid?.(by);
		const far = connect(localPort === undefined ? to : { ...to, localPort });
		t.after(() => far.destroy());
		await once(far, "connect").finally(() => process.seteuid?.(0));
		const [near] = (await accepted) as [Socket];
		t.after(() => near.destroy());
		return { near, far };
	};
	const attacker = await connected(OTHER);
	const { localPort } = attacker.far;
	attacker.far.write("some bytes");
	attacker.far.resetAndDestroy();
	await once(attacker.far, "close");
	const ours = await connected(0, localPort);
	assert.equal(ask(ours).isOtherUser, false);
	assert.equal(ours.near.remotePort, localPort);
	assert.notEqual(peerOf(attacker.near, false, user(), true)?.isOtherUser, false);
});

test("a peer is privileged from a port below 1024, or as root over a Unix socket", { skip }, async (t) => {
	for (const host of ["127.0.0.1", "::1"]) {
		for (const asksOwner of [true, false]) {
			assert.equal(ask(await pairFrom(t, host, RESERVED), user(), asksOwner).isPrivileged, true);
			assert.equal(ask(await pairFrom(t, host, UNRESERVED), user(), asksOwner).isPrivileged, false);
		}
	}
	assert.equal(ask(await pair(t, null), user(), false).isPrivileged, true);
	assert.equal(ask(await pair(t, null, OTHER), user(), false).isPrivileged, false);
});

test("root of the host is told from others", () => {
	const { uid: found, isSuperuser, isAmbiguous } = processUser();
	assert.equal(found, uid);
	if (!isRoot) assert.equal(isSuperuser, false);
	if (uid !== OTHER) assert.equal(isAmbiguous, false);
});
