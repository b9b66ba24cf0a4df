// The client that warms up version 4.1 of the server: compounds as the Linux client makes them, on files of its own.

import { NFS_PROGRAM } from "../nfs3/protocol.ts";
import { NFS_VERSION_4, Op } from "../nfs4/protocol.ts";
import { type Connection, name, opaque, words } from "./warm-up-calls.ts";

const COMPOUND = 1;
/** Compounds that are sent at once, each on a slot of its own. */
const SLOTS = 8;
const DATA_BYTES = 1000;
/** So many times a round makes files that it closes at once: OPEN and CLOSE have the most code, and nothing of version 3 goes through it. */
const OPENINGS = 6;
/** Limits of a channel as the Linux client asks for them: the fore channel, then the back channel. */
const CHANNELS = words(0, 1_049_620, 1_049_480, 7584, 32, 64, 0, 0, 4096, 4096, 0, 2, 16, 0);
const CALLBACK_PROGRAM = 0x40000000;
/** What the Linux client asks of each object. */
const ATTRIBUTES = words(2, 0x0010011a, 0x00b0a23a);
const MODE = words(2, 0, 2, 4, 0o640);
/** In replies: behind the header of the call, the status and the tag, and behind the results of SEQUENCE and of what has none. */
const RESULTS_AT = 36;
const SEQUENCE_BYTES = 44;
const PLAIN_BYTES = 8;

/** An operation with its arguments. */
type Step = readonly Buffer[];
const step = (operation: number, ...args: readonly Buffer[]): Step => [words(operation), ...args];

const TO_ROOT = step(Op.putrootfh);
const GETATTR = step(Op.getattr, ATTRIBUTES);
const GETFH = step(Op.getfh);
const CURRENT_STATEID = words(1, 0, 0, 0);
const to = (file: Opened): Step => step(Op.putfh, file.handle);

interface Opened {
	/** With their lengths, as they are sent. */
	readonly handle: Buffer;
	readonly stateid: Buffer;
}

/** One session of one client. */
export class WarmUpSession {
	readonly #connection: Connection;
	readonly #id: Buffer;
	readonly #sequences = new Array<number>(SLOTS).fill(0);

	private constructor(connection: Connection, id: Buffer) {
		this.#connection = connection;
		this.#id = id;
	}

	/** `owner`: tells the clients of a server apart. */
	static async open(connection: Connection, owner: string): Promise<WarmUpSession> {
		const known = await sendOne(connection, [step(Op.exchangeId, words(0, 1), name(owner), words(0, 0, 0))]);
		const from = RESULTS_AT + PLAIN_BYTES;
		const client = known.subarray(from, from + 12);
		const made = await sendOne(connection, [step(Op.createSession, client, words(0), CHANNELS, words(CALLBACK_PROGRAM, 1, 0))]);
		const session = new WarmUpSession(connection, made.subarray(from, from + 16));
		await session.#run([[step(Op.reclaimComplete, words(0))]]);
		return session;
	}

	/** Opens new files in the root, looks them up, writes, changes, reads, closes and removes them; asks and resolves as `WarmUpClient.round` does. */
	async round(number: number, goesOn: () => Promise<boolean>): Promise<boolean> {
		if (!(await goesOn())) return false;
		const names = Array.from({ length: SLOTS }, (_, i) => name(`opened-${number}-${i}`));
		const opens = names.map((one) => [TO_ROOT, openStep(one), GETFH, GETATTR]);
		const files = (await this.#run(opens)).map(openedIn);
		const rest = [
			files.map((file) => [to(file), step(Op.write, file.stateid, words(0, 0, 0), opaque(CONTENT)), GETATTR]),
			files.map((file) => [to(file), step(Op.setattr, file.stateid, MODE), GETATTR]),
			files.map((file) => [to(file), step(Op.access, words(0x1f)), GETATTR]),
			files.map((file) => [to(file), step(Op.read, file.stateid, words(0, 0, 4096))]),
			names.map((one) => [TO_ROOT, step(Op.lookup, one), GETFH, GETATTR]),
			files.map((file) => [to(file), GETATTR]),
			[[TO_ROOT, step(Op.readdir, words(0, 0, 0, 0, 4096, 16_384), ATTRIBUTES)]],
			files.map((file) => [to(file), step(Op.close, words(0), file.stateid), GETATTR]),
			names.map((one) => [TO_ROOT, step(Op.remove, one), GETATTR]),
		];
		for (let i = 0; i < OPENINGS; i++) {
			rest.push(names.map((one) => [TO_ROOT, openStep(one), GETFH, GETATTR, step(Op.close, words(0), CURRENT_STATEID)]));
			rest.push(names.map((one) => [TO_ROOT, step(Op.remove, one)]));
		}
		for (const compounds of rest) {
			if (!(await goesOn())) return false;
			await this.#run(compounds);
		}
		return true;
	}

	/** At once, each behind a SEQUENCE. */
	#run(compounds: readonly (readonly Step[])[]): Promise<Buffer[]> {
		const all = compounds.map((steps, slot) => {
			const sequence = ++this.#sequences[slot];
			return [step(Op.sequence, this.#id, words(sequence, slot, SLOTS - 1, 0)), ...steps];
		});
		return send(this.#connection, all);
	}
}

/** OPEN for reading and writing, which makes the file if need be. */
function openStep(file: Buffer): Step {
	return step(Op.open, words(0, 3, 0, 0, 0), name("owner"), words(1, 0), MODE, words(0), file);
}

function openedIn(reply: Buffer): Opened {
	const from = RESULTS_AT + SEQUENCE_BYTES + 2 * PLAIN_BYTES;
	// the stateid, how the directory has changed, and flags come before the attributes that were set
	const set = from + 16 + 20 + 4;
	let at = set + 4 + 4 * reply.readUInt32BE(set);
	const hasReason = reply.readUInt32BE(at) === 3;
	at += hasReason ? ([1, 2].includes(reply.readUInt32BE(at + 4)) ? 12 : 8) : 4;
	const handle = at + PLAIN_BYTES;
	return {
		stateid: reply.subarray(from, from + 16),
		handle: reply.subarray(handle, handle + 4 + ((reply.readUInt32BE(handle) + 3) & ~3)),
	};
}

const CONTENT = Buffer.alloc(DATA_BYTES, 1);

async function sendOne(connection: Connection, steps: readonly Step[]): Promise<Buffer> {
	return (await send(connection, [steps]))[0];
}

async function send(connection: Connection, compounds: readonly (readonly Step[])[]): Promise<Buffer[]> {
	const calls = compounds.map((steps) => [words(0, 1, steps.length), ...steps.flat()]);
	const replies = await connection.call([COMPOUND, calls], NFS_PROGRAM, NFS_VERSION_4);
	for (const reply of replies) if (reply.readUInt32BE(24) !== 0) throw new Error(`A compound was answered with ${reply.readUInt32BE(24)}`);
	return replies;
}
