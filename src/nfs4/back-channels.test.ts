// Callbacks to clients that do not answer.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClaimOperations, Client, Session } from "../claims/operations.ts";
import type { CallChannel, ServerCall } from "../rpc/program.ts";
import { CallError } from "../rpc/server-calls.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { XdrWriter } from "../xdr/xdr-writer.ts";
import { BackChannels } from "./back-channels.ts";
import { CallbackProcedure, SessionFlag } from "./protocol.ts";

interface Call {
	readonly settle: (answer: XdrReader | CallError) => void;
}

/** A client whose answers are given by the test, but for the probe. */
class Peer {
	readonly calls: Call[] = [];
	readonly session: Session;
	readonly channel: CallChannel;

	constructor() {
		const client = { hi: 1, lo: 1 } as unknown as Client;
		this.session = {
			id: Buffer.alloc(16),
			client,
			flags: SessionFlag.backChannel,
			callbackProgram: 1,
			callbackSecurity: Buffer.alloc(0),
			channelFlags: 0,
		} as unknown as Session;
		this.channel = {
			closed: false,
			isSpared: false,
			number: 1,
			call: (call: ServerCall) => {
				if (call.procedure === CallbackProcedure.null) return Promise.resolve(XdrReader.over(Buffer.alloc(0)));
				return new Promise((resolve, reject) => {
					this.calls.push({ settle: (answer) => (answer instanceof CallError ? reject(answer) : resolve(answer)) });
				});
			},
			whenClosed: () => {},
		};
	}
}

function channelsFor(peers: readonly Peer[]): BackChannels {
	const channels = new BackChannels();
	const sessionsOf = (client: Client) => peers.map(({ session }) => session).filter((session) => session.client === client);
	channels.attach({ sessionsOf } as unknown as ClaimOperations);
	for (const { session, channel } of peers) channels.bind(session, channel);
	return channels;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const notify = (channels: BackChannels, { session }: Peer) => channels.notifyLock(session.client, Buffer.from("owner"), Buffer.alloc(40));

/** CB_COMPOUND that was done. */
function done(): XdrReader {
	const reply = XdrWriter.growing();
	reply.u64(0, 0);
	reply.u32(0);
	return XdrReader.over(new Uint8Array(reply.copyFrom(0)));
}

test("a client that does not answer one callback is not asked again for each that waits behind it", async () => {
	const peer = new Peer();
	const channels = channelsFor([peer]);
	for (let i = 0; i < 5; i++) notify(channels, peer);
	assert.equal(peer.calls.length, 1, "one at a time");
	peer.calls[0].settle(done());
	await turn();
	assert.equal(peer.calls.length, 2);
	peer.calls[1].settle(new CallError("late", "no answer"));
	await turn();
	assert.equal(peer.calls.length, 2, "the other three are dropped");
	notify(channels, peer);
	assert.equal(peer.calls.length, 3, "and a new one is tried");
});

test("what waits for all clients together has a bound, which a session that goes gives back", async () => {
	const [first, ...others] = Array.from({ length: 10 }, () => new Peer());
	const channels = channelsFor([first, ...others]);
	for (const peer of others) for (let i = 0; i < 1025; i++) notify(channels, peer);
	for (let i = 0; i < 3; i++) notify(channels, first);
	first.calls[0].settle(done());
	await turn();
	assert.equal(first.calls.length, 1, "there is room for the first callback alone");
	channels.forget(others[0].session);
	for (let i = 0; i < 3; i++) notify(channels, first);
	first.calls[1].settle(done());
	await turn();
	assert.equal(first.calls.length, 3);
});
