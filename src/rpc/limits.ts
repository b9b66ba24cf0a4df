// Bounds on what peers can make a server hold, and the sizes that follow from the largest transfer.

/** The most that one READ or WRITE moves. */
export const TRANSFER_BYTES_MAX = 1024 * 1024;

/** A record (RFC 5531 section 11) may hold one transfer, its header and a credential. A longer one closes the connection. */
export const RECORD_BYTES_MAX = TRANSFER_BYTES_MAX + 64 * 1024;

/** A record in more pieces than this closes the connection: empty fragments cost a peer nothing. */
export const RECORD_FRAGMENTS_MAX = 1024;

/** A slab takes the largest reply, and then the next one of the same size that turns out short. */
export const LARGE_SLAB_BYTES = 2 * TRANSFER_BYTES_MAX;
export const SMALL_SLAB_BYTES = 64 * 1024;

/** Passes of one request that each end in "wait": more can only be a fault of ours, and is answered SYSTEM_ERR. */
export const REQUEST_PASSES_MAX = 10_000;

/** Calls of ours to one peer that it has not answered: a further one fails at once. */
export const SERVER_CALLS_MAX = 64;

/** Bounds on what peers can make one server hold. */
export interface RpcLimits {
	/** Beyond it the connection that has been quiet the longest is closed for the new one. */
	readonly connections: number;
	/** Requests of one connection that wait for a disk; then its further bytes are left in the kernel. */
	readonly requestsInFlight: number;
	/** Bytes of records that one connection's waiting requests keep. */
	readonly requestBytesInFlight: number;
	/** The same over all connections: beyond either a connection with a request in flight takes no further one, and one without takes one. */
	readonly requestsInFlightTotal: number;
	readonly requestBytesInFlightTotal: number;
	/**
	 * Memory held over all connections by records that have not come whole, and that do not fit a connection's own buffer of 64 KiB. Beyond
	 * it the connection is closed that has such a record and has sent nothing for the longest.
	 */
	readonly recordBytesTotal: number;
	/** A record that is not whole so long after its first byte closes the connection. What the server itself holds back does not count. */
	readonly recordSeconds: number;
	/** Memory held by one connection's replies that the peer has not read yet. */
	readonly replyBytes: number;
	/** The same over all connections: beyond it the connection whose peer has not read for the longest is closed. */
	readonly replyBytesTotal: number;
	/** A peer that reads nothing of what was sent to it for this long loses its connection. */
	readonly stallSeconds: number;
}

export const DEFAULT_RPC_LIMITS: RpcLimits = {
	connections: 512,
	requestsInFlight: 512,
	requestBytesInFlight: 8 * 1024 * 1024,
	requestsInFlightTotal: 65_536,
	requestBytesInFlightTotal: 256 * 1024 * 1024,
	recordBytesTotal: 256 * 1024 * 1024,
	recordSeconds: 120,
	replyBytes: 8 * 1024 * 1024,
	replyBytesTotal: 256 * 1024 * 1024,
	stallSeconds: 120,
};
