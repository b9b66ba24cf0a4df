// What claims tell the log: every change, after it was made in memory.

import type { ClientRecord, LockState, OpenState, SessionRecord, SlotAnswer, SlotRecord, Span } from "./records.ts";

/** The change of a request, with its answer. What requests change is written down together: by `settle`, before one of them is answered. */
export interface AnsweredChange {
	readonly slot: SlotRecord;
	readonly answer: SlotAnswer;
}

export interface ClaimLog {
	/** "nospc", "dquot" (ClaimError) unless what is opened or locked next can be written, and be taken back later on a full disk. */
	makeRoom(bytes: number): void;
	/** A client was confirmed. */
	client(client: ClientRecord): void;
	/** Its last CREATE_SESSION, and what that was answered. */
	created(client: ClientRecord): void;
	clientGone(client: ClientRecord): void;
	/** No client gets a number up to this one again. */
	clientNumbers(upTo: number): void;
	session(session: SessionRecord): void;
	sessionGone(session: SessionRecord): void;
	/** The request in this slot is going to change something. */
	slot(slot: SlotRecord): void;
	/** So far it has come. */
	progress(slot: SlotRecord, bytes: Uint8Array): void;
	/** What its retry gets: the reply, or word that there is none. */
	reply(slot: SlotRecord): void;
	/** An open is new, or has other modes. */
	open(change: AnsweredChange, open: OpenState): void;
	close(change: AnsweredChange, open: OpenState): void;
	/** Of the owner's ranges on the file: `isWrite` null unlocks. */
	lock(change: AnsweredChange, state: LockState, span: Span, isWrite: boolean | null, isNew: boolean): void;
	/** A stateid was freed. */
	freed(change: AnsweredChange, state: { readonly index: number; readonly generation: number }): void;
	reclaimed(change: AnsweredChange, client: ClientRecord): void;
	/** The client has lost its opens and locks. */
	revoked(client: ClientRecord): void;
	/** Its stateids do not stand for that any more. */
	revokedForgotten(client: ClientRecord): void;
	/** A request is about to be answered: what was changed so far is in the log when this returns. */
	settle(): void;
	/** Resolves when clients, sessions and progress that were told so far are on disk; null: they are, or there is no disk. */
	flush(): Promise<void> | null;
	/** Grace is over, or there was none. */
	graceEnded(): void;
	/** Each second: what could not be done before is tried again. */
	tick(): void;
	/** The end of the process: the next start goes on from here. */
	shutDown(): void;
	/** The same at once, and without a word: as if the process had been killed. */
	destroy(): void;
}

/** For a server that keeps nothing on disk. */
export const NO_LOG: ClaimLog = {
	makeRoom() {},
	client() {},
	created() {},
	clientGone() {},
	clientNumbers() {},
	session() {},
	sessionGone() {},
	slot() {},
	progress() {},
	reply() {},
	open() {},
	close() {},
	lock() {},
	freed() {},
	reclaimed() {},
	revoked() {},
	revokedForgotten() {},
	settle() {},
	flush: () => null,
	graceEnded() {},
	tick() {},
	shutDown() {},
	destroy() {},
};
