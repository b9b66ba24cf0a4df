// Bounds on what clients can make a server remember for them, and for how long.

/** Bounds of the tables. Every one of them is looked at in O(1). */
export interface ClaimLimits {
	/** Confirmed clients. Beyond it an expired client is removed, the longest silent first; where none is expired, a new client is told "delay". */
	readonly clients: number;
	/** Clients that have not confirmed their id yet. Beyond it the oldest goes. */
	readonly unconfirmedClients: number;
	readonly unconfirmedSeconds: number;
	readonly sessionsPerClient: number;
	/** Granted to a session, as long as there is room for their replies. */
	readonly slots: number;
	/** Of one reply that a slot keeps. */
	readonly keptReplyBytes: number;
	/** Room for kept replies in all. It is reserved when slots are granted: at first fewer are, and at the end one with `scarceReplyBytes`. */
	readonly keptReplyBytesTotal: number;
	readonly scarceReplyBytes: number;
	readonly opensPerClient: number;
	readonly opens: number;
	/** Ranges, after merging. */
	readonly locksPerClient: number;
	readonly locks: number;
	/** Owners of opens and of locks, and client owners (RFC 8881 section 3.3.10.1). */
	readonly ownerBytes: number;
	/** Callback security parameters, as the front end writes them. */
	readonly callbackSecurityBytes: number;
	/** Denied locks that wait to be told. Beyond it a client has to ask again by itself, which it does anyway. */
	readonly waitersPerFile: number;
	readonly waitersPerClient: number;
	readonly waitSeconds: number;
	/** How long an expired client keeps everything that nobody else wants. */
	readonly courtesySeconds: number;
	/** Of dead sessions after a failure of the host. */
	readonly deadSessionSeconds: number;
	/** Beyond the lease, for clients that reclaim after a failure of the host. */
	readonly graceExtraSeconds: number;
	/** So long after it has come, a client opens nothing before it has said that it reclaims nothing (any more): RFC 8881 section 18.51.3. */
	readonly reclaimFirstSeconds: number;
}

export const DEFAULT_CLAIM_LIMITS: ClaimLimits = {
	clients: 1024,
	unconfirmedClients: 256,
	unconfirmedSeconds: 60,
	sessionsPerClient: 16,
	slots: 64,
	keptReplyBytes: 8192,
	keptReplyBytesTotal: 64 * 1024 * 1024,
	scarceReplyBytes: 1024,
	opensPerClient: 65_536,
	opens: 262_144,
	locksPerClient: 65_536,
	locks: 262_144,
	ownerBytes: 1024,
	callbackSecurityBytes: 1024,
	waitersPerFile: 256,
	waitersPerClient: 1024,
	waitSeconds: 60,
	courtesySeconds: 24 * 60 * 60,
	deadSessionSeconds: 15 * 60,
	graceExtraSeconds: 10,
	reclaimFirstSeconds: 100,
};

/** Seconds of a lease: the default, and what may be chosen. */
export const LEASE_SECONDS = { default: 90, min: 5, max: 3600 } as const;
