// Claims for tests: with a clock that stands still until it is told, and shorter ways to call them.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { cannotMount, scratch } from "../../test/support/scratch.ts";
import { untilReady as done } from "../overlay/operations/until-ready.ts";
import { Pending } from "../vfs/errors.ts";
import { type ClaimLog, NO_LOG } from "./claim-log.ts";
import { Claims } from "./claims.ts";
import { ClaimError, type ClaimErrorCode } from "./errors.ts";
import { type ClaimLimits, DEFAULT_CLAIM_LIMITS } from "./limits.ts";
import { type OpenClaimsOptions, openClaims } from "./open-claims.ts";
import type { ByteRange, ChannelAttributes, ClaimChange, ClaimHooks, ClientId, Session, Slot, Stateid } from "./operations.ts";
import { NO_LIST, type RecoveryList } from "./recovery-list.ts";

/** Runs a call as a front end does: again after each wait. */
export { done };

export const LEASE_SECONDS = 90;
export const CHANNEL: ChannelAttributes = {
	headerPadBytes: 0,
	requestBytes: 1_114_112,
	responseBytes: 1_114_112,
	keptResponseBytes: 7584,
	operations: 64,
	requests: 64,
};

/** Clients of tests say RECLAIM_COMPLETE only where that matters. */
const AT_ONCE = { reclaimFirstSeconds: 0 };

/** What claims told their front end. */
export class Told implements ClaimHooks {
	time = 1_000_000;
	readonly held = new Map<string, number>();
	readonly granted: string[] = [];
	readonly replaced: string[] = [];
	readonly warnings: string[] = [];
	readonly removedSessions: Session[] = [];
	readonly deferred: (() => void)[] = [];
	restoresEnded = 0;

	now = (): number => this.time;

	defer(work: () => void): void {
		this.deferred.push(work);
	}

	hold(handle: Uint8Array): void {
		const key = Buffer.from(handle).toString();
		this.held.set(key, (this.held.get(key) ?? 0) + 1);
	}

	letGo(handle: Uint8Array): void {
		const key = Buffer.from(handle).toString();
		const count = this.held.get(key);
		if (count === undefined) throw new Error(`${key} is not held`);
		if (count === 1) this.held.delete(key);
		else this.held.set(key, count - 1);
	}

	endOfRestore(): void {
		this.restoresEnded++;
	}

	mayBeGranted(_client: unknown, owner: Uint8Array, handle: Uint8Array): void {
		this.granted.push(`${Buffer.from(owner)} on ${Buffer.from(handle)}`);
	}

	sessionRemoved(session: Session): void {
		this.removedSessions.push(session);
	}

	clientReplaced(ownerId: Uint8Array, from: string, to: string): void {
		this.replaced.push(`${Buffer.from(ownerId)}: ${from} -> ${to}`);
	}

	warn(sentence: string): void {
		this.warnings.push(sentence);
	}

	/** Lets everything run that was put off. */
	runDeferred(): void {
		for (let work = this.deferred.shift(); work !== undefined; work = this.deferred.shift()) work();
	}
}

/** Until the log that is written anew is in the place of the old one. */
export async function writtenAnew(folder: string, told: Told): Promise<void> {
	while (told.deferred.length > 0 || existsSync(join(folder, "log.new"))) {
		told.runDeferred();
		await new Promise((resolve) => setTimeout(resolve, 1));
	}
}

/** The same as a front end passes it on. */
export function hooksOf(told: Told): ClaimHooks {
	return {
		now: told.now,
		defer: (work) => told.defer(work),
		hold: (handle) => told.hold(handle),
		letGo: (handle) => told.letGo(handle),
		endOfRestore: () => told.endOfRestore(),
		mayBeGranted: (client, owner, handle) => told.mayBeGranted(client, owner, handle),
		sessionRemoved: (session) => told.sessionRemoved(session),
		clientReplaced: (ownerId, from, to) => told.clientReplaced(ownerId, from, to),
		warn: (sentence) => told.warn(sentence),
	};
}

export interface NewClaimsOptions {
	/** What is told instead of `told`. */
	readonly hooks?: ClaimHooks;
	readonly limits?: Partial<ClaimLimits>;
	readonly told?: Told;
	readonly listed?: ReadonlyMap<string, boolean>;
	readonly list?: RecoveryList;
	readonly log?: ClaimLog;
	readonly boot?: number;
}

export function newClaims(options: NewClaimsOptions = {}): { readonly claims: Claims; readonly told: Told } {
	const told = options.told ?? new Told();
	const claims = new Claims({
		serverId: Buffer.alloc(16, 7),
		boot: options.boot ?? 1,
		leaseSeconds: LEASE_SECONDS,
		limits: { ...DEFAULT_CLAIM_LIMITS, ...AT_ONCE, ...options.limits },
		hooks: options.hooks ?? told,
		log: options.log ?? NO_LOG,
		list: options.list ?? NO_LIST,
		isPersistent: false,
		listed: options.listed ?? new Map(),
	});
	return { claims, told };
}

/** Takes slot 0 of a session. */
export function takeSlot(claims: Claims, session: Session, sequence: number): Slot {
	return claims.sequence(session, { slot: 0, sequence, highestSlot: 0, keepsReply: true, digestHi: 0, digestLo: sequence });
}

/** A client with one session, as a test plays it: each call is a request of its own in slot 0. */
export class TestClient {
	claims: Claims;
	readonly name: string;
	readonly principal: string;
	id: ClientId = { hi: 0, lo: 0 };
	session!: Session;
	verifier: Buffer;
	sequence = 0;
	createSequence = 0;
	#waiting: Slot | null = null;

	constructor(claims: Claims, name: string, verifier = 1, principal = "root") {
		this.claims = claims;
		this.name = name;
		this.principal = principal;
		this.verifier = Buffer.alloc(8, verifier);
	}

	exchange(isUpdate = false) {
		const owner = { id: Buffer.from(this.name), verifier: this.verifier, principal: this.principal, address: `host of ${this.name}` };
		const exchanged = this.claims.exchangeId(owner, isUpdate);
		this.id = exchanged;
		if (!exchanged.isConfirmed) this.createSequence = exchanged.sequence;
		return exchanged;
	}

	create(sequence = this.createSequence, requests = 64): Session {
		const { session } = this.claims.createSession({
			client: this.id,
			sequence,
			principal: this.principal,
			flags: 1,
			fore: { ...CHANNEL, requests },
			back: { ...CHANNEL, requests: 16 },
			callbackProgram: 0x40000000,
			callbackSecurity: Buffer.from("none"),
		});
		this.createSequence = (sequence + 1) >>> 0;
		this.session = session;
		this.sequence = 0;
		return session;
	}

	connect(): this {
		this.exchange();
		this.create();
		return this;
	}

	/** Takes slot 0 for the next request, and leaves it taken. */
	take(sequence = this.sequence + 1): Slot {
		const slot = takeSlot(this.claims, this.session, sequence);
		this.sequence = sequence;
		return slot;
	}

	/** Runs one operation in a request of its own; if it has to wait, the next call goes on with it. */
	run<T>(act: (change: ClaimChange) => T): T {
		const slot = this.#waiting ?? this.take();
		this.#waiting = null;
		try {
			return act({ slot, operation: 1 });
		} catch (error) {
			if (error instanceof Pending) this.#waiting = slot;
			throw error;
		} finally {
			if (this.#waiting === null) this.claims.finish(slot, Buffer.from("reply"));
		}
	}

	open(handle: string, access = 3, deny = 0, owner = "owner", isReclaim = false): Stateid {
		const request = { access, deny, handle: Buffer.from(handle), owner: Buffer.from(owner), isReclaim };
		return this.run((change) => this.claims.open(change, request));
	}

	reclaimComplete(): void {
		this.run((change) => this.claims.reclaimComplete(change, false));
	}

	/** The same client with its session, at a server that was started again. */
	goOn(claims: Claims): this {
		Object.assign(this, { claims, session: claims.session(this.session.id) });
		return this;
	}

	/** A new id and session: `create` waits for the disk. */
	async come(): Promise<this> {
		this.exchange();
		const sequence = this.createSequence;
		await done(() => this.create(sequence));
		return this;
	}

	close(stateid: Stateid, handle: string): Stateid {
		return this.run((change) => this.claims.close(change, stateid, Buffer.from(handle)));
	}

	lock(open: Stateid, handle: string, type: "read" | "write", range: ByteRange, owner = "locker", waits = false, isReclaim = false) {
		const by = { open, owner: Buffer.from(owner) };
		return this.run((change) => this.claims.lock(change, { ...range, type, handle: Buffer.from(handle), isReclaim, waits, by }));
	}

	lockBy(lock: Stateid, handle: string, type: "read" | "write", range: ByteRange, waits = false) {
		return this.run((change) =>
			this.claims.lock(change, { ...range, type, handle: Buffer.from(handle), isReclaim: false, waits, by: { lock } }),
		);
	}

	unlock(lock: Stateid, handle: string, range: ByteRange): Stateid {
		return this.run((change) => this.claims.unlock(change, lock, Buffer.from(handle), range));
	}
}

/** The call throws ClaimError of that code. */
export function refuses(code: ClaimErrorCode, act: () => unknown): void {
	assert.throws(act, (error) => error instanceof ClaimError && error.code === code, `it is refused as ${code}`);
}

/** Bytes from..to, without the last. */
export function bytes(from: number, to: number): ByteRange {
	return { offsetHi: 0, offsetLo: from, lengthHi: 0, lengthLo: to - from };
}

export const ALL_BYTES: ByteRange = { offsetHi: 0, offsetLo: 0, lengthHi: 0xffffffff, lengthLo: 0xffffffff };

/** Claims that are kept in a folder, as a start makes them: in one boot of the host unless another is named. */
export function startClaims(folder: string, options: Partial<OpenClaimsOptions> = {}): { readonly claims: Claims; readonly told: Told } {
	const told = new Told();
	const limits = { ...AT_ONCE, ...options.limits };
	const claims = openClaims({ folder, hooks: told, bootId: "boot 1", leaseSeconds: LEASE_SECONDS, ...options, limits });
	for (const handle of claims.heldHandles()) told.hold(handle);
	claims.tick();
	return { claims, told };
}

/** A folder that is not there yet, in memory if it can be: much is flushed. */
export function claimFolder(t: TestContext): string {
	return join(memoryFolder(t), "nfs4");
}

export function memoryFolder(t: TestContext, megabytes = 64): string {
	const made = scratch(t);
	return cannotMount("tmpfs") ? made.path : made.mount("tmpfs", "memory", megabytes);
}
