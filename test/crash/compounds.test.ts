/** Promise: a compound of NFSv4.1 that is stopped before any call that changes the disk is done once, and sent again it gets its first outcome. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openClaims } from "../../src/claims/open-claims.ts";
import type { ClaimOperations } from "../../src/claims/operations.ts";
import { Exports } from "../../src/exports/exports.ts";
import { interceptChanges } from "../../src/linux/libc.ts";
import { Nfs4Service } from "../../src/nfs4/nfs4-service.ts";
import { Op } from "../../src/nfs4/protocol.ts";
import { Status } from "../../src/nfs4/status.ts";
import type { CallChannel, SuspendedCall } from "../../src/rpc/program.ts";
import { xdr } from "../../src/rpc/rpc-client.test-support.ts";
import { AuthFlavor } from "../../src/rpc/rpc-message.ts";
import {
	ANONYMOUS,
	BACK_CHANNEL,
	bytesOf,
	CHANNEL,
	type CompoundReply,
	CURRENT,
	compoundArgs,
	fattr,
	NO_ATTRIBUTES,
	OK,
	pass,
	passSequence,
	ROOT_STEP,
	readCompound,
	type Step,
	stateidOf,
} from "../../src/server/nfs4-client.test-support.ts";
import { XdrReader } from "../../src/xdr/xdr-reader.ts";
import { XdrWriter } from "../../src/xdr/xdr-writer.ts";
import { full, needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { CrashError, Lowers, ROOT, Stage } from "./stage.ts";

const skip = needs("root");
const [UNCHECKED, GUARDED, EXCLUSIVE] = [0, 1, 3];
const [SIZE, MODE] = [4, 33];
const FILE_SYNC = 2;
/** Of the calls of a compound one of so many is tried, but in `npm run test:all`. */
const STRIDE = full ? 1 : 3;

const PEER = { address: "127.0.0.1", isPrivileged: true, isOtherUser: false };
const CALLER = { peer: PEER, flavor: AuthFlavor.sys, user: ROOT };
const CHANNEL_OF_TEST: CallChannel = {
	closed: false,
	isSpared: false,
	number: 1,
	call: () => Promise.reject(new Error("nobody is there")),
	whenClosed() {},
};

/** The server of a stage, without its network. */
class Served {
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
		let reply = XdrWriter.growing();
		try {
			let left = compound.run(CALLER, XdrReader.over(compoundArgs(steps)), reply, null, CHANNEL_OF_TEST) as SuspendedCall | undefined;
			while (left !== undefined) {
				await left.ready.catch(() => {});
				if (isStopped()) return null;
				reply = XdrWriter.growing();
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

type Prepare = (served: Served) => Promise<readonly Step[]>;

function opening(name: string, mode: number | null, ...more: readonly (readonly [number, number | { raw: Buffer }])[]): Step {
	const head: Step = [Op.open, 0, 3, 0, 0, 0, "owner"];
	if (mode === null) return [...head, 0, 0, name];
	const attributes = fattr(...more, [MODE, 0o640]);
	return mode === EXCLUSIVE
		? [...head, 1, mode, { raw: Buffer.from("verifier") }, attributes, 0, name]
		: [...head, 1, mode, attributes, 0, name];
}

const close: Step = [Op.close, 0, CURRENT];
const lookup = (name: string): Step => [Op.lookup, name];
const write = (text: string, stable = FILE_SYNC): Step => [Op.write, ANONYMOUS, 0, 0, stable, text];
const plain =
	(...steps: readonly Step[]): Prepare =>
	async () =>
		steps;

/** Opens a file beforehand; `then` makes the compound of its stateid. */
const withOpen =
	(name: string, then: (open: { raw: Buffer }, served: Served) => readonly Step[] | Promise<readonly Step[]>): Prepare =>
	async (served) => {
		const { reader } = await served.run(ROOT_STEP, opening(name, null));
		pass(reader, Op.putrootfh, Op.open);
		return then(stateidOf(reader), served);
	};

const locking = (open: { raw: Buffer }): Step => [Op.lock, 2, 0, 0, 5, 0, 9, 1, 0, open, 0, 0, 0, "locker"];

const COMPOUNDS: readonly (readonly [string, Prepare])[] = [
	["OPEN that makes a file", plain(ROOT_STEP, opening("new", UNCHECKED), [Op.getfh])],
	["OPEN, guarded, and CLOSE", plain(ROOT_STEP, opening("new", GUARDED), [Op.write, CURRENT, 0, 0, FILE_SYNC, "text"], close)],
	["OPEN, exclusive, below a directory that is copied up", plain(ROOT_STEP, lookup("d"), lookup("sub"), opening("new", EXCLUSIVE))],
	["OPEN that cuts a file of a lower", plain(ROOT_STEP, opening("file", UNCHECKED, [SIZE, { raw: xdr(0, 0) }]))],
	["OPEN of a file that is there", plain(ROOT_STEP, opening("file", UNCHECKED), close)],
	["CREATE of a directory", plain(ROOT_STEP, lookup("d"), [Op.create, 2, "new", NO_ATTRIBUTES])],
	["CREATE of a symlink", plain(ROOT_STEP, [Op.create, 5, "target", "new", NO_ATTRIBUTES])],
	["REMOVE of a file", plain(ROOT_STEP, lookup("d"), [Op.remove, "in"])],
	["REMOVE of a directory", plain(ROOT_STEP, [Op.remove, "empty"])],
	["REMOVE of one of several names", plain(ROOT_STEP, lookup("links"), [Op.remove, "one"])],
	["REMOVE of a file that is open", withOpen("file", () => [ROOT_STEP, [Op.remove, "file"]])],
	["RENAME over another file", plain(ROOT_STEP, lookup("d"), [Op.savefh], ROOT_STEP, [Op.rename, "in", "file"])],
	["RENAME of a directory", plain(ROOT_STEP, [Op.savefh], [Op.rename, "merged", "moved"])],
	["LINK", plain(ROOT_STEP, lookup("file"), [Op.savefh], ROOT_STEP, [Op.link, "linked"])],
	["SETATTR of a mode", plain(ROOT_STEP, lookup("file"), [Op.setattr, ANONYMOUS, fattr([MODE, 0o604])])],
	["SETATTR of a size", plain(ROOT_STEP, lookup("file"), [Op.setattr, ANONYMOUS, fattr([SIZE, { raw: xdr(0, 3) }])])],
	["WRITE", plain(ROOT_STEP, lookup("file"), write("WRITTEN"))],
	["WRITE and COMMIT", plain(ROOT_STEP, lookup("file"), write("WRITTEN", 0), [Op.commit, 0, 0, 0])],
	[
		"several changes",
		plain(
			ROOT_STEP,
			[Op.create, 2, "a", NO_ATTRIBUTES],
			opening("b", GUARDED),
			close,
			ROOT_STEP,
			[Op.remove, "file2"],
			[Op.create, 2, "c", NO_ATTRIBUTES],
		),
	],
	[
		"OPEN, SETATTR of a size and CLOSE",
		plain(ROOT_STEP, opening("new", UNCHECKED), [Op.setattr, CURRENT, fattr([SIZE, { raw: xdr(0, 9) }])], close),
	],
	[
		"LOCK, WRITE, LOCKU and CLOSE",
		withOpen("file", (open) => {
			const writing: Step = [Op.write, CURRENT, 0, 0, FILE_SYNC, "text"];
			const unlocking: Step = [Op.locku, 2, 0, CURRENT, 0, 5, 0, 9];
			return [ROOT_STEP, lookup("file"), locking(open), writing, unlocking, [Op.close, 0, open]];
		}),
	],
	["LOCK", withOpen("file", (open) => [ROOT_STEP, lookup("file"), locking(open)])],
	[
		"OPEN_DOWNGRADE",
		withOpen("file", async (open, served) => {
			await served.run(ROOT_STEP, [Op.open, 0, 1, 0, 0, 0, "owner", 0, 0, "file"]);
			return [ROOT_STEP, lookup("file"), [Op.openDowngrade, { raw: Buffer.concat([Buffer.alloc(4), open.raw.subarray(4)]) }, 0, 1, 0]];
		}),
	],
	["CLOSE", withOpen("file", (open) => [ROOT_STEP, lookup("file"), [Op.close, 0, open]])],
	[
		"CLOSE of a file that has no name any more",
		withOpen("file", async (open, served) => {
			const { reader } = await served.run(ROOT_STEP, lookup("file"), [Op.getfh], ROOT_STEP, [Op.remove, "file"]);
			pass(reader, Op.putrootfh, Op.lookup, Op.getfh);
			return [
				[Op.putfh, bytesOf(reader)],
				[Op.close, 0, open],
			];
		}),
	],
];

let serial = 0;

/** Runs a compound up to the call of this number, kills the server, and sends it again, and once more after another kill. Whether it came to its end. */
async function stopAt(
	lowers: Lowers,
	prepare: Prepare,
	limit: number,
	expected: unknown,
): Promise<{ readonly calls: number; readonly seen: unknown }> {
	const served = await new Served(lowers, `stage ${serial++}`).start().connect();
	const steps = served.next(await prepare(served));
	let calls = 0;
	let isStopped = false;
	interceptChanges((name) => {
		if (calls >= limit) {
			isStopped = true;
			throw new CrashError(`before ${name}, call ${limit}`);
		}
		calls++;
	});
	const first = await served.send(steps, () => isStopped).finally(() => interceptChanges(null));
	const seen = isStopped ? expected : await served.seen();
	if (!isStopped) assert.equal(first?.status, OK);
	for (let repetition = 0; repetition < 2; repetition++) {
		served.kill();
		served.start();
		const again = await served.send(steps);
		assert.deepEqual([again?.status, again?.count], [OK, steps.length], `stopped before call ${limit}, sent again ${repetition + 1} times`);
		assert.deepEqual(await served.seen(), seen, `stopped before call ${limit}, sent again ${repetition + 1} times`);
	}
	// the session goes on
	await served.run(ROOT_STEP, [Op.create, 2, "next", NO_ATTRIBUTES]);
	served.kill();
	served.stage.remove();
	return { calls, seen };
}

test("a compound that is stopped before any call is done once, and sent again it gets its first outcome", {
	skip,
}, async (t: TestContext) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	const before = lowers.inodes();
	for (const [index, [name, prepare]] of COMPOUNDS.entries()) {
		await t.test(name, async (t) => {
			const { calls, seen } = await stopAt(lowers, prepare, Number.POSITIVE_INFINITY, null);
			for (let limit = index % STRIDE; limit < calls; limit += STRIDE) await stopAt(lowers, prepare, limit, seen);
			t.diagnostic(`${calls} calls`);
		});
	}
	assert.equal(lowers.inodes(), before);
});

/** A WRITE is done again by the client, in a session that lives. */
const ANSWERED = COMPOUNDS.filter(([name]) => !/WRITE|SETATTR of a size and|guarded/.test(name));

test("in another boot of the host the compound gets its first outcome too, and its session nothing new", {
	skip,
}, async (t: TestContext) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	for (const [name, prepare] of ANSWERED) {
		const served = await new Served(lowers, `stage ${serial++}`).start().connect();
		const steps = served.next(await prepare(served));
		const { status } = (await served.send(steps)) as CompoundReply;
		assert.equal(status, OK, name);
		served.kill();
		served.start("boot 2");
		const seen = await served.seen();
		for (let repetition = 0; repetition < 2; repetition++) {
			const again = await served.send(steps);
			assert.deepEqual([again?.status, again?.count], [OK, steps.length], name);
		}
		const other = await served.send(served.next([ROOT_STEP]));
		assert.deepEqual([other?.status, other?.count], [Status.deadsession, 1], name);
		assert.deepEqual(await served.seen(), seen, name);
		served.kill();
		served.stage.remove();
	}
});
