// Back channels: which connections carry calls to the client of a session, and those calls.

import type { ClaimOperations, Client, Session } from "../claims/operations.ts";
import type { CallChannel, ServerCall } from "../rpc/program.ts";
import { CallError } from "../rpc/server-calls.ts";
import { XdrError } from "../xdr/xdr-error.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import {
	CALLBACK_VERSION,
	CallbackOp,
	CallbackProcedure,
	ChannelFlag,
	MINOR_VERSION,
	OPAQUE_BYTES_MAX,
	SESSION_ID_BYTES,
	SessionFlag,
} from "./protocol.ts";
import { Status } from "./status.ts";

const TIMEOUT_MILLISECONDS = 10_000;
/** Connections of one session that carry callbacks; a further one takes the place of the first. */
const CHANNELS_MAX = 16;
/** Callbacks of one session that wait for their turn; a further one is dropped: all of them are hints. */
const WAITING_MAX = 1024;
/** Of all sessions together. */
const WAITING_TOTAL_MAX = 8192;

const PATH_FLAGS = ChannelFlag.pathDown | ChannelFlag.sessionPathDown | ChannelFlag.fault;

/** The back channel of one session: one callback at a time, by one slot. */
interface BackChannel {
	readonly session: Session;
	channels: CallChannel[];
	sequence: number;
	isBusy: boolean;
	readonly waiting: ((call: XdrWriter) => void)[];
}

export class BackChannels {
	readonly #bySession = new Map<Session, BackChannel>();
	/** What each connection carries callbacks of, or has once carried. It is forgotten when it closes. */
	readonly #byChannel = new Map<CallChannel, Set<BackChannel>>();
	#waiting = 0;
	#claims: ClaimOperations | null = null;

	/** Claims and back channels need each other. */
	attach(claims: ClaimOperations): void {
		this.#claims = claims;
	}

	/** A connection carries callbacks of a session from now on. Whether that works is told by a probe. */
	bind(session: Session, channel: CallChannel): void {
		const back = this.#of(session);
		if (!back.channels.includes(channel)) {
			back.channels.push(channel);
			channel.isSpared = true;
			this.#carry(back, channel);
			if (back.channels.length > CHANNELS_MAX) this.#release(back, back.channels.shift() as CallChannel);
		}
		this.#probe(back, channel);
	}

	/** A request came by a session: where it had a back channel before a restart, the client is to bind one again. */
	seen(session: Session): void {
		if ((session.flags & SessionFlag.backChannel) === 0 || this.#bySession.has(session)) return;
		this.#of(session);
		this.#noteDown(session);
	}

	/** The session was destroyed. */
	forget(session: Session): void {
		const back = this.#bySession.get(session);
		if (back === undefined) return;
		this.#bySession.delete(session);
		for (const channel of back.channels) this.#release(back, channel);
		back.channels = [];
		this.#dropWaiting(back);
	}

	/** CB_NOTIFY_LOCK (RFC 8881 section 20.11), by any session of the client that has a way to it. */
	notifyLock(client: Client, owner: Uint8Array, handle: Uint8Array): void {
		for (const session of (this.#claims as ClaimOperations).sessionsOf(client)) {
			const back = this.#bySession.get(session);
			if (back === undefined || back.channels.length === 0) continue;
			this.#call(back, (call) => {
				call.u32(CallbackOp.notifyLock);
				call.opaque(handle);
				call.u64(client.hi, client.lo);
				call.opaque(owner);
			});
			return;
		}
	}

	#of(session: Session): BackChannel {
		let back = this.#bySession.get(session);
		if (back === undefined) {
			back = { session, channels: [], sequence: 1, isBusy: false, waiting: [] };
			this.#bySession.set(session, back);
		}
		return back;
	}

	/** A connection is listened to once, however many sessions come and go by it. */
	#carry(back: BackChannel, channel: CallChannel): void {
		const carried = this.#byChannel.get(channel);
		if (carried !== undefined) {
			carried.add(back);
			return;
		}
		this.#byChannel.set(channel, new Set([back]));
		channel.whenClosed(() => this.#closed(channel));
	}

	#closed(channel: CallChannel): void {
		const carried = this.#byChannel.get(channel) ?? [];
		this.#byChannel.delete(channel);
		for (const back of carried) this.#lost(back, channel);
	}

	#lost(back: BackChannel, channel: CallChannel): void {
		back.channels = back.channels.filter((one) => one !== channel);
		this.#release(back, channel);
		if (back.channels.length === 0 && this.#bySession.get(back.session) === back) this.#noteDown(back.session);
	}

	/** Nothing else makes the connection one that is kept. */
	#release(back: BackChannel, channel: CallChannel): void {
		const carried = this.#byChannel.get(channel);
		carried?.delete(back);
		if (carried === undefined || carried.size === 0) channel.isSpared = false;
	}

	#noteDown(session: Session): void {
		session.channelFlags |= ChannelFlag.sessionPathDown;
		const { client } = session;
		const sessions = [...(this.#claims as ClaimOperations).sessionsOf(client)];
		const hasPath = sessions.some((one) => (this.#bySession.get(one)?.channels.length ?? 0) > 0);
		if (!hasPath) for (const one of sessions) one.channelFlags |= ChannelFlag.pathDown;
	}

	#noteUp(session: Session): void {
		session.channelFlags &= ~PATH_FLAGS;
		for (const one of (this.#claims as ClaimOperations).sessionsOf(session.client)) one.channelFlags &= ~ChannelFlag.pathDown;
	}

	#probe(back: BackChannel, channel: CallChannel): void {
		const call = this.#header(back, CallbackProcedure.null, () => {});
		channel.call(call).then(
			() => this.#noteUp(back.session),
			(error: unknown) => {
				if (!(error instanceof CallError)) throw error;
				if (back.channels.includes(channel)) back.session.channelFlags |= ChannelFlag.fault;
			},
		);
	}

	#header({ session }: BackChannel, procedure: number, encode: ServerCall["encode"]): ServerCall {
		return {
			program: session.callbackProgram,
			version: CALLBACK_VERSION,
			procedure,
			credential: session.callbackSecurity.length === 0 ? null : session.callbackSecurity,
			encode,
			timeoutMilliseconds: TIMEOUT_MILLISECONDS,
		};
	}

	#call(back: BackChannel, operation: (call: XdrWriter) => void): void {
		// others that do not answer take nobody's first one away
		if (!back.isBusy || (back.waiting.length < WAITING_MAX && this.#waiting < WAITING_TOTAL_MAX)) {
			back.waiting.push(operation);
			this.#waiting++;
		}
		if (!back.isBusy) this.#next(back);
	}

	#next(back: BackChannel): void {
		const operation = back.waiting.shift();
		if (operation !== undefined) this.#waiting--;
		const channel = back.channels.at(-1);
		if (operation === undefined || channel === undefined) {
			back.isBusy = false;
			this.#dropWaiting(back);
			return;
		}
		back.isBusy = true;
		const call = this.#header(back, CallbackProcedure.compound, (writer) => {
			writer.u32(0); // tag
			writer.u64(MINOR_VERSION, 0);
			writer.u64(2, CallbackOp.sequence);
			writer.raw(back.session.id);
			writer.u64(back.sequence, 0);
			writer.u32(0); // highest slot
			writer.u64(0, 0); // not to be kept, and no referring calls
			operation(writer);
		});
		channel.call(call).then(
			(results) => this.#answered(back, channel, results),
			(error: unknown) => {
				if (!(error instanceof CallError)) throw error;
				// whether it was taken is not known: the client tells by its answer to the next one
				if (error.reason !== "too-many") back.session.channelFlags |= ChannelFlag.fault;
				// who does not answer is not asked again for each of them
				if (error.reason === "late") this.#dropWaiting(back);
				this.#next(back);
			},
		);
	}

	#dropWaiting({ waiting }: BackChannel): void {
		this.#waiting -= waiting.length;
		waiting.length = 0;
	}

	/** The number of the slot moves only with a CB_SEQUENCE that the client has taken. */
	#answered(back: BackChannel, channel: CallChannel, results: XdrReader): void {
		const status = sequenceStatus(results);
		if (status === Status.ok) back.sequence = (back.sequence % 0xffffffff) + 1;
		else if (status === Status.seqMisordered || status === null) {
			back.session.channelFlags |= ChannelFlag.fault;
			back.sequence = 1;
		} else if (status === Status.badsession) this.#lost(back, channel);
		this.#next(back);
	}
}

/** What CB_SEQUENCE was answered; null where the answer makes no sense. */
function sequenceStatus(results: XdrReader): number | null {
	try {
		const status = results.u32();
		results.opaque(OPAQUE_BYTES_MAX);
		if (results.u32() === 0) return status;
		if (results.u32() !== CallbackOp.sequence) return null;
		const told = results.u32();
		if (told === Status.ok) results.fixed(SESSION_ID_BYTES);
		return told;
	} catch (error) {
		if (error instanceof XdrError) return null;
		throw error;
	}
}
