// A server of NFSv4.1 over a stage of the crash tests, without its network, and a client of it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { openClaims } from "../../src/claims/open-claims.ts";
import type { ClaimOperations } from "../../src/claims/operations.ts";
import { Exports } from "../../src/exports/exports.ts";
import { allocate } from "../../src/linux/memory.ts";
import { Nfs4Service } from "../../src/nfs4/nfs4-service.ts";
import { Op } from "../../src/nfs4/protocol.ts";
import type { CallChannel, SuspendedCall } from "../../src/rpc/program.ts";
import { AuthFlavor } from "../../src/rpc/rpc-message.ts";
import {
	BACK_CHANNEL,
	bytesOf,
	CHANNEL,
	type CompoundReply,
	compoundArgs,
	OK,
	pass,
	passSequence,
	readCompound,
	type Step,
} from "../../src/server/nfs4-client.test-support.ts";
import { XdrReader } from "../../src/xdr/xdr-reader.ts";
import { Slab, type TakeSlab, XdrWriter } from "../../src/xdr/xdr-writer.ts";
import { CrashError, type Lowers, ROOT, Stage } from "./stage.ts";

const PEER = { address: "127.0.0.1", isPrivileged: true, isOtherUser: false };
const CALLER = { peer: PEER, flavor: AuthFlavor.sys, user: ROOT };
const CHANNEL_OF_TEST: CallChannel = {
	closed: false,
	isSpared: false,
	number: 1,
	call: () => Promise.reject(new Error("nobody is there")),
	whenClosed() {},
};

/** READ has the kernel write into it. */
function writer(): XdrWriter {
	const take: TakeSlab = (size) => new Slab(allocate(Math.max(64 * 1024, size * 2)));
	return new XdrWriter(take, take(0));
}

/** The server of a stage, without its network. */
export class Served {
	readonly stage: Stage;
	#service!: Nfs4Service;
	claims!: ClaimOperations & { readonly tables: { readonly opens: number; readonly locks: number } };
	clientId: Buffer = Buffer.alloc(8);
	session: Buffer = Buffer.alloc(16);
	sequence = 0;

	constructor(lowers: Lowers, name: string) {
		this.stage = new Stage(lowers, name);
		this.stage.restoresHolds = true;
	}

	start(bootId = "boot 1"): this {
		const exports = new Exports([{ name: "/", overlay: this.stage.open() }]);
		const options = { folder: join(this.stage.work, "holdfast/nfs4"), bootId, limits: { reclaimFirstSeconds: 0 } };
		this.#service = new Nfs4Service(
			exports,
			{
				claims: (hooks) => {
					const claims = openClaims({ ...options, hooks });
					this.claims = claims;
					return claims;
				},
			},
			Date.now,
			() => {},
		);
		this.#service.start();
		return this;
	}

	/** As a kill leaves it. */
	kill(): void {
		this.#service.stop();
		this.claims.destroy();
		this.stage.abandon();
	}

	/** Null: the world was stopped before it was answered. */
	async send(steps: readonly Step[], isStopped: () => boolean = () => false): Promise<CompoundReply | null> {
		const [, compound] = this.#service.program.versions.get(4) ?? [];
		let reply = writer();
		try {
			let left = compound.run(CALLER, XdrReader.over(compoundArgs(steps)), reply, null, CHANNEL_OF_TEST) as SuspendedCall | undefined;
			while (left !== undefined) {
				await left.ready.catch(() => {});
				if (isStopped()) return null;
				reply = writer();
				left = left.resume(reply);
			}
		} catch (error) {
			if (!(error instanceof CrashError)) throw error;
		}
		if (isStopped()) return null;
		return readCompound(XdrReader.over(new Uint8Array(reply.copyFrom(0))));
	}

	async connect(): Promise<this> {
		const exchanged = await this.sendOk([Op.exchangeId, { raw: Buffer.from("verifier") }, "client", 0, 0, 0]);
		pass(exchanged.reader, Op.exchangeId);
		this.clientId = bytesOf(exchanged.reader, 8);
		const sequence = exchanged.reader.u32();
		const made = await this.sendOk([Op.createSession, { raw: this.clientId }, sequence, 1, ...CHANNEL, ...BACK_CHANNEL, 0, 1, 0]);
		pass(made.reader, Op.createSession);
		this.session = bytesOf(made.reader, 16);
		return this;
	}

	async sendOk(...steps: readonly Step[]): Promise<CompoundReply> {
		const reply = await this.send(steps);
		assert.equal(reply?.status, OK);
		return reply as CompoundReply;
	}

	/** The next compound in the session. */
	next(steps: readonly Step[]): readonly Step[] {
		this.sequence++;
		return [[Op.sequence, { raw: this.session }, this.sequence, 0, 0, true], ...steps];
	}

	async run(...steps: readonly Step[]): Promise<CompoundReply> {
		const reply = await this.sendOk(...this.next(steps));
		passSequence(reply.reader);
		return reply;
	}

	/** All that clients see: names, kinds, modes, links and contents; and what is open and locked. */
	async seen(): Promise<unknown> {
		const tree = await this.stage.observe(true);
		const objects = [...tree].map(
			([path, { type, mode, owner, nlink, content }]) => `${path} ${type} ${mode} ${owner} ${nlink} ${content}`,
		);
		const { opens, locks } = this.claims.tables;
		return { objects, opens, locks, held: [...this.claims.heldHandles()].length };
	}
}
