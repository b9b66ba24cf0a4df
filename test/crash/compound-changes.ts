import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { NFS_PROGRAM, NFS_VERSION_4, Op } from "../../src/nfs4/protocol.ts";
import { Status } from "../../src/nfs4/status.ts";
import { xdr } from "../../src/rpc/rpc-client.test-support.ts";
import {
	ANONYMOUS,
	BACK_CHANNEL,
	CHANNEL,
	CURRENT,
	compoundArgs,
	fattr,
	NO_ATTRIBUTES,
	type Step,
} from "../../src/server/nfs4-client.test-support.ts";
import type { XdrReader } from "../support/xdr-codec.ts";
import type { Answered, Changes } from "./actor.ts";
import type { ResendingConnection } from "./resending-connection.ts";

const [SIZE, MODE] = [4, 33];
const [UNCHECKED, GUARDED] = [0, 1];
const [DIRECTORY, SYMLINK] = [2, 5];
const AGAIN_MS = 20;
const ROOT = { uid: 0, gid: 0 };

interface Reply {
	readonly status: number;
	/** By GETFH. */
	readonly handle: Buffer | null;
	readonly count: number;
}

/** The same changes by compounds of NFS version 4.1, in a session of its own. Some look at what they change first, as some clients do. */
export class CompoundChanges implements Changes {
	readonly #connection: ResendingConnection;
	readonly #random: (below: number) => number;
	#session: Buffer = Buffer.alloc(16);
	#sequence = 0;

	constructor(connection: ResendingConnection, random: (below: number) => number) {
		this.#connection = connection;
		this.#random = random;
	}

	async connect(name: string): Promise<this> {
		const exchanged = await this.#send([[Op.exchangeId, { raw: Buffer.alloc(8, 1) }, name, 0, 0, 0]]);
		assert.deepEqual([exchanged.u32(), exchanged.u32()], [Op.exchangeId, 0]);
		const client = exchanged.fixed(8);
		const made = await this.#send([[Op.createSession, { raw: client }, exchanged.u32(), 1, ...CHANNEL, ...BACK_CHANNEL, 0, 1, 0]]);
		assert.deepEqual([made.u32(), made.u32()], [Op.createSession, 0]);
		this.#session = Buffer.from(made.fixed(16));
		assert.equal((await this.#run([[Op.reclaimComplete, 0]])).status, 0);
		return this;
	}

	/** The results, of a compound that was done. */
	async #send(steps: readonly Step[]): Promise<XdrReader> {
		const reader = await this.#connection.call(NFS_PROGRAM, NFS_VERSION_4, 1, compoundArgs(steps), ROOT);
		assert.equal(reader.u32(), 0);
		reader.opaque();
		reader.u32();
		return reader;
	}

	/** A compound in the session, again under a new sequence where it is to wait. */
	async #run(steps: readonly Step[]): Promise<Reply> {
		for (;;) {
			this.#sequence++;
			const all: Step[] = [[Op.sequence, { raw: this.#session }, this.#sequence, 0, 0, true], ...steps];
			const reader = await this.#connection.call(NFS_PROGRAM, NFS_VERSION_4, 1, compoundArgs(all), ROOT);
			const status = reader.u32();
			reader.opaque();
			const count = reader.u32();
			if (status !== Status.delay) return { status, ...results(reader, count) };
			await sleep(AGAIN_MS);
		}
	}

	async create(directory: Buffer, name: string, how: { guarded: { mode: number } } | { unchecked: { size: bigint } }): Promise<Answered> {
		const made =
			"guarded" in how
				? [1, GUARDED, fattr([MODE, how.guarded.mode])]
				: [1, UNCHECKED, fattr([SIZE, { raw: xdr(0, Number(how.unchecked.size)) }])];
		const looking: Step[] = this.#random(2) === 0 ? [] : [[Op.access, 63]];
		return this.#run([
			[Op.putfh, directory],
			...looking,
			[Op.open, 0, 3, 0, 0, 0, "owner", ...made, 0, name],
			[Op.getfh],
			[Op.close, 0, CURRENT],
		]);
	}

	mkdir(directory: Buffer, name: string, { mode }: { mode: number }): Promise<Answered> {
		return this.#run([[Op.putfh, directory], [Op.create, DIRECTORY, name, fattr([MODE, mode])], [Op.getfh]]);
	}

	symlink(directory: Buffer, name: string, target: string): Promise<Answered> {
		return this.#run([[Op.putfh, directory], [Op.create, SYMLINK, target, name, NO_ATTRIBUTES], [Op.getfh]]);
	}

	mknod(directory: Buffer, name: string, type: number, { mode }: { mode: number }): Promise<Answered> {
		return this.#run([[Op.putfh, directory], [Op.create, type, name, fattr([MODE, mode])], [Op.getfh]]);
	}

	link(object: Buffer, directory: Buffer, name: string): Promise<Answered> {
		return this.#run([[Op.putfh, object], [Op.savefh], [Op.putfh, directory], [Op.link, name]]);
	}

	remove(directory: Buffer, name: string): Promise<Answered> {
		const looking: Step[] =
			this.#random(2) === 0
				? []
				: [
						[Op.lookup, name],
						[Op.access, 63],
						[Op.putfh, directory],
					];
		return this.#run([[Op.putfh, directory], ...looking, [Op.remove, name]]);
	}

	rmdir(directory: Buffer, name: string): Promise<Answered> {
		return this.remove(directory, name);
	}

	rename(from: Buffer, fromName: string, to: Buffer, toName: string): Promise<Answered> {
		const looking: Step[] =
			this.#random(2) === 0
				? []
				: [
						[Op.lookup, fromName],
						[Op.putfh, from],
					];
		return this.#run([[Op.putfh, from], ...looking, [Op.savefh], [Op.putfh, to], [Op.rename, fromName, toName]]);
	}

	write(object: Buffer, offset: bigint, data: Uint8Array, stable: number): Promise<Answered> {
		return this.#run([
			[Op.putfh, object],
			[Op.write, ANONYMOUS, Number(offset >> 32n), Number(offset & 0xffffffffn), stable, Buffer.from(data)],
		]);
	}

	commit(object: Buffer): Promise<unknown> {
		return this.#run([
			[Op.putfh, object],
			[Op.commit, 0, 0, 0],
		]);
	}

	setattr(object: Buffer, { mode }: { mode: number }): Promise<Answered> {
		return this.#run([
			[Op.putfh, object],
			[Op.setattr, ANONYMOUS, fattr([MODE, mode])],
		]);
	}
}

function passBitmap(reader: XdrReader): void {
	reader.fixed(4 * reader.u32());
}

/** What these compounds are answered; the results end with the first that has failed. */
function results(reader: XdrReader, count: number): Omit<Reply, "status"> {
	const found = { handle: null as Buffer | null, count: 0 };
	for (let index = 0; index < count; index++) {
		const [number, status] = [reader.u32(), reader.u32()];
		if (status !== 0) break;
		if (number === Op.sequence) reader.fixed(36);
		else if (number === Op.access) reader.fixed(8);
		else if (number === Op.open) {
			reader.fixed(16 + 20 + 4);
			passBitmap(reader);
			assert.equal(reader.u32(), 0, "a delegation");
		} else if (number === Op.create) {
			reader.fixed(20);
			passBitmap(reader);
		} else if (number === Op.getfh) found.handle = Buffer.from(reader.opaque(128));
		else if (number === Op.close) reader.fixed(16);
		else if (number === Op.link || number === Op.remove) reader.fixed(20);
		else if (number === Op.rename) reader.fixed(40);
		else if (number === Op.setattr) passBitmap(reader);
		else if (number === Op.write) {
			found.count = reader.u32();
			reader.fixed(12);
		} else if (number === Op.commit) reader.fixed(8);
	}
	return found;
}
